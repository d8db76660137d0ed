// The one socket to a node. Each connection has a client id of its own, for the server unregisters the *new* socket when an
// old one with the same id finally closes. The server sends no heartbeat, so we ping; a missed pong or a break means
// reconnecting with back-off, and what was said meanwhile is lost. The message handler only parses and hands on: a
// client that stops reading blocks the server's messages to everybody.

import { WebSocket } from 'ws';
import type { NodeSpec } from '../../domain/node.ts';
import { guardedLookup, nodeAddress, type System } from '../../system/system.ts';
import { type Hint, parseBinary, parseText } from './frames.ts';
import { authorization } from './server.ts';

const PING_MS = 20_000;
const HANDSHAKE_MS = 5_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 30_000;
const MAX_FRAME_BYTES = 64 * 1024 * 1024;
const GREETING = JSON.stringify({ type: 'feature_flags', data: { supports_preview_metadata: true } });

export interface Socket {
  /** Whose events come here: goes with every submission. */
  readonly clientId: string;
  readonly open: boolean;
  /** Connects if need be. Resolves when the socket is open or the attempt has failed: work goes on without it. */
  ready(): Promise<void>;
  listen(listener: (hint: Hint) => void): Disposable;
  /** For a socket that is open but says nothing: a new connection under a new id. */
  renew(): void;
  close(): void;
}

export function createSocket(spec: NodeSpec, { clock, random, log }: System): Socket {
  const listeners = new Set<(hint: Hint) => void>();
  let clientId = random.uuid();
  let current: WebSocket | null = null;
  let attempt = Promise.withResolvers<void>();
  let timer: Disposable | null = null;
  let pauseMs = FIRST_PAUSE_MS;
  let closed = false;
  /** The prompt whose events come now: previews of the old kind name none. */
  let running: string | null = null;

  const emit = (hint: Hint | null) => {
    if (!hint) return;
    if (hint.type === 'started' || hint.type === 'node') running = hint.promptId;
    if (hint.type === 'ended') running = null;
    const told = hint.type === 'preview' && hint.promptId === null ? { ...hint, promptId: running } : hint;
    for (const listener of listeners) listener(told);
  };
  const arm = (ms: number, fn: () => void) => {
    timer?.[Symbol.dispose]();
    timer = closed ? null : clock.timer(ms, fn);
  };
  const drop = (ws: WebSocket) => {
    attempt.resolve();
    ws.removeAllListeners();
    ws.on('error', () => {});
    ws.terminate();
  };
  const keepAlive = (ws: WebSocket, answered: boolean) => {
    if (!answered) return ws.terminate();
    let pong = false;
    ws.once('pong', () => {
      pong = true;
    });
    ws.ping();
    arm(PING_MS, () => keepAlive(ws, pong));
  };
  const connect = () => {
    timer?.[Symbol.dispose]();
    clientId = random.uuid();
    const ws = new WebSocket(`${spec.url.replace(/^http/, 'ws')}/api/ws?clientId=${clientId}`, {
      headers: { ...authorization(spec) },
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      lookup: guardedLookup(nodeAddress),
    });
    current = ws;
    const opened = Promise.withResolvers<void>();
    attempt = opened;
    ws.on('open', () => {
      opened.resolve();
      pauseMs = FIRST_PAUSE_MS;
      ws.send(GREETING);
      arm(PING_MS, () => keepAlive(ws, true));
    });
    ws.on('message', (data: Buffer, isBinary) => emit(isBinary ? parseBinary(data) : parseText(data.toString('utf8'))));
    ws.on('error', (error) => log.debug({ err: error, node: spec.id }, 'the socket to a node broke'));
    ws.on('close', () => {
      opened.resolve();
      current = null;
      running = null;
      emit({ type: 'deaf' });
      arm(pauseMs, connect);
      pauseMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
    });
  };

  return {
    get clientId() {
      return clientId;
    },
    get open() {
      return current?.readyState === WebSocket.OPEN;
    },
    async ready() {
      if (closed) return;
      if (!current) connect();
      await attempt.promise;
    },
    listen(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    renew() {
      if (!current || closed) return;
      drop(current);
      emit({ type: 'deaf' });
      connect();
    },
    close() {
      closed = true;
      timer?.[Symbol.dispose]();
      if (current) drop(current);
      current = null;
    },
  };
}

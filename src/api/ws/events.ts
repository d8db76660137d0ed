// GET /v1/events: durable events and fleeting progress over WebSocket. The key is checked on the handshake, so a socket
// without one never exists; a heartbeat finds dead peers and keys that have gone.

import { type IncomingMessage, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { HTTP_STATUS, renderError } from '../../contract/errors.ts';
import { CLOSE, EventsQuery, Frame, KEY_PROTOCOL, parseCursor } from '../../contract/socket.ts';
import type { Caller } from '../../domain/caller.ts';
import { failure, GatewayError, toFailure } from '../../domain/failure.ts';
import type { Cursor } from '../../domain/units.ts';
import type { WatchFilter } from '../../engine/gateway.ts';
import { startLoop } from '../../system/system.ts';
import { parsed, readQuery } from '../http/body.ts';
import { type Route, route } from '../http/route.ts';
import { refusal } from '../http/send.ts';
import { baseUrlOf, type Doors, requestIdOf } from '../http/serve.ts';
import { createFrames } from './frames.ts';
import { pump } from './pump.ts';

const PATH = '/v1/events';
const HEARTBEAT_MS = 25_000;
/** Clients have nothing to say here. */
const MAX_PAYLOAD = 4 * 1024;
/** How long peers may take to answer a close. */
const FAREWELL_MS = 1_000;

/** For the document, and for whoever asks without an upgrade. */
export const eventRoutes: readonly Route[] = [
  route({
    method: 'get',
    path: PATH,
    tag: 'Events',
    summary: 'Watch over WebSocket',
    description:
      'Upgrade with the key in `Authorization`, or as subprotocol `darkroom.key.<key>` from a browser. Each message is one frame; keep the last cursor and reconnect with it.',
    scope: 'read',
    query: EventsQuery,
    answers: { 101: Frame, 426: 'Not an upgrade.' },
    run: () =>
      refusal(failure('invalid_request', 'Expected a WebSocket upgrade.'), 426, {
        upgrade: 'websocket',
        connection: 'Upgrade',
      }),
  }),
];

export interface EventSockets {
  /** For the server's `upgrade` event. */
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
  /** Waits for the sockets that the `closing` signal of the doors has closed. */
  close(): Promise<void>;
}

/** What the handshake settled. */
interface Watch {
  readonly filter: WatchFilter;
  /** The text is checked, whether it is known is not. */
  readonly cursor: Cursor | null | 'malformed';
  readonly baseUrl: string;
  /** Asked about again at every heartbeat. */
  readonly key: string;
}

interface Peer {
  readonly key: string;
  alive: boolean;
}

export function createEventSockets(doors: Doors): EventSockets {
  const { gateway, system, callers, metrics } = doors;
  const frames = createFrames(gateway);
  const peers = new Map<WebSocket, Peer>();
  const pumps = new Set<Promise<void>>();
  const server = new WebSocketServer({
    noServer: true,
    perMessageDeflate: false,
    maxPayload: MAX_PAYLOAD,
    handleProtocols: (offered) => [...offered].find((p) => !p.startsWith(KEY_PROTOCOL)) ?? [...offered][0] ?? false,
  });

  const watch = (socket: WebSocket, { filter, cursor, baseUrl, key }: Watch) => {
    const gone = new AbortController();
    const peer: Peer = { key, alive: true };
    peers.set(socket, peer);
    metrics.sockets.set(peers.size);
    socket.on('pong', () => {
      peer.alive = true;
    });
    socket.on('error', () => socket.terminate());
    socket.on('close', () => {
      peers.delete(socket);
      metrics.sockets.set(peers.size);
      gone.abort(new GatewayError('cancelled_by_caller', 'The socket closed.'));
    });
    const signal = AbortSignal.any([gone.signal, doors.closing]);
    const items = cursor === 'malformed' ? unknownCursor() : gateway.watch(filter, cursor, signal);
    const running = pump({ socket, items, frame: (item) => frames.of(item, baseUrl), clock: system.clock, signal });
    pumps.add(running);
    void running.then(() => pumps.delete(running));
  };

  const heartbeat = startLoop({
    name: 'event sockets heartbeat',
    clock: system.clock,
    log: system.log,
    async tick() {
      for (const [socket, peer] of peers) {
        if (!peer.alive) socket.terminate();
        else if ((await callers.ofKey(peer.key)) === null) socket.close(CLOSE.keyGone, 'unauthenticated');
        peer.alive = false;
        if (socket.readyState === socket.OPEN) socket.ping();
      }
      return HEARTBEAT_MS;
    },
  });

  return {
    upgrade(request, socket, head) {
      const onError = () => socket.destroy();
      socket.on('error', onError);
      handshake(request, doors).then(
        (settled) => {
          socket.off('error', onError);
          server.handleUpgrade(request, socket, head, (ws) => watch(ws, settled));
        },
        (error: unknown) => refuseUpgrade(socket, error, requestIdOf(request, system)),
      );
    },
    async close() {
      await Promise.all([...pumps, heartbeat.stop()]);
      const closed = [...peers.keys()].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
      const patience = new AbortController();
      await Promise.race([
        Promise.all(closed),
        system.clock.sleep(FAREWELL_MS, patience.signal).catch(() => undefined),
      ]);
      patience.abort();
      for (const socket of peers.keys()) socket.terminate();
    },
  };
}

async function handshake(request: IncomingMessage, doors: Doors): Promise<Watch> {
  const url = request.url ?? '';
  if (doors.closing.aborted) throw new GatewayError('shutting_down', 'The gateway is shutting down.');
  if (url.split('?')[0] !== PATH) throw new GatewayError('not_found', 'There is no such path.');
  const authorization = request.headers.authorization ?? protocolKey(request);
  const caller = await doors.callers.ofRequest({ ...request.headers, authorization }, 'read');
  await doors.limits.take(caller);
  const query = parsed(EventsQuery, readQuery(url));
  return {
    filter: filterOf(caller, query),
    cursor: query.cursor === undefined ? null : (parseCursor(query.cursor) ?? 'malformed'),
    baseUrl: baseUrlOf(request, doors.publicUrl),
    key: (authorization ?? '').replace(/^Bearer +/i, ''),
  };
}

/** Browsers cannot set headers on a WebSocket; they offer the key as a subprotocol. */
function protocolKey(request: IncomingMessage): string | undefined {
  const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((one) => one.trim());
  const key = offered.find((one) => one.startsWith(KEY_PROTOCOL))?.slice(KEY_PROTOCOL.length);
  return key === undefined ? undefined : `Bearer ${key}`;
}

function filterOf(caller: Caller, query: ReturnType<typeof EventsQuery.parse>): WatchFilter {
  return {
    workspaceId: caller.workspace.id,
    progress: query.progress === '1',
    ...(query.ids && { generationIds: query.ids }),
    ...(query.batch_id !== undefined && { batchId: query.batch_id }),
  };
}

// biome-ignore lint/correctness/useYield: it has nothing to yield, only a refusal in the shape of a stream
async function* unknownCursor(): AsyncGenerator<never> {
  throw new GatewayError('invalid_request', 'The cursor is not one of ours; start without one.');
}

function refuseUpgrade(socket: Duplex, error: unknown, requestId: string): void {
  const failed = toFailure(error);
  const status = HTTP_STATUS[failed.code];
  const body = JSON.stringify(renderError(failed, requestId));
  const retry = failed.retryAfterSeconds === undefined ? [] : [`Retry-After: ${failed.retryAfterSeconds}`];
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
    'Connection: close',
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(body)}`,
    `X-Request-Id: ${requestId}`,
    ...retry,
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}

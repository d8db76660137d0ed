// A ComfyUI that needs no GPU and misbehaves on command. Real HTTP and WebSocket on a loopback port; the queue, the
// executor and the failures are those of facts recorded from real servers. `log` is the evidence tests judge by.

import type { IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import { createFaults, type Faults } from '../faults.ts';
import { listen } from '../listener.ts';
import { type Box, createBox, facts } from './box.ts';
import { createFiles, type Files } from './files.ts';
import { allowed, createRoutes, featuresOf } from './routes.ts';
import { type ComfyUiFault, type ComfyUiLogEntry, type ComfyUiOptions, FAULTS, settle } from './settings.ts';
import { createSockets, type Sockets } from './sockets.ts';

export type { ComfyUiFault, ComfyUiLogEntry, ComfyUiOptions } from './settings.ts';

export interface ComfyUiDouble {
  readonly url: string;
  readonly port: number;
  readonly faults: Faults<ComfyUiFault>;
  /** What the node did, oldest first. Survives restarts. */
  readonly log: readonly ComfyUiLogEntry[];
  /** Files on the box's disk: outputs, inputs, previews. */
  readonly files: Files;
  /** The present life: queue, history, what is loaded. */
  readonly box: Box;
  /** Open WebSockets. */
  readonly sockets: number;
  /** Cuts the WebSockets of one client id, or all of them. */
  dropSockets(clientId?: string): void;
  /** Someone at the box presses cancel. */
  interrupt(): void;
  /** Dies and comes back on the same port with nothing in memory. */
  restartEmpty(): Promise<void>;
  /** Dies and stays away. */
  crash(): Promise<void>;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startComfyUi(options: ComfyUiOptions = {}): Promise<ComfyUiDouble> {
  const settings = settle(options);
  const { clock, profile } = settings;
  const faults = createFaults<ComfyUiFault>(FAULTS);
  const files = createFiles(clock.now);
  const log: ComfyUiLogEntry[] = [];
  const stopped = new AbortController();

  const note = (what: ComfyUiLogEntry['what'], prompt: Parameters<typeof facts>[0], detail?: string) =>
    void log.push({ at: clock.now(), what, ...facts(prompt), ...(detail === undefined ? {} : { detail }) });
  const wire = (): Sockets =>
    createSockets({
      features: profile === 'old' ? null : featuresOf(settings),
      queueRemaining: () => box.remaining,
      running: (clientId) => box.currentNode(clientId),
      silent: () => faults.active('socket_silent') !== null,
    });
  const begin = (): Box =>
    createBox({ settings, files, faults, log: note, sockets: () => sockets, crash: (ms) => void restart(ms) });

  let sockets = wire();
  let box = begin();

  const end = () => {
    box.end();
    sockets.drop(null);
    files.wipeTemp();
  };
  const revive = () => {
    sockets = wire();
    box = begin();
    note('restart', null);
  };
  const restart = async (downMs: number) => {
    end();
    await listener.down();
    if (downMs > 0) await clock.sleep(downMs, stopped.signal).catch(() => undefined);
    if (stopped.signal.aborted) return;
    revive();
    await listener.up();
  };

  const onRequest = createRoutes({
    settings,
    files,
    faults,
    log,
    box: () => box,
    restartEmpty: () => restart(0),
  });
  const onUpgrade = (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    const path = req.url?.split('?')[0];
    if (faults.take('freeze')) return;
    if (faults.take('bad_gateway')) return void socket.end('HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n');
    if (path !== '/ws' && path !== '/api/ws')
      return void socket.end('HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n');
    if (!allowed(req, profile)) return void socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n');
    sockets.upgrade(req, socket, head);
  };
  const listener = await listen({ port: settings.port, onRequest, onUpgrade });
  const crash = async () => {
    end();
    await listener.down();
  };
  const stop = async () => {
    stopped.abort();
    await crash();
  };

  return {
    url: listener.url,
    port: listener.port,
    faults,
    log,
    files,
    get box() {
      return box;
    },
    get sockets() {
      return sockets.count;
    },
    dropSockets: (clientId) => sockets.drop(clientId ?? null),
    interrupt: () => void box.interrupt(null),
    restartEmpty: () => restart(0),
    crash,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

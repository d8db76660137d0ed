// One watcher's stream onto one socket. Progress is left out while the client lags; an event is never left out: the
// pump stops pulling until the client has read, which leaves the lag in the hub's bounded queue, and gives the client up
// when that overflows or nothing moves for a while. Memory per socket is bounded by PAUSE_BYTES and one frame.

import type { WebSocket } from 'ws';
import { CLOSE } from '../../contract/socket.ts';
import { GatewayError, toFailure } from '../../domain/failure.ts';
import type { Watched } from '../../engine/gateway.ts';
import type { Clock } from '../../system/system.ts';
import { errorFrame } from './frames.ts';

/** Unsent bytes beyond which progress is dropped. */
const SPARE_BYTES = 64 * 1024;
/** Unsent bytes beyond which nothing more is pulled. */
const PAUSE_BYTES = 512 * 1024;
/** How long a paused client may read nothing. */
const STALL_MS = 15_000;
const GOING_AWAY = 1001;
const UNEXPECTED = 1011;

export interface Pump {
  readonly socket: WebSocket;
  readonly items: AsyncIterable<Watched>;
  readonly frame: (item: Watched) => Buffer | null;
  readonly clock: Clock;
  /** Aborted when the socket closed, or the door closes. */
  readonly signal: AbortSignal;
}

/** Runs until the socket is closed, and closes it when the stream ends. Never rejects. */
export async function pump({ socket, items, frame, clock, signal }: Pump): Promise<void> {
  try {
    for await (const item of items) {
      if (signal.aborted) break;
      if (item.type === 'progress' && socket.bufferedAmount > SPARE_BYTES) continue;
      const bytes = frame(item);
      if (bytes === null) continue;
      if (socket.bufferedAmount + bytes.length < PAUSE_BYTES) socket.send(bytes, { binary: false });
      else await flushed(socket, bytes, clock, signal);
    }
    socket.close(GOING_AWAY);
  } catch (error) {
    if (signal.aborted) socket.close(GOING_AWAY);
    else refuse(socket, error);
  }
}

/** Sends and resolves when everything up to it left for the network. Throws rate_limited when it does not. */
async function flushed(socket: WebSocket, bytes: Buffer, clock: Clock, signal: AbortSignal): Promise<void> {
  const done = new AbortController();
  const stalled = clock.sleep(STALL_MS, AbortSignal.any([signal, done.signal])).then(() => {
    throw new GatewayError('rate_limited', 'The client reads too slowly; reconnect with the last cursor.');
  });
  const sent = new Promise<void>((resolve) => socket.send(bytes, { binary: false }, () => resolve()));
  try {
    await Promise.race([sent, stalled]);
  } finally {
    stalled.catch(() => undefined);
    done.abort();
  }
}

function refuse(socket: WebSocket, error: unknown): void {
  const failure = toFailure(error);
  socket.send(errorFrame(failure), { binary: false });
  const code = { invalid_request: CLOSE.badCursor, rate_limited: CLOSE.tooSlow }[failure.code as string];
  socket.close(code ?? UNEXPECTED, failure.code);
}

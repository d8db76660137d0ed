// One connection of the event socket as a stream of frames. What the consumer has not taken yet waits in a bounded queue:
// who falls behind loses the connection, not an event, since the next one goes on from the last frame that was taken.

import type { ErrorBody } from '../contract/errors.ts';
import type { Frame } from '../contract/socket.ts';
import { isRecord } from './answers.ts';
import { wireError } from './errors.ts';

const MAX_WAITING = 10_000;
/** Close codes below 3000 are the protocol's; a page may only send this one of them. */
const NORMAL = 1000;

/** How a connection came to its end. */
export interface Ended {
  /** False: the handshake failed, and nobody says why. */
  readonly opened: boolean;
  readonly code: number;
  /** Of the error frame before the close. */
  readonly error: ErrorBody['error'] | undefined;
}

/** `wanted` sees each frame when its turn has come, and says whether it is passed on. */
export async function* connection(
  open: () => WebSocket,
  wanted: (frame: Frame) => boolean,
  signal: AbortSignal | undefined,
): AsyncGenerator<Frame, Ended> {
  const socket = open();
  const waiting: Frame[] = [];
  let wake = () => {};
  let opened = false;
  let code: number | null = null;
  let error: Ended['error'];

  const hangUp = (why: number) => {
    code ??= why;
    wake();
    socket.close(NORMAL);
  };
  const aborted = () => hangUp(NORMAL);
  signal?.addEventListener('abort', aborted, { once: true });
  socket.addEventListener('open', () => {
    opened = true;
  });
  socket.addEventListener('message', ({ data }: { readonly data: unknown }) => {
    if (code !== null) return;
    const frame = frameIn(data);
    if (frame === null || waiting.length >= MAX_WAITING) return hangUp(NORMAL);
    if (frame.type === 'error') error = frame.error;
    else if (frame.type !== 'unknown') waiting.push(frame);
    wake();
  });
  socket.addEventListener('error', () => {});
  socket.addEventListener('close', (event: { readonly code: number }) => {
    code ??= event.code;
    wake();
  });

  try {
    for (;;) {
      for (let frame = waiting.shift(); frame !== undefined && !signal?.aborted; frame = waiting.shift()) {
        if (wanted(frame)) yield frame;
      }
      if (code !== null) return { opened, code, error };
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  } finally {
    signal?.removeEventListener('abort', aborted);
    hangUp(NORMAL);
  }
}

/** Null: it arrived broken, so that nobody knows what was in it. Kinds that a newer gateway may send are `unknown`. */
function frameIn(data: unknown): Frame | { readonly type: 'unknown' } | null {
  const frame = parsed(data);
  if (!isRecord(frame) || typeof frame.type !== 'string') return null;
  const known = {
    ready: typeof frame.cursor === 'string',
    event: typeof frame.cursor === 'string' && (isRecord(frame.generation) || isRecord(frame.batch)),
    progress: typeof frame.id === 'string' && isRecord(frame.progress),
    error: wireError(frame) !== undefined,
  }[frame.type];
  if (known === undefined) return { type: 'unknown' };
  return known ? (frame as unknown as Frame) : null;
}

function parsed(data: unknown): unknown {
  try {
    return JSON.parse(String(data));
  } catch {
    return null;
  }
}

// Watching over reconnects: the last cursor taken is where the next connection goes on, and an event that comes a second
// time is known by its cursor. A browser does not tell why a handshake failed, so the same path is asked over plain HTTP.

import type { CLOSE as CloseCodes, Frame, KEY_PROTOCOL as KeyProtocol } from '../contract/socket.ts';
import type { Caller } from './call.ts';
import { DarkroomError, fromWire } from './errors.ts';
import type { Client, ClientOptions, WatchOptions } from './interface.ts';
import { withQuery } from './paths.ts';
import { retryAfterMs } from './patience.ts';
import { type Sleep, spread } from './sleep.ts';
import { connection, type Ended } from './socket.ts';

const KEY_PROTOCOL: typeof KeyProtocol = 'darkroom.key.';
const CLOSE: typeof CloseCodes = { badCursor: 4400, keyGone: 4401, tooSlow: 4408 };
/** What GET without an upgrade answers when all else is well. */
const UPGRADE_REQUIRED = 426;
/** Handshakes that may fail before there was any connection. Later on it waits for as long as it takes. */
const FIRST_TRIES = 6;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
/** Cursors remembered to know an event that comes twice. */
const REMEMBERED = 1_000;

export function createWatch(caller: Caller, { WebSocket: given }: ClientOptions, sleep: Sleep): Client['watch'] {
  return (options = {}) => watch(caller, (path) => dial(caller, given ?? globalThis.WebSocket, path), sleep, options);
}

async function* watch(
  caller: Caller,
  open: (path: string) => WebSocket,
  sleep: Sleep,
  { ids, batchId, cursor, progress = true, signal }: WatchOptions,
): AsyncGenerator<Frame, void> {
  const place = createPlace(cursor);
  let everOpen = false;
  for (let fails = 0; !signal?.aborted; fails++) {
    const path = withQuery('/v1/events', { ids, batch_id: batchId, cursor: place.cursor, progress: progress ? 1 : 0 });
    const wanted = (frame: Frame) => {
      fails = 0;
      return place.take(frame);
    };
    const ended = yield* connection(() => open(path), wanted, signal);
    if (signal?.aborted) return;
    throwIfFinal(ended);
    if (ended.code === CLOSE.tooSlow) continue;
    everOpen ||= ended.opened;
    try {
      const trouble = ended.opened ? undefined : await whyNot(caller, path, signal);
      if (trouble && !everOpen && fails + 1 >= FIRST_TRIES) throw trouble;
      const backoff = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** fails) * spread();
      await sleep(Math.max(backoff, retryAfterMs(trouble)), signal);
    } catch (error) {
      if (signal?.aborted) return;
      throw error;
    }
  }
}

/** Where the watcher is in the log, and what it has seen on the way. */
function createPlace(start: string | undefined) {
  const seen = new Set<string>();
  let cursor = start;
  return {
    get cursor() {
      return cursor;
    },
    /** False: this event was taken before. */
    take(frame: Frame): boolean {
      if (!('cursor' in frame)) return true;
      if (frame.type === 'event') {
        if (seen.has(frame.cursor)) return false;
        seen.add(frame.cursor);
        const oldest = seen.size > REMEMBERED ? seen.values().next().value : undefined;
        if (oldest !== undefined) seen.delete(oldest);
      }
      cursor = frame.cursor;
      return true;
    },
  };
}

function dial({ base, key }: Caller, Socket: typeof globalThis.WebSocket | undefined, path: string): WebSocket {
  if (Socket === undefined) {
    throw new DarkroomError({
      code: 'invalid_request',
      message: 'There is no WebSocket here.',
      advice: 'Use Node 22 or newer, or hand one to createClient as WebSocket.',
      retryable: false,
    });
  }
  try {
    return new Socket(`${base.replace(/^http/, 'ws')}${path}`, [`${KEY_PROTOCOL}${key}`]);
  } catch (cause) {
    throw new DarkroomError({
      code: 'invalid_request',
      message: 'No socket can be opened with this address and key.',
      advice: 'Check both; a page served over https needs a gateway behind https.',
      retryable: false,
      cause,
    });
  }
}

/** Throws where connecting again would end the same way. */
function throwIfFinal({ code, error }: Ended): void {
  if (code !== CLOSE.badCursor && code !== CLOSE.keyGone) return;
  if (error !== undefined) throw fromWire(error);
  throw new DarkroomError(
    code === CLOSE.keyGone
      ? {
          code: 'unauthenticated',
          message: 'The key is not valid any more.',
          advice: 'Watch again with a valid key.',
          retryable: false,
        }
      : {
          code: 'invalid_request',
          message: 'The gateway does not know the cursor.',
          advice: 'Watch without one, and get what you follow to see where it stands.',
          retryable: false,
        },
  );
}

/** Answers with what may pass; throws what will not. */
async function whyNot(caller: Caller, path: string, signal: AbortSignal | undefined): Promise<DarkroomError> {
  try {
    await caller.ask('GET', path, undefined, signal ? { signal } : {});
  } catch (error) {
    const passes = error instanceof DarkroomError && (error.retryable || error.status === UPGRADE_REQUIRED);
    if (!passes) throw error;
    if (error.status !== UPGRADE_REQUIRED) return error;
  }
  return new DarkroomError({
    code: 'unreachable',
    message: 'The gateway answers, but WebSockets do not get through to it.',
    advice: 'Let what stands before the gateway pass WebSocket upgrades, or poll instead.',
    retryable: true,
  });
}

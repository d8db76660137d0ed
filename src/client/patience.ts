// What is worth another try, and when. A call that may be repeated without harm (a read, or a submit under its key) is
// repeated after a backoff, or after as long as the gateway asked for.

import { DarkroomError } from './errors.ts';
import { type Sleep, spread } from './sleep.ts';

const FIRST_MS = 1_000;
const CAP_MS = 8_000;
/** However long the gateway asks us to stay away. */
const LONGEST_RETRY_AFTER_MS = 60_000;

/** No connection, too many requests, a restart, a lost answer. Another's error counts by its code or status. */
export function isTransient(error: unknown): boolean {
  if (typeof error !== 'object' || error === null) return false;
  const { retryable, code, status } = error as Partial<DarkroomError>;
  return retryable ?? (code === 'unreachable' || status === 429 || status === 503);
}

/** What the gateway asked for with Retry-After; 0 when nothing. */
export function retryAfterMs(error: unknown): number {
  const seconds = (error as Partial<DarkroomError> | null | undefined)?.retryAfterSeconds ?? 0;
  return Math.min(seconds * 1000, LONGEST_RETRY_AFTER_MS);
}

export interface Patience {
  readonly tries: number;
  readonly sleep: Sleep;
  readonly signal: AbortSignal | undefined;
}

/** Nobody adds a node within seconds, so that asking again only puts off the bad news. */
const worthWaiting = (error: unknown): boolean =>
  isTransient(error) && !(error instanceof DarkroomError && error.code === 'no_capable_node');

export async function patiently<T>(ask: () => Promise<T>, { tries, sleep, signal }: Patience): Promise<T> {
  for (let n = 1; ; n++) {
    try {
      return await ask();
    } catch (error) {
      if (n >= tries || !worthWaiting(error)) throw error;
      const backoff = Math.min(CAP_MS, FIRST_MS * 2 ** (n - 1)) * spread();
      await sleep(Math.max(backoff, retryAfterMs(error)), signal);
    }
  }
}

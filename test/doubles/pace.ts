// How a double spends time: on the clock it was given, and never less than one turn of the event loop, so that requests
// get in between two steps even at 0 ms.

import type { Clock } from '../../src/system/system.ts';

export type PaceClock = Pick<Clock, 'now' | 'sleep'>;
export type Pause = (ms: number, signal: AbortSignal) => Promise<void>;

export const pauseOn =
  (clock: PaceClock): Pause =>
  async (ms, signal) => {
    signal.throwIfAborted();
    if (ms > 0) await clock.sleep(ms, signal);
    else await new Promise<void>((resolve) => setImmediate(resolve));
    signal.throwIfAborted();
  };

/** Resolves when the signal aborts. For work that never comes to an end by itself. */
export const aborted = (signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });

// A sleep that records how long it was asked to wait and waits no longer than a turn of the event loop.

import { setImmediate as turn } from 'node:timers/promises';

export function recordedSleep(): {
  /** Milliseconds, in order. */
  readonly waits: number[];
  readonly sleep: (ms: number, signal?: AbortSignal) => Promise<void>;
} {
  const waits: number[] = [];
  return {
    waits,
    async sleep(ms, signal) {
      waits.push(ms);
      await turn();
      if (signal?.aborted) throw signal.reason;
    },
  };
}

// The door that all submits of one account go through. What one of them is told ("too many", or nobody there) holds for the
// others too: it is closed for as long, nobody knocks meanwhile, and they do not all come back at one instant. While one
// waits here nothing of it was asked.

import type { Millis } from '../../domain/units.ts';
import type { System } from '../../system/system.ts';
import type { Refusal } from '../backend.ts';

/** Longest that is waited for here; what is asked to stay away for longer is better served elsewhere. */
export const LONGEST_WAIT_MS: Millis = 30_000;
/** Closed no longer than that, whatever was asked: a provider may say nonsense, and by a clock of ours that is wrong a date is far off. */
const LONGEST_CLOSED_MS: Millis = 600_000;
/** Times that one job waits: a door that closes again and again is as good as shut. */
const WAITS = 5;

export interface Gate {
  /** From now on for so long, and for up to `spread` more, each its own share of it. `why`: for those who cannot wait. */
  close(ms: Millis, spread: Millis, why: (seconds: number) => Refusal): void;
  /** Waits until it is open; how often the job has waited by then. Throws `why` where that takes too long. */
  pass(waited: number, signal: AbortSignal): Promise<number>;
}

export function createGate({ clock, random }: Pick<System, 'clock' | 'random'>): Gate {
  let closed: { readonly until: Millis; readonly spread: Millis; readonly why: (seconds: number) => Refusal } | null =
    null;
  return {
    close(ms, spread, why) {
      const until = clock.monotonic() + Math.min(ms, LONGEST_CLOSED_MS);
      if (closed === null || until > closed.until) closed = { until, spread, why };
    },
    async pass(waited, signal) {
      for (let waits = waited; ; waits++) {
        const left = closed === null ? 0 : closed.until - clock.monotonic();
        if (closed === null || left <= 0) return waits;
        if (waits >= WAITS || left > LONGEST_WAIT_MS) throw closed.why(Math.ceil(left / 1000));
        await clock.sleep(left + closed.spread * random.fraction(), signal);
      }
    },
  };
}

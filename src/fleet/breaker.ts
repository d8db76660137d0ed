// Sets a node aside that fails one attempt after another although it answers probes: a fast-failing box would
// otherwise draw all the work. Afterwards one attempt at a time is let through until one succeeds.

import type { Clock } from '../system/system.ts';

type State =
  | { readonly state: 'closed'; readonly failures: number }
  | { readonly state: 'open'; readonly trips: number; readonly why: string; readonly timer: Disposable }
  | { readonly state: 'half_open'; readonly trips: number };

export interface Breaker {
  readonly state: State['state'];
  /** Why the node is set aside; null while it is not. */
  readonly why: string | null;
  succeeded(): void;
  failed(why: string): void;
  [Symbol.dispose](): void;
}

const FAILURES_IN_A_ROW = 3;
const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 600_000;

export function createBreaker(clock: Clock, onChange: () => void): Breaker {
  let now: State = { state: 'closed', failures: 0 };
  const become = (next: State) => {
    if (now.state === 'open') now.timer[Symbol.dispose]();
    now = next;
    onChange();
  };
  const trip = (trips: number, why: string) => {
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** trips);
    const timer = clock.timer(pause, () => become({ state: 'half_open', trips: trips + 1 }));
    become({ state: 'open', trips, why, timer });
  };
  return {
    get state() {
      return now.state;
    },
    get why() {
      return now.state === 'open' ? now.why : null;
    },
    succeeded: () => become({ state: 'closed', failures: 0 }),
    failed(why) {
      if (now.state === 'open') return;
      if (now.state === 'half_open') return trip(now.trips, `set aside after another failure: ${why}`);
      const failures = now.failures + 1;
      if (failures < FAILURES_IN_A_ROW) return become({ state: 'closed', failures });
      trip(0, `set aside after ${failures} failures in a row: ${why}`);
    },
    [Symbol.dispose]() {
      if (now.state === 'open') now.timer[Symbol.dispose]();
    },
  };
}

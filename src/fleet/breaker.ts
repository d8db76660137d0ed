// Sets a node aside that fails one attempt after another although it answers probes: a fast-failing box would
// otherwise draw all the work. Afterwards one attempt at a time is let through until one succeeds.

import type { Millis } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';

type State =
  | { readonly state: 'closed'; readonly failures: number }
  | { readonly state: 'open'; readonly trips: number; readonly why: string; readonly timer: Disposable }
  | { readonly state: 'half_open'; readonly trips: number; readonly why: string; readonly since: Millis };

export interface Breaker {
  readonly state: State['state'];
  /** Why the node is set aside; null while it is not. */
  readonly why: string | null;
  /** What opened it last; null once it is closed. */
  readonly opened: string | null;
  /** `begunAt`, monotonic: what began before it was set aside says nothing about what comes now. */
  succeeded(begunAt: Millis): void;
  /** Somebody says that it is well. */
  close(): void;
  failed(why: string): void;
  /** Sets it aside at once, and tries again every minute: only somebody from outside can mend it. */
  open(why: string): void;
  [Symbol.dispose](): void;
}

const FAILURES_IN_A_ROW = 3;
const FIRST_PAUSE_MS = 30_000;
const LONGEST_PAUSE_MS = 600_000;
const TRIAL_MS = 60_000;

export function createBreaker(clock: Clock, onChange: () => void): Breaker {
  let now: State = { state: 'closed', failures: 0 };
  const become = (next: State) => {
    if (now.state === 'open') now.timer[Symbol.dispose]();
    now = next;
    onChange();
  };
  const trip = (trips: number, why: string, pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** trips)) => {
    const since = clock.monotonic();
    const timer = clock.timer(pause, () => become({ state: 'half_open', trips: trips + 1, why, since }));
    become({ state: 'open', trips, why, timer });
  };
  return {
    get state() {
      return now.state;
    },
    get why() {
      return now.state === 'open' ? now.why : null;
    },
    get opened() {
      return now.state === 'closed' ? null : now.why;
    },
    succeeded(begunAt) {
      if (now.state === 'open' || (now.state === 'half_open' && begunAt < now.since)) return;
      become({ state: 'closed', failures: 0 });
    },
    close: () => become({ state: 'closed', failures: 0 }),
    failed(why) {
      if (now.state === 'open') return;
      if (now.state === 'half_open') return trip(now.trips, `set aside after another failure: ${why}`);
      const failures = now.failures + 1;
      if (failures < FAILURES_IN_A_ROW) return become({ state: 'closed', failures });
      trip(0, `set aside after ${failures} failures in a row: ${why}`);
    },
    open: (why) => trip(0, why, TRIAL_MS),
    [Symbol.dispose]() {
      if (now.state === 'open') now.timer[Symbol.dispose]();
    },
  };
}

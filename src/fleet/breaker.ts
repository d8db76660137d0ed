// Sets a node aside that fails one attempt after another although it answers probes: a fast-failing box would
// otherwise draw all the work. Afterwards one attempt at a time is let through until one succeeds.

import type { Failure, FailureCode } from '../domain/failure.ts';
import type { Millis } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';

interface Why {
  readonly code: FailureCode;
  readonly text: string;
}

type State =
  | { readonly state: 'closed'; readonly failures: number }
  | { readonly state: 'open'; readonly trips: number; readonly why: Why; readonly timer: Disposable }
  | { readonly state: 'half_open'; readonly trips: number; readonly why: Why; readonly since: Millis };

export interface Breaker {
  readonly state: State['state'];
  /** Why the node is set aside; null while it is not. */
  readonly why: string | null;
  /** What opened it last; null once it is closed. */
  readonly opened: string | null;
  /** The failure that did; null once it is closed. */
  readonly openedBy: FailureCode | null;
  /** `begunAt`, monotonic: what began before it was set aside says nothing about what comes now. */
  succeeded(begunAt: Millis): void;
  /** Somebody says that it is well. */
  close(): void;
  failed(why: Failure): void;
  /** Sets it aside at once, and tries again every minute: only somebody from outside can mend it. */
  open(why: Failure): void;
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
  const trip = (trips: number, why: Why, pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** trips)) => {
    const since = clock.monotonic();
    const timer = clock.timer(pause, () => become({ state: 'half_open', trips: trips + 1, why, since }));
    become({ state: 'open', trips, why, timer });
  };
  return {
    get state() {
      return now.state;
    },
    get why() {
      return now.state === 'open' ? now.why.text : null;
    },
    get opened() {
      return now.state === 'closed' ? null : now.why.text;
    },
    get openedBy() {
      return now.state === 'closed' ? null : now.why.code;
    },
    succeeded(begunAt) {
      if (now.state === 'open' || (now.state === 'half_open' && begunAt < now.since)) return;
      become({ state: 'closed', failures: 0 });
    },
    close: () => become({ state: 'closed', failures: 0 }),
    failed({ code, message }) {
      if (now.state === 'open') return;
      if (now.state === 'half_open')
        return trip(now.trips, { code, text: `set aside after another failure: ${message}` });
      const failures = now.failures + 1;
      if (failures < FAILURES_IN_A_ROW) return become({ state: 'closed', failures });
      trip(0, { code, text: `set aside after ${failures} failures in a row: ${message}` });
    },
    open: ({ code, message }) => trip(0, { code, text: message }, TRIAL_MS),
    [Symbol.dispose]() {
      if (now.state === 'open') now.timer[Symbol.dispose]();
    },
  };
}

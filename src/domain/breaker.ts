// The breaker of a batch, pure: outcomes in, what it does now out. Over the last window, when enough have finished and
// too many of them failed, it pauses the batch; tripping again before a healthy window halts it.

import type { Millis } from './units.ts';

export interface BreakerRules {
  readonly windowMs: Millis;
  /** Fewer outcomes in the window prove nothing. */
  readonly minFinished: number;
  /** A share of failures above this trips it, 0…1. */
  readonly threshold: number;
  readonly cooldownMs: Millis;
  /** The consecutive trip that halts. */
  readonly trips: number;
}

export const DEFAULT_BREAKER: BreakerRules = {
  windowMs: 60_000,
  minFinished: 20,
  threshold: 0.1,
  cooldownMs: 60_000,
  trips: 2,
};

export interface Breaker {
  readonly state: 'closed' | 'paused' | 'halted';
  /** Consecutive trips so far. */
  readonly trips: number;
  /** While paused. */
  readonly resumesAt: Millis | null;
  /** Outcomes before it do not count: a trip empties the window, and so does the end of a pause. */
  readonly since: Millis;
}

export const CLOSED: Breaker = { state: 'closed', trips: 0, resumesAt: null, since: 0 };

/** By a person: closed at once. Its trips stay, since nothing healthy was seen yet. */
export const reset = (breaker: Breaker, now: Millis): Breaker => ({
  ...breaker,
  state: 'closed',
  resumesAt: null,
  since: now,
});

/** Milliseconds until its pause is over; null: it is not paused. One longer than any pause is of a clock set back since. */
export function resumesIn({ state, resumesAt }: Breaker, { cooldownMs }: BreakerRules, now: Millis): Millis | null {
  if (state !== 'paused') return null;
  const left = (resumesAt ?? now) - now;
  return left <= 0 || left > cooldownMs ? 0 : left;
}

/** One finished item: `failed` and `timeout` are bad, `cancelled` ones are no outcome. */
export interface Outcome {
  readonly at: Millis;
  readonly bad: boolean;
}

/**
 * The breaker after looking at the outcomes now; the same object where nothing changes. A clock that was set back since
 * neither prolongs a pause nor blinds it.
 */
export function judge(breaker: Breaker, rules: BreakerRules, outcomes: readonly Outcome[], now: Millis): Breaker {
  if (breaker.state === 'halted') return breaker;
  if (breaker.state === 'paused') {
    return resumesIn(breaker, rules, now) === 0 ? reset(breaker, now) : breaker;
  }
  const since = breaker.since > now ? 0 : breaker.since;
  const from = Math.max(since, now - rules.windowMs);
  const recent = outcomes.filter((o) => o.at > from && o.at <= now);
  if (recent.length < rules.minFinished) return breaker;
  const bad = recent.filter((o) => o.bad).length / recent.length;
  if (bad <= rules.threshold) return breaker.trips === 0 ? breaker : { ...breaker, trips: 0 };
  const trips = breaker.trips + 1;
  return trips >= rules.trips
    ? { state: 'halted', trips, resumesAt: null, since: now }
    : { state: 'paused', trips, resumesAt: now + rules.cooldownMs, since: now };
}

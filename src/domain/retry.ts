// What follows from a failed attempt: pure. Ours (a node died, ran out of memory, was rebooted) is retried elsewhere
// under the same generation; where nothing ran, the next place is asked until all have been; the caller's and the model's
// own is final; a refusal is softened once where the caller said how; what nobody can explain is tried once more, and is
// then for a person to look at.

import type { GenerationEvent } from './event.ts';
import { FAILURES, type Failure, type FailureCode, failure } from './failure.ts';
import type { Generation } from './generation.ts';
import type { Millis } from './units.ts';

export const MAX_ATTEMPTS = 3;
const FIRST_BACKOFF_MS = 2_000;
/** How long a refused job waits for a node that is down: asking the one that refused again is of little use. */
const REFUSED_WAIT_MS = 30_000;

export interface Circumstances {
  readonly now: Millis;
  /** Where the attempt ran (`placeOf`). */
  readonly place: string;
  /** Could another place that has not failed this work run it: now, once it is back, or is there none? */
  readonly elsewhere: 'now' | 'later' | 'no';
  /** The node would not take the job, or could not be reached: nothing ran. */
  readonly refused: boolean;
  /** The account was known to be in trouble before: whoever found that out has been told. */
  readonly known: boolean;
  /** The operator lets a refused prompt be offered to the next provider. */
  readonly refusedElsewhere: boolean;
  /** 0…1, for jitter. */
  readonly chance: number;
}

const CANCELS = new Set<FailureCode>([
  'cancelled_by_caller',
  'cancelled_by_admin',
  'batch_halted',
  'insufficient_credits',
  'budget_exceeded',
]);
const TIMEOUTS = new Set<FailureCode>(['run_timeout', 'start_timeout']);
const REFUSALS = new Set<FailureCode>(['safety_filter', 'policy_block']);

/** The event with which a running generation goes on after its attempt failed. */
export function settle(
  g: Generation,
  why: Failure,
  { now, place, elsewhere, refused, known, refusedElsewhere, chance }: Circumstances,
): GenerationEvent {
  if (g.state.status !== 'running') throw new Error(`settle needs a running generation, not ${g.state.status}`);
  const { attempt } = g.state;
  const requeued = (notBefore: Millis, more: { avoid?: string; giveBack?: boolean; soften?: boolean } = {}) =>
    ({ type: 'requeued', at: now, notBefore, failure: why, avoid: null, giveBack: false, ...more }) as const;

  if (why.code === 'shutting_down') return requeued(0, { giveBack: true });
  if (CANCELS.has(why.code)) return { type: 'cancelled', at: now, failure: why };
  if (TIMEOUTS.has(why.code)) return { type: 'timed_out', at: now, failure: why };
  const failed: GenerationEvent = { type: 'failed', at: now, failure: why };
  if (REFUSALS.has(why.code)) {
    if (g.softenedPrompt !== null && !g.softened) return requeued(0, { soften: true });
    const shops = refusedElsewhere && elsewhere === 'now' && attempt < MAX_ATTEMPTS;
    return shops ? requeued(0, { avoid: place }) : failed;
  }
  if (refused && why.code !== 'node_lost') {
    if (elsewhere === 'no') return known ? requeued(0, { giveBack: true }) : failed;
    // nothing ran, so it counts for nothing, unless it was refused here before
    const giveBack = !g.avoid.includes(place);
    if (!giveBack && attempt >= MAX_ATTEMPTS) return failed;
    return requeued(elsewhere === 'now' ? 0 : now + REFUSED_WAIT_MS, { avoid: place, giveBack });
  }
  const again = FAILURES[why.code].retry === 'elsewhere' || unexplainedAtFirst(g, why);
  if (!again || why.possiblyBilled || attempt >= MAX_ATTEMPTS) return failed;
  return requeued(elsewhere === 'now' ? 0 : now + backoff(attempt, chance), { avoid: place });
}

/** An opaque error, of a batch's item or not: a passing fault is gone the second time, a bug of ours is not. */
const unexplainedAtFirst = ({ attempts }: Generation, why: Failure): boolean =>
  why.code === 'internal' && attempts.every((a) => a.outcome !== why.code);

/** 2 s, 6 s … with jitter 0.85–1.15. */
export function backoff(attempt: number, chance: number): Millis {
  return Math.round(FIRST_BACKOFF_MS * 3 ** (attempt - 1) * (0.85 + 0.3 * chance));
}

/** A running generation that a hosted provider was asked for, when its account can no longer be asked what became of it. */
export function abandoned(now: Millis): GenerationEvent {
  const message = 'The account that ran this is gone, and what became of the request is not known.';
  return {
    type: 'failed',
    at: now,
    failure: failure('node_lost', message, { retryable: false, possiblyBilled: true }),
  };
}

/** A running generation whose gateway died, and whose work cannot be taken up again: back in the queue, same attempt. */
export function orphaned(now: Millis): GenerationEvent {
  return {
    type: 'requeued',
    at: now,
    notBefore: 0,
    failure: failure('shutting_down', 'The gateway restarted while this was running.'),
    avoid: null,
    giveBack: true,
  };
}

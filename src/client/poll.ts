// The reference cadence: the first wait is the estimate (two seconds at least), then ×1.5 up to eight seconds, thirty
// times. A gateway that is away for a moment costs an attempt, not the generation.

import type { GenerationBody } from '../contract/generations.ts';
import { isFinal } from './answers.ts';
import { DarkroomError } from './errors.ts';
import { isTransient, retryAfterMs } from './patience.ts';
import { type Sleep, sleep as sleepByTimer, spread } from './sleep.ts';

const ATTEMPTS = 30;
const LEAST_SECONDS = 2;
const CAP_SECONDS = 8;
const GROWTH = 1.5;

export interface PollOptions {
  /** Spreads the waits by 0.85–1.15, for when many generations are polled; or the factor to use. Default: no. */
  readonly jitter?: boolean | (() => number);
  readonly signal?: AbortSignal;
  /** Resolves after `ms`, rejects with the signal's reason when it aborts. */
  readonly sleep?: Sleep;
  /** Each answer. */
  readonly onUpdate?: (generation: GenerationBody) => void;
}

/**
 * Polls until the generation is final, whichever way it ended, and answers with it. Given a generation, its
 * `estimated_seconds` is the first wait; given an id alone, two seconds are. Throws DarkroomError `polling_exhausted`
 * (retryable) after thirty attempts, whatever `getGeneration` throws unless that is `retryable`, and the signal's reason.
 */
export async function pollGeneration(
  idOrGeneration: string | GenerationBody,
  getGeneration: (id: string, options: { readonly signal?: AbortSignal }) => Promise<GenerationBody>,
  { jitter = false, signal, sleep = sleepByTimer, onUpdate }: PollOptions = {},
): Promise<GenerationBody> {
  let last = typeof idOrGeneration === 'string' ? undefined : idOrGeneration;
  if (last !== undefined && isFinal(last)) return last;
  const id = typeof idOrGeneration === 'string' ? idOrGeneration : idOrGeneration.id;
  const factor = typeof jitter === 'function' ? jitter : jitter ? spread : () => 1;
  let seconds = Math.max(LEAST_SECONDS, estimateOf(last));
  let trouble: unknown;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    await sleep(Math.max(seconds * 1000 * factor(), retryAfterMs(trouble)), signal);
    try {
      last = await getGeneration(id, signal ? { signal } : {});
      trouble = undefined;
      onUpdate?.(last);
      if (isFinal(last)) return last;
    } catch (error) {
      if (!isTransient(error)) throw error;
      trouble = error;
    }
    seconds = Math.min(CAP_SECONDS, seconds * GROWTH);
  }
  throw exhausted(id, last, trouble);
}

function estimateOf(generation: GenerationBody | undefined): number {
  const seconds = generation?.estimated_seconds;
  return typeof seconds === 'number' && Number.isFinite(seconds) ? seconds : 0;
}

const exhausted = (id: string, generation: GenerationBody | undefined, cause: unknown): DarkroomError =>
  new DarkroomError({
    code: 'polling_exhausted',
    message: `${id} is not final after ${ATTEMPTS} polls.`,
    advice: 'It goes on at the gateway: poll the same id again later, do not ask for another.',
    retryable: true,
    ...(generation === undefined ? {} : { generation }),
    ...(cause === undefined ? {} : { cause }),
  });

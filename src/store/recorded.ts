// What the two writes of the store answer with.

import type { StoredEvent } from '../domain/event.ts';
import type { Failure } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';

/** A write that happened: the generation after it and its place in the log. */
export interface Recorded {
  readonly generation: Generation;
  readonly stored: StoredEvent;
}

/**
 * What became of one submit.
 * replayed: the idempotency key's job, as it is now. refused: nothing was written (insufficient_credits, budget_exceeded,
 * queue_full, idempotency_conflict; not_found for a workspace that is gone).
 */
export type Inserted =
  | ({ readonly outcome: 'inserted' } & Recorded)
  | { readonly outcome: 'replayed'; readonly generation: Generation }
  | { readonly outcome: 'refused'; readonly failure: Failure };

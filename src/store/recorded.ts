// What the writes of the store answer with.

import type { Batch, StoredBatchEvent, Tally } from '../domain/batch.ts';
import type { StoredEvent } from '../domain/event.ts';
import type { Failure } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';

/** A generation that moved: as it was, as it is, and the event's place in the log. */
export interface Moved {
  readonly type: 'generation';
  /** Null: it was inserted. */
  readonly before: Generation | null;
  readonly generation: Generation;
  readonly stored: StoredEvent;
  /** Webhook deliveries that follow from it. */
  readonly deliveries: number;
}

/** A batch that moved. */
export interface BatchMoved {
  readonly type: 'batch';
  readonly batch: Batch;
  readonly tally: Tally;
  readonly stored: StoredBatchEvent;
  readonly deliveries: number;
}

export type Recorded = Moved | BatchMoved;

/**
 * What became of one submit.
 * replayed: the idempotency key's job, as it is now. refused: nothing was written (insufficient_credits, budget_exceeded,
 * queue_full, idempotency_conflict; not_found for a workspace that is gone).
 */
export type Inserted =
  | ({ readonly outcome: 'inserted' } & Moved)
  | { readonly outcome: 'replayed'; readonly generation: Generation }
  | { readonly outcome: 'refused'; readonly failure: Failure };

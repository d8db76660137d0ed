// Batches and their items. The batch row holds what it is; how it stands is counted over its items, which are ordinary
// generations, so the two can never disagree. Making a batch, handing items over and every move of the batch itself each
// happen in one transaction of the writer.

import type { Batch, BatchEvent, BatchId, Item, Tally } from '../domain/batch.ts';
import type { Failure } from '../domain/failure.ts';
import type { Generation, Status } from '../domain/generation.ts';
import type { GenerationId, Millicredits, Millis, WorkspaceId } from '../domain/units.ts';
import type { Page } from './pages.ts';

/** An item about to be stored: held, with its `item` set. */
export interface NewItem {
  readonly draft: Generation;
  /** It cannot run (unknown model …): stored, and failed at once. */
  readonly failure: Failure | null;
}

/** An idempotency key on the making of a batch, and the hash of what was asked with it. */
export interface BatchClaim {
  readonly key: string;
  readonly requestHash: string;
}

export type BatchMade =
  | { readonly outcome: 'created' | 'replayed'; readonly batch: Batch }
  | { readonly outcome: 'refused'; readonly failure: Failure };

export type Admitted =
  | { readonly outcome: 'admitted'; readonly generation: Generation }
  /** It moved meanwhile (cancelled). */
  | { readonly outcome: 'moved' }
  /** Nothing was written: `insufficient_credits`, `budget_exceeded` (the batch's cap or the key's), `queue_full`. */
  | { readonly outcome: 'refused'; readonly failure: Failure };

export interface Batches {
  /**
   * Stores a batch with its items; all or nothing. An item whose idempotency key belongs to a generation that is queued,
   * running or succeeded with the same request is attached: that generation stands for it and costs this batch nothing.
   * One whose key belongs to another request fails (`idempotency_conflict`). `batch.total` and `batch.projected` are
   * counted here. Does not hold up the event loop for long, whatever the number of items.
   */
  create(batch: Batch, items: readonly NewItem[], claim: BatchClaim | null): Promise<BatchMade>;
  /** Appends items; the draft's `item` numbers are given here, on from `total`. Items whose key this batch has already are skipped. Null: someone moved first. */
  extend(current: Batch, items: readonly NewItem[], at: Millis): Promise<Batch | null>;
  /** New generations in the place of ended ones, by their `item`; the old ones stay as history and count no longer. The batch becomes `running`. Null: someone moved first. */
  retry(current: Batch, items: readonly NewItem[], at: Millis): Promise<Batch | null>;
  get(id: BatchId): Promise<Batch | null>;
  /** Newest first. */
  list(workspaceId: WorkspaceId, limit: number, cursor?: string): Promise<Page<Batch>>;
  /** All that have not come to their end (`finishedAt` null), oldest first. */
  open(): Promise<readonly Batch[]>;
  /** Compares `current.seq`; null when someone moved first. `tally` goes into the log with the event. */
  change(current: Batch, event: BatchEvent, tally: Tally): Promise<Batch | null>;
  tally(id: BatchId): Promise<Tally>;
  /** Items in order of their index. `statuses`: only those; held ones are `queued`. */
  items(
    id: BatchId,
    filter: { readonly statuses?: readonly Status[] },
    limit: number,
    cursor?: string,
  ): Promise<Page<Item<Generation>>>;
  /** The first held items behind `after`, in order of their index. */
  held(id: BatchId, limit: number, after?: number): Promise<readonly Generation[]>;
  /** Ids of its own items in this state (held or not), in order of their index: for cancelling many. */
  idsIn(id: BatchId, status: Status, limit: number): Promise<readonly GenerationId[]>;
  /** Hands held items over, in order: each reserves its price. `room`: what the batch may still set aside; null: no cap. Refusals do not stop those behind. */
  admit(held: readonly Generation[], room: Millicredits | null, at: Millis): Promise<readonly Admitted[]>;
  /** How long each succeeded item was on its node, in any order. */
  nodeTimes(id: BatchId): Promise<readonly Millis[]>;
  /** Who holds these idempotency keys now, by key; keys that are free are missing. For projections: the writes decide again. */
  claimed(
    workspaceId: WorkspaceId,
    keys: readonly string[],
  ): Promise<ReadonlyMap<string, { readonly generation: Generation; readonly requestHash: string }>>;
}

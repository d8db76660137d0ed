// Batches as doors ask for them, and the loop that works them off: it hands held items over as room allows, watches how
// they end, trips the breaker, and brings a batch to its end. What it knows is in the store, so a new process goes on
// where the last one died.

import type { BatchRequest, Projection } from '../contract/batches.ts';
import type { Batch, BatchId, Item, Tally } from '../domain/batch.ts';
import type { Caller } from '../domain/caller.ts';
import type { Generation, Status } from '../domain/generation.ts';
import type { Millis } from '../domain/units.ts';
import type { Page } from '../store/store.ts';

/** A batch and how it stands now. */
export interface BatchNow {
  readonly batch: Batch;
  readonly tally: Tally;
  /** Seconds from now until its last item ends; null when it has, or nobody can say. */
  readonly etaSeconds: number | null;
}

export interface BatchReport extends BatchNow {
  /** Items that failed, timed out or were cancelled, in order. */
  readonly failures: readonly Item<Generation>[];
  /** Of the items that succeeded. */
  readonly nodeMs: readonly Millis[];
}

/** Throws GatewayError('not_found') for foreign ids too, 'conflict' where the state does not allow it. */
export interface BatchDesk {
  /** Durable before it resolves. Throws GatewayError: an item that does not parse (path `items.N.…`), 402 when it cannot be afforded. */
  create(caller: Caller, request: BatchRequest): Promise<BatchNow & { readonly replayed: boolean }>;
  /** What it would cost; stores nothing. */
  project(caller: Caller, request: BatchRequest): Promise<Projection>;
  extend(caller: Caller, id: BatchId, items: readonly unknown[]): Promise<BatchNow>;
  get(caller: Caller, id: BatchId): Promise<BatchNow>;
  list(caller: Caller, limit: number, cursor?: string): Promise<Page<BatchNow>>;
  items(
    caller: Caller,
    id: BatchId,
    status: Status | null,
    limit: number,
    cursor?: string,
  ): Promise<Page<Item<Generation>>>;
  report(caller: Caller, id: BatchId): Promise<BatchReport>;
  pause(caller: Caller, id: BatchId): Promise<BatchNow>;
  resume(caller: Caller, id: BatchId): Promise<BatchNow>;
  /** `cancelled` at once; its items follow. Idempotent; an ended one comes back unchanged. */
  cancel(caller: Caller, id: BatchId): Promise<BatchNow>;
  /** Failed, timed out and halted items run again as new generations. */
  retryFailed(caller: Caller, id: BatchId): Promise<BatchNow>;
}

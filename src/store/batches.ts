// Batches and their items. The batch row holds what it is; how it stands is counted over its items, which are ordinary
// generations, so the two can never disagree. Making a batch, handing items over and every move of the batch itself each
// happen in one transaction of the writer.

import { type RawBuilder, sql } from 'kysely';
import { type Batch, type BatchEvent, type BatchId, type Item, itemKey, type Tally } from '../domain/batch.ts';
import type { Failure } from '../domain/failure.ts';
import type { Generation, Status } from '../domain/generation.ts';
import type { GenerationId, Millicredits, Millis, WorkspaceId } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';
import { type Admitted, admission } from './admission.ts';
import type { Transition } from './append.ts';
import { clearing } from './batch-clearing.ts';
import type { NewItem } from './batch-items.ts';
import { toBatch } from './batch-rows.ts';
import { alreadyMade, type BatchClaim, type BatchMade, batchClaimOf, batchWriting } from './batch-writes.ts';
import { claimReading } from './claims.ts';
import type { Database } from './database.ts';
import { type Page, pageOf, placeOf } from './pages.ts';
import { toGeneration } from './rows.ts';
import type { BatchRow, GenerationRow } from './schema.ts';
import { statement } from './statements.ts';
import { tallying } from './tally.ts';
import type { Writer } from './writer.ts';

export interface Batches {
  /**
   * Stores a batch with its items; all or nothing. An item whose idempotency key belongs to a generation that is queued,
   * running or succeeded with the same request is attached: that generation stands for it and costs this batch nothing.
   * One whose key belongs to another request fails (`idempotency_conflict`). `batch.total` and `batch.projected` are
   * counted here. Does not hold up the event loop for long, whatever the number of items.
   */
  create(batch: Batch, items: readonly NewItem[], claim: BatchClaim | null): Promise<BatchMade>;
  /** What a making with this key would be answered now, without making anything; null: the key is free. */
  made(workspaceId: WorkspaceId, claim: BatchClaim): Promise<BatchMade | null>;
  /** Appends items; the draft's `item` numbers are given here, on from `total`. Items whose key this batch has already with the same request are skipped; with another they fail (`idempotency_conflict`). Null: someone moved first. */
  extend(current: Batch, items: readonly NewItem[], at: Millis): Promise<Batch | null>;
  /** New generations in the place of ended ones, by their `item`; the old ones stay as history and count no longer. The batch becomes `running`, unless it is paused. Null: someone moved first. */
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
  /** Cancels its own items that are held or queued, the first `limit` of them, and says which. Null: someone moved the batch first. */
  cancelWaiting(current: Batch, limit: number, why: Failure, at: Millis): Promise<readonly GenerationId[] | null>;
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

type Stored = Pick<GenerationRow, 'submitted' | 'changes'>;
type Standing = Stored & Pick<GenerationRow, 'id'> & { readonly item: number };

export function createBatches(
  { read }: Database,
  writer: Writer,
  clock: Pick<Clock, 'now'>,
  transition: Transition,
): Batches {
  const writes = batchWriting();
  const cancelWaiting = clearing(transition);
  const tallyOf = tallying();
  const claimed = claimReading();
  const byId = statement(sql<BatchRow>`select * from batches where id = ${''}`);
  const byClaim = statement(sql<BatchRow>`select * from batches where claim = ${''}`);
  const held = statement(sql<Stored>`select submitted, changes from generations
    where batch_id = ${''} and item > ${0} and item is not null and status = 'queued' and lane is null
    order by item limit ${0}`);
  const idsIn = statement(sql<{ id: string }>`select id from generations
    where batch_id = ${''} and status = ${''} and item is not null order by item limit ${0}`);
  const times = statement(sql<{ node_ms: number }>`
    select node_ms from generations where batch_id = ${''} and status = 'succeeded' and item is not null
    union all
    select g.node_ms from batch_attached a join generations g on g.id = a.generation_id
    where a.batch_id = ${''} and g.status = 'succeeded'`);

  return {
    create: (batch, items, claim) => writer.submit(writes.create(batch, items, claim, clock.now())),
    async made(workspaceId, claim) {
      const row = (await byClaim(read, [batchClaimOf(workspaceId, claim.key)])).rows[0];
      return row === undefined ? null : alreadyMade(row, claim, clock.now());
    },
    extend: (current, items, at) => writer.submit(writes.extend(current, items, at, clock.now())),
    retry: (current, items, at) => writer.submit(writes.retry(current, items, at, clock.now())),
    change: async (current, event, tally) => writer.submit(writes.change(current, event, tally)),
    admit: async (items, room, at) => (items.length === 0 ? [] : writer.submit(admission(transition, items, room, at))),
    async get(id) {
      const row = (await byId(read, [id])).rows[0];
      return row === undefined ? null : toBatch(row);
    },
    async list(workspaceId, limit, cursor) {
      const [at, id] = cursor === undefined ? [Number.MAX_SAFE_INTEGER, ''] : placeOf(cursor);
      const { rows } = await sql<BatchRow>`select * from batches
        where workspace_id = ${workspaceId} and (created_at, id) < (${at}, ${id})
        order by created_at desc, id desc limit ${limit + 1}`.execute(read);
      return pageOf(rows, limit, (row) => [row.created_at, row.id], toBatch);
    },
    async open() {
      const { rows } = await sql<BatchRow>`select * from batches where finished_at is null
        order by created_at, id`.execute(read);
      return rows.map(toBatch);
    },
    tally: (id) => tallyOf(read, id),
    async items(id, { statuses }, limit, cursor) {
      const after = cursor === undefined ? -1 : placeOf(cursor)[0];
      const branches = standing(id, statuses, after, limit + 1);
      const found = await Promise.all(branches.map((branch) => branch.execute(read)));
      const rows = found.flatMap((one) => one.rows).sort((a, b) => a.item - b.item);
      return pageOf(
        rows,
        limit,
        (row) => [row.item, row.id],
        (row) => itemOf(id, row),
      );
    },
    held: async (id, limit, after = -1) => (await held(read, [id, after, limit])).rows.map(toGeneration),
    cancelWaiting: async (current, limit, why, at) => writer.submit(cancelWaiting(current, limit, why, at)),
    idsIn: async (id, status, limit) => (await idsIn(read, [id, status, limit])).rows.map((row) => row.id),
    nodeTimes: async (id) => (await times(read, [id, id])).rows.map((row) => row.node_ms),
    claimed: (workspaceId, keys) => claimed(read, workspaceId, keys, clock.now()),
  };
}

/** Own items by status, and attached ones; each walks an index in the order of the items and stops. */
function standing(
  id: BatchId,
  statuses: readonly Status[] | undefined,
  after: number,
  limit: number,
): RawBuilder<Standing>[] {
  const wanted = statuses === undefined ? [undefined] : [...new Set(statuses)];
  if (wanted.length === 0) return [];
  const own = wanted.map(
    (status) => sql<Standing>`select id, item, submitted, changes from generations
      where batch_id = ${id} and item is not null and item > ${after}
      ${status === undefined ? sql`` : sql`and status = ${status}`} order by item limit ${limit}`,
  );
  const attached = sql<Standing>`select g.id, a.item, g.submitted, g.changes
    from batch_attached a join generations g on g.id = a.generation_id
    where a.batch_id = ${id} and a.item > ${after}
    ${statuses === undefined ? sql`` : sql`and g.status in (${sql.join(wanted)})`} order by a.item limit ${limit}`;
  return [...own, attached];
}

function itemOf(batchId: BatchId, row: Standing): Item<Generation> {
  const generation = toGeneration(row);
  return { index: row.item, key: itemKey(batchId, row.item, generation.idempotencyKey), generation };
}

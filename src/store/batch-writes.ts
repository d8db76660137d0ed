// The writes of a batch itself: making it with its items, adding items, putting new ones in the place of failed ones, and
// every move of its own. Each is one transaction, compares the sequence number first, and ends with one event in the log.

import { sql } from 'kysely';
import { applyBatch, type Batch, type BatchEvent, type BatchId, type Tally } from '../domain/batch.ts';
import { type Failure, failure } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import { inGroups, itemOf, type NewItem, placeItem } from './batch-items.ts';
import { BATCH_MOVING, batchRow, movingBatchColumns, toBatch } from './batch-rows.ts';
import { CLAIM_MS, claimedByAnother } from './insert.ts';
import { claimId, itemKeyOf } from './rows.ts';
import type { BatchRow, GenerationRow } from './schema.ts';
import { finder, inserter, statement } from './statements.ts';
import { tallying } from './tally.ts';
import type { Needs, Transaction } from './transaction.ts';
import type { Write } from './writer.ts';

/** An idempotency key on the making of a batch, and what was asked with it. */
export interface BatchClaim {
  readonly key: string;
  /** Hashes of it, one for each way of looking at it, with spaces between: to share one is to be the same. */
  readonly requestHash: string;
}

export type BatchMade =
  | { readonly outcome: 'created' | 'replayed'; readonly batch: Batch }
  | { readonly outcome: 'refused'; readonly failure: Failure };

export interface BatchWrites {
  create(batch: Batch, items: readonly NewItem[], claim: BatchClaim | null, now: Millis): Write<BatchMade>;
  extend(current: Batch, items: readonly NewItem[], at: Millis, now: Millis): Write<Batch | null>;
  retry(current: Batch, items: readonly NewItem[], at: Millis, now: Millis): Write<Batch | null>;
  change(current: Batch, event: BatchEvent, tally: Tally): Write<Batch | null>;
}

/** Statements of one store: their texts depend on the engine. */
export function batchWriting(): BatchWrites {
  const tallyOf = tallying();
  const columns = sql.join(BATCH_MOVING.map((column) => sql`${sql.ref(column)} = ${0}`));
  const move = statement(sql`update batches set ${columns} where id = ${''} and seq = ${0}`);
  const seqOf = statement(sql<Pick<BatchRow, 'seq'>>`select seq from batches where id = ${''}`);
  const claimed = statement(sql<BatchRow>`select * from batches where claim = ${''}`);
  const unclaim = statement(sql`update batches set claim = null where claim = ${''}`);
  const supersede = statement(
    sql<{ submitted: string }>`update generations set item = null, item_key = null
      where batch_id = ${''} and item = ${0} returning submitted`,
  );
  const detach = statement(sql`delete from batch_attached where batch_id = ${''} and item = ${0}`);
  const ownKeys = finder(sql<Keyed>`select item_key, submitted from generations where item_key in`);
  const attachedKeys = finder(
    sql<Keyed>`select a.item_key, g.submitted from batch_attached a
      join generations g on g.id = a.generation_id where a.item_key in`,
  );
  const insert = inserter('batches', [
    'id',
    'workspace_id',
    'status',
    'seq',
    'created_at',
    'finished_at',
    'total',
    'projected',
    'breaker',
    'asked',
    'claim',
    'request_hash',
  ]);

  const isStill = async (tx: Transaction, { id, seq }: Batch) => (await seqOf(tx.db, [id])).rows[0]?.seq === seq;
  const moveTo = async (tx: Transaction, current: Batch, event: BatchEvent, tally: Tally) => {
    const next = applyBatch(current, event);
    const moving = movingBatchColumns(next);
    const values = [...BATCH_MOVING.map((column) => moving[column]), current.id, current.seq];
    if ((await move(tx.db, values)).numAffectedRows !== 1n) return null;
    return tx.recordBatch(next, event, tally).batch;
  };
  /** After what it counts was written. */
  const counted = async (tx: Transaction, id: BatchId) => {
    await tx.flush();
    return tallyOf(tx.db, id);
  };
  /** Takes away whoever stands for this item now; what it added to the projection is returned. */
  const vacate = async (tx: Transaction, draft: Generation) => {
    const { batchId, item } = itemOf(draft);
    const before = (await supersede(tx.db, [batchId, item])).rows[0];
    if (before !== undefined) return (JSON.parse(before.submitted) as Generation).quote.reserve;
    await detach(tx.db, [batchId, item]);
    return 0;
  };

  return {
    create: (batch, items, claim, now) => ({
      weight: items.length + 1,
      needs: needsOf(batch.workspaceId),
      async run(tx) {
        const key = claim === null ? null : batchClaimOf(batch.workspaceId, claim.key);
        if (claim !== null && key !== null) {
          const row = (await claimed(tx.db, [key])).rows[0];
          const made = row === undefined ? null : alreadyMade(row, claim, now);
          if (made !== null) return made;
          if (row !== undefined) await unclaim(tx.db, [key]);
        }
        if (tx.books.workspace(batch.workspaceId) === undefined) {
          return { outcome: 'refused', failure: failure('not_found', `There is no workspace ${batch.workspaceId}.`) };
        }
        let projected = 0;
        await inGroups(tx, items, (group) => {
          for (const item of group) projected += placeItem(tx, item, now);
        });
        const made = { ...batch, total: items.length, projected };
        await insert(tx.db, [batchRow(made, key, claim?.requestHash ?? null)]);
        tx.recordBatch(made, { type: 'running', at: batch.createdAt }, await counted(tx, batch.id));
        return { outcome: 'created', batch: made };
      },
    }),
    extend: (current, items, at, now) => ({
      weight: items.length + 1,
      needs: needsOf(current.workspaceId),
      async run(tx) {
        if (!(await isStill(tx, current))) return null;
        let [added, projected] = [0, 0];
        await inGroups(tx, items, async (group) => {
          const keys = group.flatMap((one) => itemKeyOf(current.id, one.draft.idempotencyKey) ?? []);
          const rows = [...(await ownKeys(tx.db, keys)), ...(await attachedKeys(tx.db, keys))];
          const known = new Map<string, Generation[]>();
          for (const row of rows) note(known, row.item_key, JSON.parse(row.submitted) as Generation);
          for (const { draft, failure: why } of group) {
            const key = itemKeyOf(current.id, draft.idempotencyKey);
            const same = key === null ? [] : (known.get(key) ?? []);
            if (same.some((one) => one.requestHash === draft.requestHash)) continue;
            const generation = same[0];
            const refusal = generation === undefined ? why : claimedByAnother({ generation });
            if (key !== null) note(known, key, draft);
            const item = current.total + added++;
            projected += placeItem(tx, { draft: { ...draft, item }, failure: refusal }, now);
          }
        });
        if (added === 0) return current;
        return moveTo(tx, current, { type: 'extended', at, items: added, projected }, await counted(tx, current.id));
      },
    }),
    retry: (current, items, at, now) => ({
      weight: items.length + 1,
      needs: needsOf(current.workspaceId),
      async run(tx) {
        if (!(await isStill(tx, current))) return null;
        let projected = 0;
        await inGroups(tx, items, async (group) => {
          for (const { draft } of group) projected -= await vacate(tx, draft);
          for (const item of group) projected += placeItem(tx, item, now);
        });
        const event: BatchEvent = projected === 0 ? { type: 'retried', at } : { type: 'retried', at, projected };
        return moveTo(tx, current, event, await counted(tx, current.id));
      },
    }),
    change(current, event, tally) {
      applyBatch(current, event);
      const needs = needsOf(current.workspaceId);
      return { weight: 1, needs, run: (tx) => moveTo(tx, current, event, tally) };
    },
  };
}

const needsOf = (workspaceId: WorkspaceId): Needs => ({
  workspaces: [workspaceId],
  keys: [],
  claims: [],
  hooks: [workspaceId],
});

type Keyed = Pick<GenerationRow, 'submitted'> & { readonly item_key: string };

const note = (known: Map<string, Generation[]>, key: string, one: Generation): void =>
  void known.set(key, [...(known.get(key) ?? []), one]);

/** Apart from the keys of generations. */
export const batchClaimOf = (workspaceId: WorkspaceId, key: string): string =>
  claimId(`batches of ${workspaceId}`, key);

/** Null: the key has expired. */
export function alreadyMade(row: BatchRow, claim: BatchClaim, now: Millis): BatchMade | null {
  if (row.created_at + CLAIM_MS <= now) return null;
  const asked = claim.requestHash.split(' ');
  if (row.request_hash?.split(' ').some((hash) => asked.includes(hash)))
    return { outcome: 'replayed', batch: toBatch(row) };
  const why = `This idempotency key belongs to another batch, ${row.id}.`;
  return { outcome: 'refused', failure: failure('idempotency_conflict', why) };
}

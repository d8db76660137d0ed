// A batch ↔ its row: what is fixed as one document, what moves in columns.

import type { Batch, BatchAsked } from '../domain/batch.ts';
import type { Breaker } from '../domain/breaker.ts';
import type { BatchRow } from './schema.ts';

export const toBatch = (row: BatchRow): Batch => ({
  ...(JSON.parse(row.asked) as BatchAsked),
  seq: row.seq,
  status: row.status,
  total: row.total,
  projected: row.projected,
  breaker: JSON.parse(row.breaker) as Breaker,
  finishedAt: row.finished_at,
});

/** The columns that move, in the order of `BATCH_MOVING`. */
export const BATCH_MOVING = [
  'status',
  'seq',
  'total',
  'projected',
  'breaker',
  'finished_at',
] as const satisfies readonly (keyof BatchRow)[];

export const movingBatchColumns = (b: Batch): Pick<BatchRow, (typeof BATCH_MOVING)[number]> => ({
  status: b.status,
  seq: b.seq,
  total: b.total,
  projected: b.projected,
  breaker: JSON.stringify(b.breaker),
  finished_at: b.finishedAt,
});

/** `claim`: the digest of the idempotency key it is made with. */
export function batchRow(b: Batch, claim: string | null, requestHash: string | null): BatchRow {
  const { id, workspaceId, keyId, createdAt, name, concurrency, maxCredits, rules, fallback, metadata } = b;
  const asked: BatchAsked = {
    id,
    workspaceId,
    keyId,
    createdAt,
    name,
    concurrency,
    maxCredits,
    rules,
    fallback,
    metadata,
  };
  return {
    id,
    workspace_id: workspaceId,
    created_at: createdAt,
    asked: JSON.stringify(asked),
    claim,
    request_hash: requestHash,
    ...movingBatchColumns(b),
  };
}

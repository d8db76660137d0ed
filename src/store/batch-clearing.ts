// Taking back what a batch still keeps waiting, held or queued alike. Looked up and cancelled in one transaction that
// compares the batch's sequence number first, so whoever decided on an older state cancels nothing of the newer one.

import { sql } from 'kysely';
import type { Batch } from '../domain/batch.ts';
import { apply } from '../domain/event.ts';
import type { Failure } from '../domain/failure.ts';
import type { GenerationId, Millis } from '../domain/units.ts';
import type { Transition } from './append.ts';
import { toGeneration } from './rows.ts';
import type { BatchRow, GenerationRow } from './schema.ts';
import { statement } from './statements.ts';
import type { Write } from './writer.ts';

/** Null: someone moved the batch first. */
export type CancelWaiting = (
  current: Batch,
  limit: number,
  why: Failure,
  at: Millis,
) => Write<readonly GenerationId[] | null>;

/** Statements of one store: their texts depend on the engine. */
export function clearing(transition: Transition): CancelWaiting {
  const seqOf = statement(sql<Pick<BatchRow, 'seq'>>`select seq from batches where id = ${''}`);
  const waiting = statement(sql<Pick<GenerationRow, 'submitted' | 'changes'>>`select submitted, changes from generations
    where batch_id = ${''} and item is not null and status = 'queued' order by item limit ${0}`);

  return ({ id, seq, workspaceId }, limit, why, at) => ({
    weight: limit,
    needs: { workspaces: [workspaceId], keys: [], claims: [], hooks: [workspaceId] },
    async run(tx) {
      if ((await seqOf(tx.db, [id])).rows[0]?.seq !== seq) return null;
      const items = (await waiting(tx.db, [id, limit])).rows.map(toGeneration);
      await tx.load([{ workspaces: [], keys: items.map((g) => g.keyId), claims: [] }]);
      const event = { type: 'cancelled', at, failure: why } as const;
      for (const g of items) await transition(tx, g, apply(g, event), event);
      return items.map((g) => g.id);
    },
  });
}

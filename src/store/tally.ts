// How the items of a batch stand, counted over its items in one statement, so that what is held and what is queued are
// of one moment. An index holds all it needs.

import { type Kysely, sql } from 'kysely';
import { type BatchId, NO_TALLY, type Tally } from '../domain/batch.ts';
import type { Status } from '../domain/generation.ts';
import type { Schema } from './schema.ts';
import { statement } from './statements.ts';

interface Counted {
  readonly whose: 'own' | 'held' | 'attached';
  readonly status: Status;
  readonly n: number;
  readonly charged: number;
  readonly reserved: number;
}

/** Statements of one store: their texts depend on the engine. */
export function tallying() {
  const count = statement(sql<Counted>`
    select 'own' as whose, status, count(*) as n, cast(sum(charged) as bigint) as charged,
      cast(sum(reserved) as bigint) as reserved
    from generations where batch_id = ${''} and item is not null group by status
    union all
    select 'held', 'queued', count(*), 0, 0 from generations
    where batch_id = ${''} and item is not null and status = 'queued' and lane is null
    union all
    select 'attached', g.status, count(*), 0, 0 from batch_attached a
    join generations g on g.id = a.generation_id where a.batch_id = ${''} group by g.status`);
  return async (db: Kysely<Schema>, id: BatchId): Promise<Tally> => tallyOf((await count(db, [id, id, id])).rows);
}

const OPEN: readonly Status[] = ['queued', 'running'];

function tallyOf(rows: readonly Counted[]): Tally {
  const counts = { ...NO_TALLY.counts };
  let [held, others, charged, reserved] = [0, 0, 0, 0];
  for (const row of rows) {
    if (row.whose === 'held') held = row.n;
    else counts[row.status] += row.n;
    if (row.whose === 'attached' && OPEN.includes(row.status)) others += row.n;
    charged += row.charged;
    reserved += row.reserved;
  }
  return { held, counts, others, charged, reserved };
}

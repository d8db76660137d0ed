// The log as watchers read it: in commit order, by cursor. Old events may be forgotten; a cursor older than what is kept
// is answered with null, so that nobody believes to have seen everything.

import { setImmediate as turn } from 'node:timers/promises';
import { sql } from 'kysely';
import type { Batch, BatchEvent, StoredBatchEvent, Tally } from '../domain/batch.ts';
import { apply, type GenerationEvent, type StoredEvent } from '../domain/event.ts';
import type { Generation } from '../domain/generation.ts';
import type { Cursor, GenerationId, Millis, WorkspaceId } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';
import type { Database } from './database.ts';
import { CLAIM_MS } from './insert.ts';
import { text, toGeneration } from './rows.ts';
import type { EventRow, LogRow } from './schema.ts';
import type { Write, Writer } from './writer.ts';

export interface EventFilter {
  readonly workspaceId: WorkspaceId;
  readonly generationIds?: readonly GenerationId[];
  readonly batchId?: string;
}

export interface Events {
  /** The newest cursor committed; 0 when there is none. */
  latest(): Promise<Cursor>;
  /** Events after a cursor, in order. Null: the cursor is unknown or older than what is kept. */
  after(
    cursor: Cursor,
    filter: EventFilter,
    limit: number,
  ): Promise<readonly (StoredEvent | StoredBatchEvent)[] | null>;
  /** The generation as it was right after its event number `seq` (re-folded from its events); null when they are gone. */
  generationAt(id: GenerationId, seq: number): Promise<Generation | null>;
  /** Forgets events older than this, and idempotency keys that have expired; returns how many events went. */
  prune(before: Millis): Promise<number>;
}

/** Events forgotten per transaction. */
const PRUNE = 2_000;
const NOTHING = { workspaces: [], keys: [], claims: [] } as const;

export function createEvents({ read }: Database, writer: Writer, clock: Pick<Clock, 'now'>): Events {
  const log = async () => {
    const { rows } = await sql<LogRow>`select id, cursor, entry, pruned from log where id = 1`.execute(read);
    return { latest: rows[0]?.cursor ?? 0, pruned: rows[0]?.pruned ?? 0 };
  };
  return {
    latest: async () => (await log()).latest,
    async after(cursor, filter, limit) {
      const known = await log();
      if (!Number.isSafeInteger(cursor) || cursor < known.pruned || cursor > known.latest) return null;
      if (filter.generationIds?.length === 0) return [];
      const { rows } = await sql<EventRow>`select cursor, workspace_id, generation_id, batch_id, seq, at, event
        from events where ${matching(filter)} and cursor > ${cursor}
        order by cursor limit ${limit}`.execute(read);
      return (await log()).pruned > cursor ? null : rows.map(toStored);
    },
    async generationAt(id, seq) {
      const { rows } = await sql<{ submitted: string; seq: number | null; event: string | null }>`
        select g.submitted, e.seq, e.event from generations g
        left join events e on e.generation_id = g.id and e.seq > 1 and e.seq <= ${seq}
        where g.id = ${id} order by e.seq`.execute(read);
      const first = rows[0];
      if (first === undefined || seq < 1 || (seq > 1 && rows.length !== seq - 1)) return null;
      const events = rows.flatMap((row) => (row.event === null ? [] : [JSON.parse(row.event) as GenerationEvent]));
      if (events.length !== seq - 1) return null;
      return events.reduce(apply, toGeneration({ submitted: first.submitted, changes: null }));
    },
    async prune(before) {
      let forgotten = 0;
      for (;;) {
        const step = await writer.submit(forgetting(before, clock.now() - CLAIM_MS));
        forgotten += step;
        if (step < PRUNE) return forgotten;
        await turn();
      }
    },
  };
}

/** `|| ''` keeps a condition from leading: the ids or the batch find fewer rows than the workspace does. */
function matching({ workspaceId, generationIds, batchId }: EventFilter) {
  if (generationIds !== undefined) {
    return sql`workspace_id || '' = ${workspaceId} and generation_id in (${sql.join(generationIds)})
      and (batch_id is null or batch_id <> generation_id)`;
  }
  if (batchId !== undefined) return sql`workspace_id || '' = ${workspaceId} and batch_id = ${text(batchId)}`;
  return sql`workspace_id = ${workspaceId}`;
}

function toStored(row: EventRow): StoredEvent | StoredBatchEvent {
  const { cursor, workspace_id: workspaceId, generation_id: generationId, batch_id: batchId, seq } = row;
  if (generationId !== batchId) {
    return { cursor, workspaceId, generationId, batchId, seq, event: JSON.parse(row.event) as GenerationEvent };
  }
  const moved = JSON.parse(row.event) as { event: BatchEvent; batch: Batch; tally: Tally };
  return { cursor, workspaceId, batchId, seq, ...moved };
}

/** Only from the old end and without holes: `pruned` then says exactly what is gone. */
const forgetting = (before: Millis, expired: Millis): Write<number> => ({
  weight: 1,
  needs: NOTHING,
  async run({ db }) {
    await db.deleteFrom('idempotency').where('created_at', '<=', expired).execute();
    const { rows: oldest } = await sql<{ cursor: number; at: number }>`
      select cursor, at from events order by cursor limit ${PRUNE}`.execute(db);
    const kept = oldest.findIndex((row) => row.at >= before);
    const gone = kept < 0 ? oldest : oldest.slice(0, kept);
    const last = gone.at(-1);
    if (last === undefined) return 0;
    await db.deleteFrom('events').where('cursor', '<=', last.cursor).execute();
    await db.updateTable('log').set({ pruned: last.cursor }).where('id', '=', 1).execute();
    return gone.length;
  },
});

// Generations as asked for from outside the store: two writes, which join a group commit, and reads of what is
// committed. Listings and windows walk an index in its own order and stop, whatever else is stored.

import { sql } from 'kysely';
import type { GenerationEvent } from '../domain/event.ts';
import type { Generation } from '../domain/generation.ts';
import { laneOf, type QueuedStub } from '../domain/lane.ts';
import type { GenerationId, Millis, WorkspaceId } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';
import { appending, type Transition, transitions } from './append.ts';
import type { Database } from './database.ts';
import { insertion } from './insert.ts';
import { type Listed, type ListFilter, listings } from './listing.ts';
import { type Page, pageOf, placeOf } from './pages.ts';
import type { Inserted, Moved } from './recorded.ts';
import { laneDigest, toGeneration } from './rows.ts';
import type { GenerationRow } from './schema.ts';
import { statement } from './statements.ts';
import type { Writer } from './writer.ts';

export interface Generations {
  /** Inserts many in one transaction; results in order. Several with one new idempotency key: the first wins. */
  insert(drafts: readonly Generation[]): Promise<readonly Inserted[]>;
  /**
   * The only write after insert, except that items are handed over by `Batches.admit`. Compares `current.seq`; null when
   * someone moved first.
   */
  append(current: Generation, event: GenerationEvent): Promise<Moved | null>;
  get(id: GenerationId): Promise<Generation | null>;
  /** Newest first. `cursor`: a Page.next. Throws GatewayError('invalid_request') on a forged one. */
  list(filter: ListFilter, limit: number, cursor?: string): Promise<Page<Generation>>;
  /** Ids of queued generations, newest first (for cancelling by withdrawal of credits, or a batch). */
  queuedIds(workspaceId: WorkspaceId, limit: number, before?: GenerationId): Promise<readonly GenerationId[]>;
  running(): Promise<readonly Generation[]>;
  /** All lanes with something queued, and how many. */
  lanes(): Promise<readonly { readonly lane: string; readonly queued: number }[]>;
  /** The first `limit` of a lane in order of age, due or not. `after`: continue behind this id. */
  window(lane: string, limit: number, after?: GenerationId): Promise<readonly QueuedStub[]>;
  /** Queued ones whose start deadline has passed, and the next deadline after `now`. */
  overdue(now: Millis, limit: number): Promise<{ readonly ids: readonly GenerationId[]; readonly next: Millis | null }>;
}

type Stored = Pick<GenerationRow, 'submitted' | 'changes'>;

export function createGenerations(
  { read }: Database,
  writer: Writer,
  clock: Pick<Clock, 'now'>,
  transition: Transition = transitions(),
): Generations {
  const append = appending(transition);
  const byId = statement(sql<Stored>`select submitted, changes from generations where id = ${''}`);
  const waiting = statement(
    sql<Pick<GenerationRow, 'id' | 'created_at' | 'not_before' | 'start_by'>>`
      select id, created_at, not_before, start_by from generations
      where lane = ${''} and id > ${''} order by id limit ${0}`,
  );

  return {
    insert: async (drafts) => (drafts.length === 0 ? [] : writer.submit(insertion(drafts, clock.now()))),
    async append(current, event) {
      if (event.type === 'admitted') throw new Error('items are handed over by Batches.admit');
      return writer.submit(append(current, event));
    },
    async get(id) {
      const row = (await byId(read, [id])).rows[0];
      return row === undefined ? null : toGeneration(row);
    },
    async list(filter, limit, cursor) {
      const after = cursor === undefined ? null : placeOf(cursor);
      const statuses = filter.statuses === undefined ? [undefined] : [...new Set(filter.statuses)];
      const branches = statuses.flatMap((status) => listings(filter, status, limit + 1, after));
      const found = await Promise.all(branches.map((branch) => branch.execute(read)));
      const rows = found.flatMap((one) => one.rows).sort(newestFirst);
      return pageOf(rows, limit, (row) => [row.created_at, row.id], toGeneration);
    },
    async queuedIds(workspaceId, limit, before = '~') {
      const { rows } = await sql<{ id: string }>`select id from generations
        where workspace_id = ${workspaceId} and status = 'queued' and lane is not null and id < ${before}
        order by created_at desc, id desc limit ${limit}`.execute(read);
      return rows.map((row) => row.id);
    },
    async running() {
      const { rows } = await sql<Stored>`select submitted, changes from generations
        where status = 'running' order by id`.execute(read);
      return rows.map(toGeneration);
    },
    async lanes() {
      const { rows } = await sql<Stored & { queued: number }>`
        select l.queued, g.submitted, g.changes
        from (select count(*) as queued, min(id) as oldest from generations
              where lane is not null group by lane) l
        join generations g on g.id = l.oldest`.execute(read);
      return rows.map((row) => ({ lane: laneOf(toGeneration(row)).key, queued: row.queued }));
    },
    async window(lane, limit, after = '') {
      const { rows } = await waiting(read, [laneDigest(lane), after, limit]);
      return rows.map((row) => ({
        id: row.id,
        createdAt: row.created_at,
        notBefore: row.not_before ?? 0,
        startBy: row.start_by,
      }));
    },
    async overdue(now, limit) {
      const late = await sql<{ id: string }>`select id from generations
        where status = 'queued' and start_by <= ${now} order by start_by limit ${limit}`.execute(read);
      const next = await sql<{ at: number | null }>`select min(start_by) as at from generations
        where status = 'queued' and start_by > ${now}`.execute(read);
      return { ids: late.rows.map((row) => row.id), next: next.rows[0]?.at ?? null };
    },
  };
}

const newestFirst = (a: Listed, b: Listed): number => b.created_at - a.created_at || (a.id < b.id ? 1 : -1);

// Generations as asked for from outside the store: two writes, which join a group commit, and reads of what is
// committed. Listings and windows walk an index in its own order and stop, whatever else is stored.

import { type RawBuilder, type SqlBool, sql } from 'kysely';
import type { GenerationEvent } from '../domain/event.ts';
import type { Generation, Status } from '../domain/generation.ts';
import { laneOf, type QueuedStub } from '../domain/lane.ts';
import type { GenerationId, Millis, WorkspaceId } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';
import { appending } from './append.ts';
import type { Database } from './database.ts';
import { insertion } from './insert.ts';
import { type Page, type Place, pageOf, placeOf } from './pages.ts';
import type { Inserted, Moved } from './recorded.ts';
import { laneDigest, text, toGeneration } from './rows.ts';
import type { GenerationRow } from './schema.ts';
import { statement } from './statements.ts';
import type { Writer } from './writer.ts';

export interface ListFilter {
  readonly workspaceId: WorkspaceId;
  readonly statuses?: readonly Status[];
  readonly model?: string;
  readonly batchId?: string;
  /** All must match, compared as text. */
  readonly metadata?: Readonly<Record<string, string>>;
  /** Created at or after. */
  readonly since?: Millis;
}

export interface Generations {
  /** Inserts many in one transaction; results in order. Several with one new idempotency key: the first wins. */
  insert(drafts: readonly Generation[]): Promise<readonly Inserted[]>;
  /** The only write after insert. Compares `current.seq`; null when someone moved first. */
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
type Listed = Stored & Pick<GenerationRow, 'id' | 'created_at'>;

export function createGenerations({ read }: Database, writer: Writer, clock: Pick<Clock, 'now'>): Generations {
  const append = appending();
  const byId = statement(sql<Stored>`select submitted, changes from generations where id = ${''}`);
  const waiting = statement(
    sql<Pick<GenerationRow, 'id' | 'created_at' | 'not_before' | 'start_by'>>`
      select id, created_at, not_before, start_by from generations
      where status = 'queued' and lane = ${''} and id > ${''} order by id limit ${0}`,
  );
  const listed = async (filter: ListFilter, status: Status | undefined, limit: number, after: Place | null) =>
    (await listing(filter, status, limit, after).execute(read)).rows;

  return {
    insert: async (drafts) => (drafts.length === 0 ? [] : writer.submit(insertion(drafts, clock.now()))),
    append: async (current, event) => writer.submit(append(current, event)),
    async get(id) {
      const row = (await byId(read, [id])).rows[0];
      return row === undefined ? null : toGeneration(row);
    },
    async list(filter, limit, cursor) {
      const after = cursor === undefined ? null : placeOf(cursor);
      const statuses = filter.statuses === undefined ? [undefined] : [...new Set(filter.statuses)];
      const found = await Promise.all(statuses.map((status) => listed(filter, status, limit + 1, after)));
      const rows = found.length === 1 ? (found[0] ?? []) : found.flat().sort(newestFirst);
      return pageOf(rows, limit, (row) => [row.created_at, row.id], toGeneration);
    },
    async queuedIds(workspaceId, limit, before = '~') {
      const { rows } = await sql<{ id: string }>`select id from generations
        where workspace_id = ${workspaceId} and status = 'queued' and id < ${before}
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
              where status = 'queued' group by lane) l
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

/** One index leads: that of the metadata asked for, else that of what else is asked, which the engine picks. */
function listing(f: ListFilter, status: Status | undefined, limit: number, after: Place | null): RawBuilder<Listed> {
  const [leading, ...others] = Object.entries(f.metadata ?? {});
  const place =
    leading === undefined
      ? { at: sql`g.created_at`, id: sql`g.id` }
      : { at: sql`m.created_at`, id: sql`m.generation_id` };
  const from =
    leading === undefined
      ? sql`generations g where g.workspace_id = ${f.workspaceId}`
      : sql`generation_metadata m join generations g on g.id = m.generation_id
          where m.workspace_id = ${f.workspaceId} and m.key = ${text(leading[0])} and m.value = ${text(leading[1])}`;
  const conditions: RawBuilder<SqlBool>[] = others.map(
    ([key, value]) => sql`exists (select 1 from generation_metadata o where o.workspace_id = ${f.workspaceId}
      and o.key = ${text(key)} and o.value = ${text(value)} and o.created_at = g.created_at and o.generation_id = g.id)`,
  );
  if (status !== undefined) conditions.push(sql`g.status = ${status}`);
  if (f.model !== undefined) conditions.push(sql`g.model = ${text(f.model)}`);
  if (f.batchId !== undefined) conditions.push(sql`g.batch_id = ${text(f.batchId)}`);
  if (f.since !== undefined) conditions.push(sql`${place.at} >= ${f.since}`);
  if (after !== null) conditions.push(sql`(${place.at}, ${place.id}) < (${after[0]}, ${after[1]})`);
  const where = sql.join(
    conditions.map((condition) => sql`and ${condition}`),
    sql` `,
  );
  return sql`select g.id, g.created_at, g.submitted, g.changes from ${from} ${conditions.length > 0 ? where : sql``}
    order by ${place.at} desc, ${place.id} desc limit ${limit}`;
}

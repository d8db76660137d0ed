// Listings of generations, newest first: a few statements, each walking one index in the order of the list, merged by
// whoever asks. Those of a batch show the generations attached to it too, each once.

import { type RawBuilder, type SqlBool, sql } from 'kysely';
import type { Status } from '../domain/generation.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import type { Place } from './pages.ts';
import { text } from './rows.ts';
import type { GenerationRow } from './schema.ts';

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

export type Listed = Pick<GenerationRow, 'id' | 'created_at' | 'submitted' | 'changes'>;

type Value = RawBuilder<unknown>;

/** Where a listing starts from: the rows that lead, and where their age and id are. */
interface Lead {
  readonly from: Value;
  readonly at: Value;
  readonly id: Value;
  readonly conditions: readonly RawBuilder<SqlBool>[];
}

/** One status, or all. */
export function listings(
  filter: ListFilter,
  status: Status | undefined,
  limit: number,
  after: Place | null,
): readonly RawBuilder<Listed>[] {
  const { batchId } = filter;
  const leads = batchId === undefined ? [own(filter)] : [own(filter), attached(filter, batchId)];
  return leads.map((lead) => listing(lead, filter, status, limit, after));
}

/** One index leads: that of the metadata asked for, else that of what else is asked, which the engine picks. */
function own({ workspaceId, metadata, batchId }: ListFilter): Lead {
  const [leading, ...others] = Object.entries(metadata ?? {});
  const conditions = others.map((one) => tagged(workspaceId, one));
  if (batchId !== undefined) conditions.push(sql`g.batch_id = ${text(batchId)}`);
  if (leading === undefined) {
    const from = sql`generations g where g.workspace_id = ${workspaceId}`;
    return { from, at: sql`g.created_at`, id: sql`g.id`, conditions };
  }
  const from = sql`generation_metadata m join generations g on g.id = m.generation_id
    where m.workspace_id = ${workspaceId} and m.key = ${text(leading[0])} and m.value = ${text(leading[1])}`;
  return { from, at: sql`m.created_at`, id: sql`m.generation_id`, conditions };
}

/** Not those that are among its own, and each at its first place only. */
function attached({ workspaceId, metadata }: ListFilter, batchId: string): Lead {
  const id = text(batchId);
  const conditions = [
    sql<SqlBool>`(g.batch_id is null or g.batch_id <> ${id})`,
    sql<SqlBool>`not exists (select 1 from batch_attached o where o.batch_id = a.batch_id
      and o.created_at = a.created_at and o.generation_id = a.generation_id and o.item < a.item)`,
    ...Object.entries(metadata ?? {}).map((one) => tagged(workspaceId, one)),
  ];
  const from = sql`batch_attached a join generations g on g.id = a.generation_id
    where a.batch_id = ${id} and g.workspace_id || '' = ${workspaceId}`;
  return { from, at: sql`a.created_at`, id: sql`a.generation_id`, conditions };
}

const tagged = (workspaceId: WorkspaceId, [key, value]: readonly [string, string]) =>
  sql<SqlBool>`exists (select 1 from generation_metadata o where o.workspace_id = ${workspaceId}
    and o.key = ${text(key)} and o.value = ${text(value)} and o.created_at = g.created_at and o.generation_id = g.id)`;

function listing(
  { from, at, id, conditions }: Lead,
  { model, since }: ListFilter,
  status: Status | undefined,
  limit: number,
  after: Place | null,
): RawBuilder<Listed> {
  const all = [...conditions];
  if (status !== undefined) all.push(sql`g.status = ${status}`);
  if (model !== undefined) all.push(sql`g.model = ${text(model)}`);
  if (since !== undefined) all.push(sql`${at} >= ${since}`);
  if (after !== null) all.push(sql`(${at}, ${id}) < (${after[0]}, ${after[1]})`);
  const where = sql.join(
    all.map((condition) => sql`and ${condition}`),
    sql` `,
  );
  return sql`select g.id, g.created_at, g.submitted, g.changes from ${from} ${all.length > 0 ? where : sql``}
    order by ${at} desc, ${id} desc limit ${limit}`;
}

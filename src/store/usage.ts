// What was spent on what, over the generations that succeeded in a span. Finished rows never change, so they are walked
// in pages and summed here: a year's question does not hold the event loop, and both engines answer alike.

import { setImmediate as turn } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import type { Millicredits, Millis, WorkspaceId } from '../domain/units.ts';
import { toGeneration } from './rows.ts';
import type { GenerationRow, Schema } from './schema.ts';

/** day: of the charge, UTC. node: the one that delivered. */
export type UsageGroup = 'day' | 'model' | 'node' | 'key' | 'batch' | { readonly metadata: string };

export interface UsageRow {
  /** Null: the generation has no such value. */
  readonly key: string | null;
  readonly jobs: number;
  readonly outputs: number;
  readonly credits: Millicredits;
  readonly nodeSeconds: number;
}

export interface Usage {
  /** By key, those without one last. */
  readonly data: readonly UsageRow[];
  readonly total: UsageRow;
}

const PAGE = 500;

type Charged = Pick<
  GenerationRow,
  'id' | 'finished_at' | 'model' | 'last_node' | 'key_id' | 'batch_id' | 'charged' | 'outputs' | 'node_ms'
> &
  Partial<Pick<GenerationRow, 'submitted' | 'changes'>>;

interface Sum {
  jobs: number;
  outputs: number;
  credits: Millicredits;
  nodeMs: Millis;
}

export async function usageIn(
  db: Kysely<Schema>,
  workspaceId: WorkspaceId,
  from: Millis,
  to: Millis,
  group: UsageGroup | null,
): Promise<Usage> {
  const sums = new Map<string | null, Sum>();
  const total: Sum = { jobs: 0, outputs: 0, credits: 0, nodeMs: 0 };
  for await (const row of charged(db, workspaceId, from, to, typeof group === 'object' && group !== null)) {
    add(total, row);
    if (group === null) continue;
    const key = keyOf(row, group);
    const sum = sums.get(key) ?? { jobs: 0, outputs: 0, credits: 0, nodeMs: 0 };
    sums.set(key, sum);
    add(sum, row);
  }
  const data = [...sums].sort(([a], [b]) => byKey(a, b)).map(([key, sum]) => render(key, sum));
  return { data, total: render(null, total) };
}

/** In the order of the index, a page at a time. */
async function* charged(db: Kysely<Schema>, workspaceId: string, from: Millis, to: Millis, whole: boolean) {
  const documents = whole ? sql`, submitted, changes` : sql``;
  let last: readonly [at: Millis, id: string] = [from, ''];
  for (;;) {
    const { rows } = await sql<Charged>`
      select id, finished_at, model, last_node, key_id, batch_id, charged, outputs, node_ms ${documents}
      from generations where workspace_id = ${workspaceId} and status = 'succeeded'
      and (finished_at, id) > (${last[0]}, ${last[1]}) and finished_at < ${to}
      order by finished_at, id limit ${PAGE}`.execute(db);
    yield* rows;
    const end = rows.at(-1);
    if (end === undefined || rows.length < PAGE) return;
    last = [end.finished_at ?? from, end.id];
    await turn();
  }
}

function add(sum: Sum, row: Charged): void {
  sum.jobs++;
  sum.outputs += row.outputs;
  sum.credits += row.charged;
  sum.nodeMs += row.node_ms;
}

function keyOf(row: Charged, group: UsageGroup): string | null {
  if (typeof group === 'object') {
    const { metadata } = toGeneration({ submitted: row.submitted ?? '{}', changes: row.changes ?? null });
    return Object.hasOwn(metadata, group.metadata) ? String(metadata[group.metadata]) : null;
  }
  switch (group) {
    case 'day':
      return row.finished_at === null ? null : new Date(row.finished_at).toISOString().slice(0, 10);
    case 'model':
      return row.model;
    case 'node':
      return row.last_node;
    case 'key':
      return row.key_id;
    case 'batch':
      return row.batch_id;
  }
}

function byKey(a: string | null, b: string | null): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return a < b ? -1 : Number(a > b);
}

const render = (key: string | null, { jobs, outputs, credits, nodeMs }: Sum): UsageRow => ({
  key,
  jobs,
  outputs,
  credits,
  nodeSeconds: nodeMs / 1000,
});

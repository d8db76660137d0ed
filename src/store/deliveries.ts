// The log of what is to be sent to receivers, as the sender reads and keeps it. What is due is found receiver by
// receiver, without walking what waits behind each, so one that is down for a day costs the others nothing.

import { setImmediate as turn } from 'node:timers/promises';
import { type RawBuilder, sql } from 'kysely';
import { DELIVERY_STATES, type DeliveryState } from '../domain/delivery.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import type { Database } from './database.ts';
import { DELIVERY_COLUMNS, deliveryRow, receiverOf, toDelivery } from './hook-rows.ts';
import { type Place, pageOf, placeOf } from './pages.ts';
import type { DeliveryRow } from './schema.ts';
import { inserter, statement } from './statements.ts';
import type { Deliveries, Receiver } from './webhooks.ts';
import type { Write, Writer } from './writer.ts';

/** Rows changed per transaction where many change. */
const STEP = 1_000;
const alone = { weight: 1, needs: { workspaces: [], keys: [], claims: [] } };

export function createDeliveries({ read, hostOf }: Database, writer: Writer): Deliveries {
  const insert = inserter('deliveries', DELIVERY_COLUMNS);
  const byId = statement(sql<DeliveryRow>`select * from deliveries where id = ${''} and workspace_id = ${''}`);
  const ofReceiver = statement(sql<DeliveryRow>`select * from deliveries
    where state = 'pending' and receiver = ${''} and next_attempt_at <= ${0} order by next_attempt_at, id limit ${0}`);
  /** From one receiver to the next along the index of the due; then by turns, so that none hides behind many of another's. */
  const waiting = statement(sql<Receiver>`
    with recursive r (receiver) as (
      select min(receiver) from deliveries where state = 'pending'
      union all
      select (select min(d.receiver) from deliveries d where d.state = 'pending' and d.receiver > r.receiver)
      from r where r.receiver is not null),
    due (workspace_id, url, due, turn) as (
      select d.workspace_id, d.url, d.next_attempt_at,
        row_number() over (partition by d.workspace_id, ${hostOf(sql`d.url`)} order by d.next_attempt_at)
      from r join deliveries d on d.id = (
        select o.id from deliveries o where o.state = 'pending' and o.receiver = r.receiver and o.next_attempt_at <= ${0}
        order by o.next_attempt_at, o.id limit 1))
    select workspace_id as "workspaceId", url from due
    order by row_number() over (partition by workspace_id order by turn, due), due limit ${0}`);
  const tried = statement(sql<DeliveryRow>`update deliveries
    set state = ${''}, next_attempt_at = ${0}, ended_at = ${0}, body = ${''}, attempts = ${''}
    where id = ${''} returning *`);

  return {
    async get(workspaceId, id) {
      const row = (await byId(read, [id, workspaceId])).rows[0];
      return row === undefined ? null : toDelivery(row);
    },
    async list(workspaceId, { webhookId, state }, limit, cursor) {
      const after = cursor === undefined ? null : placeOf(cursor);
      const states = state === undefined ? DELIVERY_STATES : [state];
      const found = await Promise.all(
        states.map((one) => listing(workspaceId, webhookId, one, limit + 1, after).execute(read)),
      );
      const rows = found.flatMap((one) => one.rows).sort(newestFirst);
      return pageOf(rows, limit, (row) => [row.created_at, row.id], toDelivery);
    },
    add: (delivery) => writer.submit({ ...alone, run: ({ db }) => insert(db, [deliveryRow(delivery)]) }),
    receivers: async (now, limit) => (await waiting(read, [now, limit])).rows,
    async due({ workspaceId, url }, now, limit) {
      const { rows } = await ofReceiver(read, [receiverOf(workspaceId, url), now, limit]);
      return rows.filter((row) => !writer.isUntold(row.generation_id ?? row.batch_id ?? '')).map(toDelivery);
    },
    async next(after) {
      const { rows } = await sql<{ at: number | null }>`select min(next_attempt_at) as at from deliveries
        where state = 'pending' ${after === undefined ? sql`` : sql`and next_attempt_at > ${after}`}`.execute(read);
      return rows[0]?.at ?? null;
    },
    async waiting(webhookId) {
      const { rows } = await sql<{ n: number }>`select count(*) as n from deliveries
        where state = 'pending' ${webhookId === undefined ? sql`` : sql`and webhook_id = ${webhookId}`}`.execute(read);
      return rows[0]?.n ?? 0;
    },
    dueNow: (now, receiver) => inSteps(writer, () => hastening(now, receiver)).then(() => {}),
    attempted: (delivery, attempt, then) =>
      writer.submit({
        ...alone,
        async run({ db }) {
          const row = (await byId(db, [delivery.id, delivery.workspaceId])).rows[0];
          if (row?.state !== 'pending') return null;
          const attempts = JSON.stringify([...toDelivery(row).attempts, attempt]);
          const ended = then.state === 'pending' ? null : attempt.at;
          const { rows } = await tried(db, [then.state, then.nextAttemptAt, ended, then.body, attempts, delivery.id]);
          return rows[0] === undefined ? null : toDelivery(rows[0]);
        },
      }),
    redeliver: (workspaceId, id, now) => writer.submit(renewal(workspaceId, id, now)),
    prune: (before) => inSteps(writer, () => forgetting(before)),
  };
}

const newestFirst = (a: DeliveryRow, b: DeliveryRow): number => b.created_at - a.created_at || (a.id < b.id ? 1 : -1);

/** `|| ''` keeps the workspace from leading where the webhook finds fewer rows. */
function listing(
  workspaceId: WorkspaceId,
  webhookId: string | undefined,
  state: DeliveryState,
  limit: number,
  after: Place | null,
): RawBuilder<DeliveryRow> {
  const whose =
    webhookId === undefined
      ? sql`workspace_id = ${workspaceId}`
      : sql`webhook_id = ${webhookId} and workspace_id || '' = ${workspaceId}`;
  return sql`select * from deliveries where ${whose} and state = ${state}
    ${after === null ? sql`` : sql`and (created_at, id) < (${after[0]}, ${after[1]})`}
    order by created_at desc, id desc limit ${limit}`;
}

/** Repeats a write that changes some until it finds fewer than it takes; how many changed in all. */
async function inSteps(writer: Writer, step: () => Write<number>): Promise<number> {
  let all = 0;
  for (;;) {
    const changed = await writer.submit(step());
    all += changed;
    if (changed < STEP) return all;
    await turn();
  }
}

const hastening = (now: Millis, receiver: Receiver | undefined): Write<number> => ({
  ...alone,
  async run({ db }) {
    const whose =
      receiver === undefined ? sql`` : sql`and receiver = ${receiverOf(receiver.workspaceId, receiver.url)}`;
    const { numAffectedRows } = await sql`update deliveries set next_attempt_at = ${now} where id in (
      select id from deliveries where state = 'pending' ${whose} and next_attempt_at > ${now}
      limit ${STEP})`.execute(db);
    return Number(numAffectedRows ?? 0);
  },
});

/** It goes where its webhook is now. Without that webhook nothing could sign it, so there is nothing to send. */
const renewal = (workspaceId: WorkspaceId, id: string, now: Millis) => ({
  ...alone,
  async run({ db }: Parameters<Write<unknown>['run']>[0]) {
    const { rows } = await sql<DeliveryRow>`select * from deliveries
      where id = ${id} and workspace_id = ${workspaceId}`.execute(db);
    const row = rows[0];
    if (row === undefined) return null;
    const hook =
      row.webhook_id === null
        ? row
        : await db.selectFrom('webhooks').select('url').where('id', '=', row.webhook_id).executeTakeFirst();
    if (hook === undefined) return null;
    const { url } = hook;
    const renewed = {
      url,
      receiver: receiverOf(workspaceId, url),
      state: 'pending',
      since: now,
      next_attempt_at: now,
      ended_at: null,
    } as const;
    await db.updateTable('deliveries').set(renewed).where('id', '=', id).execute();
    return toDelivery({ ...row, ...renewed });
  },
});

const forgetting = (before: Millis): Write<number> => ({
  ...alone,
  async run({ db }) {
    const { numAffectedRows } = await sql`delete from deliveries where id in (
      select id from deliveries where ended_at < ${before} order by ended_at limit ${STEP})`.execute(db);
    return Number(numAffectedRows ?? 0);
  },
});

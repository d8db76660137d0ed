// Receivers that workspaces named, and the log of what is to be sent to them. Deliveries that follow from a change are
// written by that change's own transaction (append, batch change), so a crash loses none; what is written here is only
// how their tries went.

import { sql } from 'kysely';
import type { Delivery, DeliveryAttempt, DeliveryState, HookEvent, Secret, Webhook } from '../domain/delivery.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';
import type { Database } from './database.ts';
import { receiverOf, toWebhook, webhookRow } from './hook-rows.ts';
import { type Page, pageOf, placeOf } from './pages.ts';
import type { WebhookRow } from './schema.ts';
import type { Transaction } from './transaction.ts';
import type { Writer } from './writer.ts';

export interface Webhooks {
  create(hook: Webhook): Promise<void>;
  get(workspaceId: WorkspaceId, id: string): Promise<Webhook | null>;
  /** Newest first. */
  list(workspaceId: WorkspaceId, limit: number, cursor?: string): Promise<Page<Webhook>>;
  /** Null: there is none. A new `url` is also where its pending deliveries go. */
  update(
    workspaceId: WorkspaceId,
    id: string,
    patch: {
      readonly url?: string;
      readonly events?: readonly HookEvent[];
      readonly description?: string | null;
      readonly secrets?: readonly Secret[];
    },
  ): Promise<Webhook | null>;
  /** Its pending deliveries are dead from then on; the log stays. */
  delete(workspaceId: WorkspaceId, id: string): Promise<boolean>;
  /** What signs for per-job URLs, newest first. Empty until the first is made. */
  secrets(workspaceId: WorkspaceId): Promise<readonly Secret[]>;
  /** Sets them if they are still `before`; false when someone moved first. */
  putSecrets(workspaceId: WorkspaceId, before: readonly Secret[], after: readonly Secret[]): Promise<boolean>;
}

/** A receiver with something due: one URL of one workspace. */
export interface Receiver {
  readonly workspaceId: WorkspaceId;
  readonly url: string;
}

export interface Deliveries {
  get(workspaceId: WorkspaceId, id: string): Promise<Delivery | null>;
  /** Newest first. `webhookId` absent: all of the workspace, those of per-job URLs too. */
  list(
    workspaceId: WorkspaceId,
    filter: { readonly webhookId?: string; readonly state?: DeliveryState },
    limit: number,
    cursor?: string,
  ): Promise<Page<Delivery>>;
  /** For a ping, which follows from no change. */
  add(delivery: Delivery): Promise<void>;
  /** Receivers with deliveries due: by turns among workspaces, and among the hosts of each; longest due first. */
  receivers(now: Millis, limit: number): Promise<readonly Receiver[]>;
  /** Due ones of one receiver, longest due first. None of a change that is not yet durable and told. */
  due(receiver: Receiver, now: Millis, limit: number): Promise<readonly Delivery[]>;
  /** When the next pending one is due, of those due later than `after` when that is given; null: none is. */
  next(after?: Millis): Promise<Millis | null>;
  /** How many of this webhook are pending; of all webhooks and URLs without one. */
  waiting(webhookId?: string): Promise<number>;
  /** After a restart every pending delivery is due at once; those of one receiver when it has recovered. */
  dueNow(now: Millis, receiver?: Receiver): Promise<void>;
  /** Notes a try and what follows. `body`: what was sent. Null: it is no longer pending (its webhook was deleted). */
  attempted(
    delivery: Delivery,
    attempt: DeliveryAttempt,
    then: { readonly state: DeliveryState; readonly nextAttemptAt: Millis | null; readonly body: string },
  ): Promise<Delivery | null>;
  /** Pending again, due at once, whatever it was; its day (`since`) begins anew. Null: there is none. */
  redeliver(workspaceId: WorkspaceId, id: string, now: Millis): Promise<Delivery | null>;
  /** Forgets deliveries that ended before; returns how many. */
  prune(before: Millis): Promise<number>;
}

export function createWebhooks({ read }: Database, writer: Writer, clock: Pick<Clock, 'now'>): Webhooks {
  return {
    create: (hook) =>
      writer.submit({
        ...about(hook.workspaceId),
        async run({ db, outbox }) {
          await db.insertInto('webhooks').values(webhookRow(hook)).execute();
          await outbox.reload(hook.workspaceId);
        },
      }),
    async get(workspaceId, id) {
      const query = read.selectFrom('webhooks').selectAll().where('id', '=', id);
      const row = await query.where('workspace_id', '=', workspaceId).executeTakeFirst();
      return row === undefined ? null : toWebhook(row);
    },
    async list(workspaceId, limit, cursor) {
      const [at, id] = cursor === undefined ? [Number.MAX_SAFE_INTEGER, ''] : placeOf(cursor);
      const { rows } = await sql<WebhookRow>`select * from webhooks
        where workspace_id = ${workspaceId} and (created_at, id) < (${at}, ${id})
        order by created_at desc, id desc limit ${limit + 1}`.execute(read);
      return pageOf(rows, limit, (row) => [row.created_at, row.id], toWebhook);
    },
    update: (workspaceId, id, patch) =>
      writer.submit({
        ...about(workspaceId),
        async run(tx) {
          const row = await found(tx, workspaceId, id);
          if (row === undefined) return null;
          const next = { ...toWebhook(row), ...patch };
          await tx.db.updateTable('webhooks').set(webhookRow(next)).where('id', '=', id).execute();
          if (next.url !== row.url) await redirect(tx, workspaceId, id, next.url);
          await tx.outbox.reload(workspaceId);
          return next;
        },
      }),
    delete: (workspaceId, id) =>
      writer.submit({
        ...about(workspaceId),
        async run(tx) {
          if ((await found(tx, workspaceId, id)) === undefined) return false;
          await tx.flush();
          await tx.db.deleteFrom('webhooks').where('id', '=', id).execute();
          await sql`update deliveries set state = 'dead', next_attempt_at = null, ended_at = ${clock.now()}
            where webhook_id = ${id} and state = 'pending'`.execute(tx.db);
          await tx.outbox.reload(workspaceId);
          return true;
        },
      }),
    secrets: async (workspaceId) => secretsOf(read, workspaceId),
    putSecrets: (workspaceId, before, after) =>
      writer.submit({
        ...about(workspaceId),
        async run({ db }) {
          const now = await secretsOf(db, workspaceId);
          if (JSON.stringify(now) !== JSON.stringify(before)) return false;
          await sql`insert into hook_secrets (workspace_id, secrets) values (${workspaceId}, ${JSON.stringify(after)})
            on conflict (workspace_id) do update set secrets = excluded.secrets`.execute(db);
          return true;
        },
      }),
  };
}

const about = (id: WorkspaceId) => ({ weight: 1, needs: { workspaces: [], keys: [], claims: [], hooks: [id] } });

const found = ({ db }: Transaction, workspaceId: WorkspaceId, id: string) =>
  db.selectFrom('webhooks').selectAll().where('id', '=', id).where('workspace_id', '=', workspaceId).executeTakeFirst();

/** What waits goes to the new address. */
async function redirect(tx: Transaction, workspaceId: WorkspaceId, id: string, url: string): Promise<void> {
  await tx.flush();
  await sql`update deliveries set url = ${url}, receiver = ${receiverOf(workspaceId, url)}
    where webhook_id = ${id} and state = 'pending'`.execute(tx.db);
}

async function secretsOf(db: Database['read'], workspaceId: WorkspaceId): Promise<readonly Secret[]> {
  const query = db.selectFrom('hook_secrets').select('secrets').where('workspace_id', '=', workspaceId);
  const row = await query.executeTakeFirst();
  return row === undefined ? [] : (JSON.parse(row.secrets) as Secret[]);
}

// Batches and webhooks. An item is a generation that stands for a place in a batch, so the batch itself needs one row
// and its counts need one index. Items kept back wait in no lane: the index of the waiting leaves them out.

import { sql, type Transaction } from 'kysely';
import type { Database } from '../database.ts';
import type { Schema } from '../schema.ts';

export async function batchesAndWebhooks(db: Transaction<Schema>, { types, clustered }: Database): Promise<void> {
  const { text, integer } = types;
  const statements = [
    sql`alter table generations add column item ${integer}`,
    sql`alter table generations add column item_key ${text}`,
    sql`alter table generations add column reserved ${integer} not null default 0`,
    /** What is open has reserved what its ledger line says, and has neither been charged nor given back. */
    sql`update generations set reserved = coalesce((
      select l.amount from ledger l where l.generation_id = generations.id and l.kind = 'reserve'), 0)
      where status in ('queued', 'running')`,
    sql`create unique index generations_by_item on generations (batch_id, item) where item is not null`,
    sql`create index generations_by_item_key on generations (item_key) where item_key is not null`,
    sql`create index generations_tally on generations (batch_id, status, item, charged, reserved, node_ms)
      where item is not null`,
    /** Columns that are constant here are in it so that it holds all that counting asks for. */
    sql`create index generations_held on generations (batch_id, status, item, lane)
      where item is not null and status = 'queued' and lane is null`,
    sql`drop index generations_waiting`,
    sql`create index generations_waiting on generations (lane, id) where lane is not null`,

    sql`create table batches (
      id ${text} primary key, workspace_id ${text} not null references workspaces (id), status ${text} not null,
      seq ${integer} not null, created_at ${integer} not null, finished_at ${integer}, total ${integer} not null,
      projected ${integer} not null, breaker ${text} not null, asked ${text} not null, claim ${text} unique,
      request_hash ${text})`,
    sql`create index batches_by_age on batches (workspace_id, created_at, id)`,
    sql`create index batches_open on batches (created_at, id) where finished_at is null`,
    sql`create table batch_attached (
      batch_id ${text} not null, item ${integer} not null, item_key ${text} not null, generation_id ${text} not null,
      created_at ${integer} not null, primary key (batch_id, item)) ${clustered}`,
    sql`create index batch_attached_by_age on batch_attached (batch_id, created_at, generation_id, item)`,
    sql`create index batch_attached_by_item_key on batch_attached (item_key)`,

    sql`create table webhooks (
      id ${text} primary key, workspace_id ${text} not null references workspaces (id), url ${text} not null,
      events ${text} not null, description ${text}, secrets ${text} not null, created_at ${integer} not null)`,
    sql`create index webhooks_by_age on webhooks (workspace_id, created_at, id)`,
    sql`create table hook_secrets (workspace_id ${text} primary key references workspaces (id), secrets ${text} not null)`,
    sql`create table deliveries (
      id ${text} primary key, workspace_id ${text} not null references workspaces (id), webhook_id ${text},
      url ${text} not null, receiver ${text} not null, event ${text} not null, generation_id ${text}, batch_id ${text},
      state ${text} not null, created_at ${integer} not null, since ${integer} not null, next_attempt_at ${integer},
      ended_at ${integer}, body ${text}, attempts ${text} not null)`,
    sql`create index deliveries_due on deliveries (receiver, next_attempt_at, id) where state = 'pending'`,
    sql`create index deliveries_next on deliveries (next_attempt_at) where state = 'pending'`,
    sql`create index deliveries_by_workspace on deliveries (workspace_id, state, created_at, id)`,
    sql`create index deliveries_by_webhook on deliveries (webhook_id, state, created_at, id)`,
    sql`create index deliveries_ended on deliveries (ended_at) where ended_at is not null`,
  ];
  for (const statement of statements) await statement.execute(db);
}

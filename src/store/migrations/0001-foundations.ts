// The first tables. Every listing, lane and sweep has an index that ends in the order it is read in, so that cost
// follows what is asked for and not what is stored. Partial indexes keep the finished out of the way of the waiting.

import { sql, type Transaction } from 'kysely';
import type { Database } from '../database.ts';
import type { Schema } from '../schema.ts';

export async function foundations(db: Transaction<Schema>, { types, clustered }: Database): Promise<void> {
  const { text, integer } = types;
  const statements = [
    sql`create table workspaces (
      id ${text} primary key, name ${text} not null, created_at ${integer} not null, deleted_at ${integer},
      concurrency_limit ${integer} not null, queue_limit ${integer} not null, requests_per_minute ${integer},
      provenance ${integer} not null, balance ${integer} not null,
      reserved ${integer} not null check (reserved >= 0), queued ${integer} not null check (queued >= 0),
      running ${integer} not null check (running >= 0))`,
    sql`create table keys (
      id ${text} primary key, workspace_id ${text} not null references workspaces (id), name ${text} not null,
      hash ${text} not null unique, scopes ${text} not null, models ${text}, expires_at ${integer},
      requests_per_minute ${integer}, spend_cap ${integer}, spend ${integer} not null, created_at ${integer} not null)`,
    sql`create index keys_by_workspace on keys (workspace_id, created_at, id)`,

    sql`create table generations (
      id ${text} primary key, workspace_id ${text} not null references workspaces (id), key_id ${text} not null,
      batch_id ${text}, model ${text} not null, status ${text} not null, seq ${integer} not null, lane ${text},
      not_before ${integer}, start_by ${integer}, created_at ${integer} not null, finished_at ${integer}, swept_at ${integer},
      charged ${integer} not null, outputs ${integer} not null, node_ms ${integer} not null, last_node ${text},
      submitted ${text} not null, changes ${text})`,
    sql`create index generations_by_age on generations (workspace_id, created_at, id)`,
    sql`create index generations_by_status on generations (workspace_id, status, created_at, id)`,
    sql`create index generations_by_model on generations (workspace_id, model, created_at, id)`,
    sql`create index generations_by_batch on generations (batch_id, created_at, id) where batch_id is not null`,
    sql`create index generations_waiting on generations (lane, id) where status = 'queued'`,
    sql`create index generations_deadline on generations (start_by) where status = 'queued' and start_by is not null`,
    sql`create index generations_running on generations (id) where status = 'running'`,
    sql`create index generations_charged on generations (workspace_id, finished_at, id) where status = 'succeeded'`,
    sql`create index generations_with_files on generations (finished_at, id)
      where status = 'succeeded' and swept_at is null`,
    sql`create table generation_metadata (
      workspace_id ${text} not null, key ${text} not null, value ${text} not null, created_at ${integer} not null,
      generation_id ${text} not null references generations (id),
      primary key (workspace_id, key, value, created_at, generation_id)) ${clustered}`,
    sql`create table idempotency (
      id ${text} primary key, generation_id ${text} not null, request_hash ${text} not null,
      created_at ${integer} not null) ${clustered}`,
    sql`create index idempotency_by_age on idempotency (created_at)`,

    sql`create table log (
      id integer primary key, cursor ${integer} not null, entry ${integer} not null, pruned ${integer} not null)`,
    sql`insert into log (id, cursor, entry, pruned) values (1, 0, 0, 0)`,
    sql`create table events (
      cursor ${integer} primary key, workspace_id ${text} not null, generation_id ${text} not null, batch_id ${text},
      seq ${integer} not null, at ${integer} not null, event ${text} not null, unique (generation_id, seq))`,
    sql`create index events_by_workspace on events (workspace_id, cursor)`,
    sql`create index events_by_batch on events (batch_id, cursor) where batch_id is not null`,
    sql`create table ledger (
      number ${integer} primary key, workspace_id ${text} not null references workspaces (id), generation_id ${text},
      kind ${text} not null, amount ${integer} not null, note ${text}, at ${integer} not null,
      unique (generation_id, kind))`,

    sql`create table uploads (
      id ${text} primary key, workspace_id ${text} not null references workspaces (id), blob ${text} not null,
      sha256 ${text} not null, media_type ${text} not null, width ${integer} not null, height ${integer} not null,
      bytes ${integer} not null, created_at ${integer} not null, used_at ${integer} not null)`,
    sql`create index uploads_by_use on uploads (used_at, id)`,
    sql`create table blob_refs (
      blob ${text} not null, owner ${text} not null, role ${text} not null,
      primary key (blob, owner, role)) ${clustered}`,
    sql`create index blob_refs_by_owner on blob_refs (owner)`,

    sql`create table nodes (id ${text} primary key, spec ${text} not null, draining ${integer} not null)`,
    sql`create table meta (key ${text} primary key, value ${text} not null)`,
  ];
  for (const statement of statements) await statement.execute(db);
}

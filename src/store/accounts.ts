// Workspaces and their keys. A deleted workspace stays as a tombstone, because its generations, files and ledger lines
// still name it; its id is never given out again.

import { hash } from 'node:crypto';
import { sql } from 'kysely';
import type { Caller, Key, Scope, Workspace, WorkspaceLimits } from '../domain/caller.ts';
import { GatewayError } from '../domain/failure.ts';
import type { KeyId, Millicredits, Millis, ModelId, WorkspaceId } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';
import type { Database } from './database.ts';
import { type Page, pageOf, placeOf } from './pages.ts';
import { text } from './rows.ts';
import type { KeyRow, WorkspaceRow } from './schema.ts';
import { statement } from './statements.ts';
import type { Write, Writer } from './writer.ts';

export interface NewKey extends Omit<Key, 'id' | 'createdAt'> {
  /** sha256 of the key text, hex. The text itself is never stored. */
  readonly hash: string;
}

export interface NewWorkspace {
  readonly id: WorkspaceId;
  readonly name: string;
  readonly credits: Millicredits;
  readonly limits: WorkspaceLimits;
  readonly provenance: boolean;
}

export interface Accounts {
  /** Throws GatewayError('conflict') when the id was ever taken. */
  createWorkspace(w: NewWorkspace, at: Millis): Promise<Workspace>;
  workspace(id: WorkspaceId): Promise<Workspace | null>;
  workspaces(limit: number, cursor?: string): Promise<Page<Workspace>>;
  /** Its webhooks go with it. Throws GatewayError('conflict') while it has queued or running generations, or a batch that has not ended. */
  deleteWorkspace(id: WorkspaceId): Promise<boolean>;
  /** Throws GatewayError('not_found') without such a workspace, 'conflict' when the hash is taken. */
  createKey(key: NewKey, at: Millis): Promise<Key>;
  keys(workspaceId: WorkspaceId, limit: number, cursor?: string): Promise<Page<Key>>;
  deleteKey(workspaceId: WorkspaceId, id: KeyId): Promise<boolean>;
  /** The key with this hash and its own workspace. Whether it has expired is the caller's to see. */
  authenticate(hash: string): Promise<Caller | null>;
}

type Authenticated = KeyRow & { [column in keyof WorkspaceRow as `w_${column}`]: WorkspaceRow[column] };

export function createAccounts({ read }: Database, writer: Writer, clock: Pick<Clock, 'now'>): Accounts {
  const byHash = statement(sql<Authenticated>`
    select k.*, w.id as w_id, w.name as w_name, w.created_at as w_created_at,
      w.concurrency_limit as w_concurrency_limit, w.queue_limit as w_queue_limit,
      w.requests_per_minute as w_requests_per_minute, w.provenance as w_provenance
    from keys k join workspaces w on w.id = k.workspace_id where k.hash = ${''} and w.deleted_at is null`);
  const alive = () => read.selectFrom('workspaces').selectAll().where('deleted_at', 'is', null);

  return {
    createWorkspace: (w, at) => writer.submit(founding(w, at)),
    async workspace(id) {
      const row = await alive().where('id', '=', id).executeTakeFirst();
      return row === undefined ? null : toWorkspace(row);
    },
    async workspaces(limit, cursor) {
      const after = cursor === undefined ? sql<boolean>`1 = 1` : behind(cursor);
      const rows = await alive()
        .where(after)
        .orderBy('created_at')
        .orderBy('id')
        .limit(limit + 1)
        .execute();
      return pageOf(rows, limit, (row) => [row.created_at, row.id], toWorkspace);
    },
    deleteWorkspace: (id) => writer.submit(closing(id, clock.now())),
    createKey: (key, at) => writer.submit(cutting(key, at)),
    async keys(workspaceId, limit, cursor) {
      const after = cursor === undefined ? sql<boolean>`1 = 1` : behind(cursor);
      const query = read.selectFrom('keys').selectAll().where('workspace_id', '=', workspaceId).where(after);
      const rows = await query
        .orderBy('created_at')
        .orderBy('id')
        .limit(limit + 1)
        .execute();
      return pageOf(rows, limit, (row) => [row.created_at, row.id], toKey);
    },
    deleteKey: (workspaceId, id) =>
      writer.submit({
        ...about(workspaceId),
        async run({ db }) {
          const gone = await db
            .deleteFrom('keys')
            .where('workspace_id', '=', workspaceId)
            .where('id', '=', id)
            .execute();
          return gone[0]?.numDeletedRows === 1n;
        },
      }),
    async authenticate(keyHash) {
      const row = (await byHash(read, [keyHash])).rows[0];
      return row === undefined ? null : { key: toKey(row), workspace: toWorkspace(itsWorkspace(row)) };
    },
  };
}

const about = (id: WorkspaceId) => ({ weight: 1, needs: { workspaces: [id], keys: [], claims: [] } });

/** Oldest first: what comes after the last row seen. */
function behind(cursor: string) {
  const [at, id] = placeOf(cursor);
  return sql<boolean>`(created_at, id) > (${at}, ${id})`;
}

const founding = (w: NewWorkspace, at: Millis): Write<Workspace> => ({
  ...about(w.id),
  async run({ db, books }) {
    const row = workspaceRow(w, at);
    const added = await db
      .insertInto('workspaces')
      .values(row)
      .onConflict((c) => c.doNothing())
      .executeTakeFirst();
    if (added.numInsertedOrUpdatedRows !== 1n)
      throw new GatewayError('conflict', `There is a workspace ${w.id} already.`);
    await books.reload(w.id);
    const posting = { workspaceId: w.id, keyId: null, generationId: null, note: null, at };
    if (w.credits > 0) books.post(posting, [{ kind: 'grant', amount: w.credits }]);
    return toWorkspace(row);
  },
});

const closing = (id: WorkspaceId, at: Millis): Write<boolean> => ({
  ...about(id),
  async run(tx) {
    const { db, books } = tx;
    const account = books.workspace(id);
    if (account === undefined) return false;
    const busy = account.queued + account.running;
    if (busy > 0) throw new GatewayError('conflict', `The workspace has ${busy} queued or running generations.`);
    await tx.flush();
    const open = await db
      .selectFrom('batches')
      .select('id')
      .where('workspace_id', '=', id)
      .where('finished_at', 'is', null)
      .executeTakeFirst();
    if (open !== undefined) throw new GatewayError('conflict', `The batch ${open.id} has not ended.`);
    await db.deleteFrom('webhooks').where('workspace_id', '=', id).execute();
    await db.deleteFrom('hook_secrets').where('workspace_id', '=', id).execute();
    const dead = { state: 'dead', next_attempt_at: null, ended_at: at } as const;
    await db
      .updateTable('deliveries')
      .set(dead)
      .where('workspace_id', '=', id)
      .where('state', '=', 'pending')
      .execute();
    await db.deleteFrom('keys').where('workspace_id', '=', id).execute();
    await db.updateTable('workspaces').set({ deleted_at: at }).where('id', '=', id).execute();
    await Promise.all([books.reload(id), tx.outbox.reload(id)]);
    return true;
  },
});

const cutting = (key: NewKey, at: Millis): Write<Key> => ({
  ...about(key.workspaceId),
  async run({ db, books }) {
    if (books.workspace(key.workspaceId) === undefined) {
      throw new GatewayError('not_found', `There is no workspace ${key.workspaceId}.`);
    }
    const row = keyRow(key, at);
    const added = await db
      .insertInto('keys')
      .values(row)
      .onConflict((c) => c.doNothing())
      .executeTakeFirst();
    if (added.numInsertedOrUpdatedRows !== 1n) throw new GatewayError('conflict', 'This key exists already.');
    return toKey(row);
  },
});

const workspaceRow = (w: NewWorkspace, at: Millis): WorkspaceRow => ({
  id: w.id,
  name: text(w.name),
  created_at: at,
  deleted_at: null,
  concurrency_limit: w.limits.concurrency,
  queue_limit: w.limits.queue,
  requests_per_minute: w.limits.requestsPerMinute,
  provenance: w.provenance ? 1 : 0,
  balance: 0,
  reserved: 0,
  queued: 0,
  running: 0,
});

const toWorkspace = (
  row: Pick<
    WorkspaceRow,
    'id' | 'name' | 'created_at' | 'concurrency_limit' | 'queue_limit' | 'requests_per_minute' | 'provenance'
  >,
): Workspace => ({
  id: row.id,
  name: row.name,
  createdAt: row.created_at,
  limits: { concurrency: row.concurrency_limit, queue: row.queue_limit, requestsPerMinute: row.requests_per_minute },
  provenance: row.provenance === 1,
});

/** The id follows from the key's hash, hashed once more so that it tells nothing of it. */
const keyRow = (key: NewKey, at: Millis): KeyRow => ({
  id: `key_${hash('sha256', key.hash).slice(0, 24)}`,
  workspace_id: key.workspaceId,
  name: text(key.name),
  hash: key.hash,
  scopes: JSON.stringify(key.scopes),
  models: key.models === null ? null : JSON.stringify(key.models),
  expires_at: key.expiresAt,
  requests_per_minute: key.requestsPerMinute,
  spend_cap: key.spendCap,
  spend: 0,
  created_at: at,
});

const toKey = (row: KeyRow): Key => ({
  id: row.id,
  workspaceId: row.workspace_id,
  name: row.name,
  scopes: JSON.parse(row.scopes) as Scope[],
  models: row.models === null ? null : (JSON.parse(row.models) as ModelId[]),
  expiresAt: row.expires_at,
  requestsPerMinute: row.requests_per_minute,
  spendCap: row.spend_cap,
  createdAt: row.created_at,
});

const itsWorkspace = (row: Authenticated): Parameters<typeof toWorkspace>[0] => ({
  id: row.w_id,
  name: row.w_name,
  created_at: row.w_created_at,
  concurrency_limit: row.w_concurrency_limit,
  queue_limit: row.w_queue_limit,
  requests_per_minute: row.w_requests_per_minute,
  provenance: row.w_provenance,
});

// The accounts one transaction touches, held in memory while it runs: read once under the log's lock, moved by entries
// and transitions, written back once. So a group of any size costs a few statements, and every decision sees those
// before it in the same group.

import { type Kysely, sql } from 'kysely';
import type { Entry } from '../domain/event.ts';
import { type Generation, isHeld } from '../domain/generation.ts';
import type { KeyId, WorkspaceId } from '../domain/units.ts';
import type { EntryRow, KeyRow, Schema, WorkspaceRow } from './schema.ts';
import { finder, inserter, statement } from './statements.ts';

export interface Account {
  readonly id: WorkspaceId;
  readonly queueLimit: number;
  balance: number;
  reserved: number;
  queued: number;
  running: number;
}

export interface KeyAccount {
  readonly id: KeyId;
  readonly expiresAt: number | null;
  readonly cap: number | null;
  spend: number;
}

/** Whose credits move, for what, when. `generationId` and `keyId` are null for grants. */
export interface Posting {
  readonly workspaceId: WorkspaceId;
  readonly keyId: KeyId | null;
  readonly generationId: string | null;
  readonly note: string | null;
  readonly at: number;
}

export interface Books {
  load(workspaces: readonly WorkspaceId[], keys: readonly KeyId[]): Promise<void>;
  /** Looks again after a workspace was made or deleted. */
  reload(workspace: WorkspaceId): Promise<void>;
  /** Undefined: there is none, or it was deleted, or it was not loaded. */
  workspace(id: WorkspaceId): Account | undefined;
  key(id: KeyId): KeyAccount | undefined;
  /** Moves credits and keeps the line. Throws (our own bug) on an account that was not loaded. */
  post(posting: Posting, entries: readonly Entry[]): void;
  /** Counts a generation out of one status and into another. Held ones wait in no lane and count nowhere. */
  move(before: Generation | null, after: Generation): void;
  /** Writes back what moved; the highest entry number is returned. */
  flush(): Promise<number>;
}

/** Statements of one store: their texts depend on the engine. */
export function bookkeeping() {
  const workspaces = finder(
    sql<Pick<WorkspaceRow, 'id' | 'queue_limit' | 'balance' | 'reserved' | 'queued' | 'running'>>`
      select id, queue_limit, balance, reserved, queued, running from workspaces where deleted_at is null and id in`,
  );
  const keys = finder(
    sql<Pick<KeyRow, 'id' | 'expires_at' | 'spend_cap' | 'spend'>>`
      select id, expires_at, spend_cap, spend from keys where id in`,
  );
  const saveWorkspace = statement(
    sql`update workspaces set balance = ${0}, reserved = ${0}, queued = ${0}, running = ${0} where id = ${''}`,
  );
  const saveKey = statement(sql`update keys set spend = ${0} where id = ${''}`);
  const insertEntries = inserter('ledger', ['number', 'workspace_id', 'generation_id', 'kind', 'amount', 'note', 'at']);

  return (db: Kysely<Schema>, lastEntry: number): Books => {
    const accounts = new Map<WorkspaceId, Account>();
    const spending = new Map<KeyId, KeyAccount>();
    const asked = { workspaces: new Set<string>(), keys: new Set<string>() };
    const moved = new Set<Account>();
    const spent = new Set<KeyAccount>();
    let lines: EntryRow[] = [];
    let number = lastEntry;

    const must = (id: WorkspaceId): Account => {
      const account = accounts.get(id);
      if (account === undefined) throw new Error(`workspace ${id} is not in the books`);
      moved.add(account);
      return account;
    };
    const count = (account: Account, g: Generation, by: number) => {
      if (g.state.status === 'queued' && !isHeld(g)) account.queued += by;
      if (g.state.status === 'running') account.running += by;
    };
    const apply = (account: Account, key: KeyAccount | undefined, { kind, amount }: Entry) => {
      if (kind === 'grant') account.balance += amount;
      if (kind === 'charge') account.balance -= amount;
      if (kind === 'reserve') account.reserved += amount;
      if (kind === 'charge' || kind === 'release') account.reserved -= amount;
      if (key === undefined) return;
      if (kind === 'reserve') key.spend += amount;
      if (kind === 'release') key.spend -= amount;
      spent.add(key);
    };

    const open = async (ids: readonly WorkspaceId[]) => {
      for (const row of await workspaces(db, ids)) {
        const { id, queue_limit: queueLimit, balance, reserved, queued, running } = row;
        accounts.set(id, { id, queueLimit, balance, reserved, queued, running });
      }
    };

    return {
      async load(workspaceIds, keyIds) {
        await open(unasked(workspaceIds, asked.workspaces));
        for (const row of await keys(db, unasked(keyIds, asked.keys))) {
          const { id, expires_at: expiresAt, spend_cap: cap, spend } = row;
          spending.set(id, { id, expiresAt, cap, spend });
        }
      },
      async reload(id) {
        accounts.delete(id);
        await open([id]);
      },
      workspace: (id) => accounts.get(id),
      key: (id) => spending.get(id),
      post({ workspaceId, keyId, generationId, note, at }, entries) {
        for (const entry of entries) {
          apply(must(workspaceId), keyId === null ? undefined : spending.get(keyId), entry);
          number++;
          lines.push({ number, workspace_id: workspaceId, generation_id: generationId, ...entry, note, at });
        }
      },
      move(before, after) {
        const account = must(after.workspaceId);
        if (before !== null) count(account, before, -1);
        count(account, after, 1);
      },
      async flush() {
        for (const a of moved) await saveWorkspace(db, [a.balance, a.reserved, a.queued, a.running, a.id]);
        for (const k of spent) await saveKey(db, [k.spend, k.id]);
        await insertEntries(db, lines);
        moved.clear();
        spent.clear();
        lines = [];
        return number;
      },
    };
  };
}

/** Those not asked for before, each once; they are from now on. */
export function unasked(ids: Iterable<string>, asked: Set<string>): string[] {
  const fresh = [...new Set(ids)].filter((id) => !asked.has(id));
  for (const id of fresh) asked.add(id);
  return fresh;
}

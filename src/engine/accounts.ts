// Workspaces, keys and credits as doors ask for them. Keys are shown once and stored hashed; withdrawing credits cancels
// the newest queued work until what is reserved is covered again.

import { createHash } from 'node:crypto';
import { setImmediate as turn } from 'node:timers/promises';
import type { Caller, Key, Scope, Workspace, WorkspaceLimits } from '../domain/caller.ts';
import { may } from '../domain/caller.ts';
import { failure, GatewayError } from '../domain/failure.ts';
import type { GenerationId, KeyId, Millicredits, Millis, WorkspaceId } from '../domain/units.ts';
import type { Credits } from '../store/store.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

export const STUDIO: WorkspaceId = 'studio';
const AT_ONCE = 200;

const OF_SETTINGS =
  'This is the admin key the gateway was started with. To replace it, set another (DARKROOM_ADMIN_KEY, or the file admin-key in the data folder) and start the gateway again.';
const LAST_ADMIN = 'This is the last admin key of studio. Make another one first.';

export interface NewKeyRequest {
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly models: readonly string[] | null;
  readonly expiresAt: Millis | null;
  readonly requestsPerMinute: number | null;
  readonly spendCap: Millicredits | null;
}

export interface NewWorkspaceRequest {
  readonly name: string;
  readonly credits: Millicredits;
  readonly limits: Partial<WorkspaceLimits>;
  readonly provenance?: boolean;
}

export const hashKey = (secret: string): string => createHash('sha256').update(secret).digest('hex');

export interface Accounts {
  /** Workspaces seen, for the scheduler: limits without asking the store each time. */
  workspaceNow(id: WorkspaceId): Workspace | undefined;
  workspaceOf(id: WorkspaceId): Promise<Workspace | null>;
  /** Admin keys act in `studio`, whichever workspace they were made in. */
  authenticate(hash: string): Promise<Caller | null>;
  actIn(caller: Caller, id: WorkspaceId): Promise<Caller>;
  createWorkspace(w: NewWorkspaceRequest): Promise<Workspace>;
  workspace(id: WorkspaceId): Promise<Workspace>;
  deleteWorkspace(id: WorkspaceId): Promise<void>;
  createKey(workspaceId: WorkspaceId, key: NewKeyRequest): Promise<{ readonly key: Key; readonly secret: string }>;
  deleteKey(workspaceId: WorkspaceId, keyId: string): Promise<void>;
  grant(workspaceId: WorkspaceId, amount: Millicredits, note: string | null): Promise<Credits>;
}

/** `own`: the admin key of the settings, which `foundStudio` answers. */
export function createAccounts({ store, system, settings }: Rooms, recorder: Recorder, own: KeyId | null): Accounts {
  const { clock, random } = system;
  const seen = new Map<WorkspaceId, Workspace>();

  const workspaceOf = async (id: WorkspaceId) => {
    const known = seen.get(id);
    if (known) return known;
    const found = await store.accounts.workspace(id);
    if (found) seen.set(id, found);
    return found;
  };
  const workspace = async (id: WorkspaceId) => {
    const found = await workspaceOf(id);
    if (found === null) throw new GatewayError('not_found', `There is no workspace ${id}.`);
    return found;
  };

  /** Newest queued first, until what is reserved is covered by the balance. */
  const cover = async (id: WorkspaceId) => {
    const why = failure('insufficient_credits', "The workspace's credits were withdrawn.");
    let before: GenerationId | undefined;
    for (;;) {
      const ids = await store.generations.queuedIds(id, AT_ONCE, before);
      for (const queued of ids) {
        const { balance, reserved } = await store.ledger.credits(id);
        if (reserved <= balance) return;
        const g = await recorder.get(queued);
        if (g?.state.status === 'queued' && g.reserved > 0)
          await recorder.append(g, { type: 'cancelled', at: clock.now(), failure: why });
      }
      if (ids.length < AT_ONCE) return;
      before = ids.at(-1);
      await turn();
    }
  };

  /** Throws conflict for a key without which nobody could administer the gateway before its next start. */
  const admitDeletion = async (keyId: string) => {
    const live = (key: Key) => key.expiresAt === null || key.expiresAt > clock.now();
    const keys = await Array.fromAsync(everyKey(store.accounts));
    const others = keys.filter((key) => key.id !== keyId && key.scopes.includes('admin') && live(key));
    const found = keys.find((key) => key.id === keyId);
    if (keyId === own) throw new GatewayError('conflict', OF_SETTINGS);
    if (found?.scopes.includes('admin') && others.length === 0) throw new GatewayError('conflict', LAST_ADMIN);
  };

  return {
    workspaceNow: (id) => seen.get(id),
    workspaceOf,
    async authenticate(hash) {
      const caller = await store.accounts.authenticate(hash);
      if (caller === null) return null;
      const { expiresAt } = caller.key;
      if (expiresAt !== null && expiresAt <= clock.now()) return null;
      const home = may(caller, 'admin') ? await workspaceOf(STUDIO) : null;
      return home === null ? caller : { ...caller, workspace: home };
    },
    async actIn(caller, id) {
      if (id === caller.workspace.id) return caller;
      if (!may(caller, 'admin')) throw new GatewayError('forbidden', 'Only an admin key may act in another workspace.');
      return { key: caller.key, workspace: await workspace(id) };
    },
    createWorkspace: ({ name, credits, limits, provenance = true }) => {
      const now = clock.now();
      const id = `ws_${random.ulid(now)}`;
      return store.accounts.createWorkspace(
        { id, name, credits, limits: { ...settings.limits, ...limits }, provenance },
        now,
      );
    },
    workspace,
    async deleteWorkspace(id) {
      if (id === STUDIO) throw new GatewayError('conflict', 'The workspace studio belongs to the admin key and stays.');
      if (!(await store.accounts.deleteWorkspace(id)))
        throw new GatewayError('not_found', `There is no workspace ${id}.`);
      seen.delete(id);
    },
    async createKey(workspaceId, key) {
      await workspace(workspaceId);
      const secret = `dk_${random.secret(24)}`;
      return {
        key: await store.accounts.createKey({ ...key, workspaceId, hash: hashKey(secret) }, clock.now()),
        secret,
      };
    },
    async deleteKey(workspaceId, keyId) {
      if (workspaceId === STUDIO) await admitDeletion(keyId);
      if (!(await store.accounts.deleteKey(workspaceId, keyId)))
        throw new GatewayError('not_found', `There is no key ${keyId}.`);
    },
    async grant(workspaceId, amount, note) {
      await workspace(workspaceId);
      const after = await store.ledger.grant(workspaceId, amount, note, clock.now());
      if (amount >= 0 || after.reserved <= after.balance) return after;
      await cover(workspaceId);
      return store.ledger.credits(workspaceId);
    },
  };
}

/** The workspace `studio`, and its admin key where the settings name one; the settings' former keys are withdrawn. Answers with the id of that key. */
export async function foundStudio({ store, system, settings }: Rooms, adminKey: string | null): Promise<KeyId | null> {
  const now = system.clock.now();
  if ((await store.accounts.workspace(STUDIO)) === null) {
    const { studioCredits: credits, limits, provenance } = settings;
    await store.accounts.createWorkspace({ id: STUDIO, name: 'studio', credits, limits, provenance }, now);
  }
  if (adminKey === null) return null;
  const hash = hashKey(adminKey);
  const rights = { scopes: ['admin'] as const, models: null, expiresAt: null, requestsPerMinute: null, spendCap: null };
  const key =
    (await store.accounts.authenticate(hash))?.key ??
    (await store.accounts.createKey({ workspaceId: STUDIO, name: 'admin', ...rights, hash }, now));
  await store.meta.remember(settingsKey(key.id), 'yes');
  for await (const other of everyKey(store.accounts)) {
    const replaced = other.id !== key.id && (await store.meta.get(settingsKey(other.id))) !== null;
    if (replaced) await store.accounts.deleteKey(STUDIO, other.id);
  }
  return key.id;
}

/** Marks a key that the settings gave, and not a person by way of the API. */
const settingsKey = (id: string): string => `settings-key/${id}`;

async function* everyKey(accounts: Rooms['store']['accounts']): AsyncIterable<Key> {
  let cursor: string | undefined;
  do {
    const page = await accounts.keys(STUDIO, 100, cursor);
    yield* page.data;
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
}

// The durable truth. One Kysely code over SQLite (node:sqlite, WAL, synchronous=FULL) and PostgreSQL. `insert` and
// `append` are the only writes to generations; each moves row, event, ledger and webhook deliveries in one transaction.
// Writes of one event-loop turn share one commit (group commit): an answer is given only after the fsync.

import type { Caller, Key, Workspace, WorkspaceLimits } from '../domain/caller.ts';
import type { GenerationEvent, StoredEvent } from '../domain/event.ts';
import type { Failure } from '../domain/failure.ts';
import type { Generation, Status } from '../domain/generation.ts';
import type { QueuedStub } from '../domain/lane.ts';
import type { NodeSpec } from '../domain/node.ts';
import type { Bytes, Cursor, GenerationId, KeyId, Millicredits, Millis, WorkspaceId } from '../domain/units.ts';

/** A write that happened: the generation after it and its place in the log. */
export interface Recorded {
  readonly generation: Generation;
  readonly stored: StoredEvent;
}

/**
 * What became of one submit.
 * replayed: the idempotency key's job, as it is now. refused: nothing was written (insufficient_credits, budget_exceeded,
 * queue_full, idempotency_conflict).
 */
export type Inserted =
  | ({ readonly outcome: 'inserted' } & Recorded)
  | { readonly outcome: 'replayed'; readonly generation: Generation }
  | { readonly outcome: 'refused'; readonly failure: Failure };

export interface Credits {
  readonly balance: Millicredits;
  readonly reserved: Millicredits;
}

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

export interface Page<T> {
  readonly data: readonly T[];
  /** Opaque continuation, or null at the end. */
  readonly next: string | null;
}

export interface EventFilter {
  readonly workspaceId: WorkspaceId;
  readonly generationIds?: readonly GenerationId[];
  readonly batchId?: string;
}

export type UsageGroup = 'day' | 'model' | 'node' | 'key' | 'batch' | { readonly metadata: string };

export interface UsageRow {
  readonly key: string | null;
  readonly jobs: number;
  readonly outputs: number;
  readonly credits: Millicredits;
  readonly nodeSeconds: number;
}

export interface Upload {
  /** `upl_` + ULID. */
  readonly id: string;
  readonly workspaceId: WorkspaceId;
  readonly blob: string;
  readonly sha256: string;
  readonly mediaType: string;
  readonly width: number;
  readonly height: number;
  readonly bytes: Bytes;
  readonly createdAt: Millis;
  readonly usedAt: Millis;
}

/** A finished output whose files may be swept. */
export interface SweepRow {
  readonly generationId: GenerationId;
  readonly finishedAt: Millis;
  readonly blobs: readonly string[];
}

export interface Generations {
  /** Inserts many in one transaction; results in order. Several with one new idempotency key: the first wins. */
  insert(drafts: readonly Generation[]): Promise<readonly Inserted[]>;
  /** The only write after insert. Compares `current.seq`; null when someone moved first. */
  append(current: Generation, event: GenerationEvent): Promise<Recorded | null>;
  get(id: GenerationId): Promise<Generation | null>;
  /** Newest first. `cursor`: a Page.next. Throws GatewayError('invalid_request') on a forged one. */
  list(filter: ListFilter, limit: number, cursor?: string): Promise<Page<Generation>>;
  /** Ids of queued generations, newest first (for cancelling by withdrawal of credits, or a batch). */
  queuedIds(workspaceId: WorkspaceId, limit: number): Promise<readonly GenerationId[]>;
  running(): Promise<readonly Generation[]>;
  /** All lanes with something queued, and how many. */
  lanes(): Promise<readonly { readonly lane: string; readonly queued: number }[]>;
  /** The first `limit` of a lane in order of age, due or not. `after`: continue behind this id. */
  window(lane: string, limit: number, after?: GenerationId): Promise<readonly QueuedStub[]>;
  /** Queued ones whose start deadline has passed, and the next deadline after `now`. */
  overdue(now: Millis, limit: number): Promise<{ readonly ids: readonly GenerationId[]; readonly next: Millis | null }>;
}

export interface Events {
  /** The newest cursor committed; 0 when there is none. */
  latest(): Promise<Cursor>;
  /** Events after a cursor, in order. Null: the cursor is unknown or older than what is kept. */
  after(cursor: Cursor, filter: EventFilter, limit: number): Promise<readonly StoredEvent[] | null>;
  /** The generation as it was right after its event number `seq` (re-folded from its events). */
  generationAt(id: GenerationId, seq: number): Promise<Generation | null>;
  /** Forgets events older than this. */
  prune(before: Millis): Promise<number>;
}

export interface Ledger {
  credits(workspaceId: WorkspaceId): Promise<Credits>;
  /** Adds or (negative) takes credits. Throws GatewayError('conflict') if the balance would fall below 0. */
  grant(workspaceId: WorkspaceId, amount: Millicredits, note: string | null, at: Millis): Promise<Credits>;
  /** Over generations charged in [from, to). */
  usage(
    workspaceId: WorkspaceId,
    from: Millis,
    to: Millis,
    group: UsageGroup | null,
  ): Promise<{ readonly data: readonly UsageRow[]; readonly total: UsageRow }>;
}

export interface NewKey extends Omit<Key, 'id' | 'createdAt'> {
  /** sha256 of the key text, hex. The text itself is never stored. */
  readonly hash: string;
}

export interface Accounts {
  createWorkspace(
    w: {
      readonly id: WorkspaceId;
      readonly name: string;
      readonly credits: Millicredits;
      readonly limits: WorkspaceLimits;
      readonly provenance: boolean;
    },
    at: Millis,
  ): Promise<Workspace>;
  workspace(id: WorkspaceId): Promise<Workspace | null>;
  workspaces(limit: number, cursor?: string): Promise<Page<Workspace>>;
  /** Throws GatewayError('conflict') while it has queued or running generations. */
  deleteWorkspace(id: WorkspaceId): Promise<boolean>;
  createKey(key: NewKey, at: Millis): Promise<Key>;
  keys(workspaceId: WorkspaceId, limit: number, cursor?: string): Promise<Page<Key>>;
  deleteKey(workspaceId: WorkspaceId, id: KeyId): Promise<boolean>;
  /** The key with this hash and its own workspace. */
  authenticate(hash: string): Promise<Caller | null>;
}

export interface Files {
  createUpload(upload: Upload): Promise<void>;
  /** Marks it used. */
  upload(workspaceId: WorkspaceId, id: string, now: Millis): Promise<Upload | null>;
  /** Deletes records of uploads unused since; returns their blobs. */
  sweepUploads(unusedSince: Millis): Promise<readonly string[]>;
  /** Oldest finished outputs that still have files. */
  sweepable(limit: number): Promise<readonly SweepRow[]>;
  /** Records that a generation's files are gone; returns the blobs nobody else refers to. */
  forgetFiles(id: GenerationId, at: Millis): Promise<readonly string[]>;
  /** Are this generation's files gone? */
  swept(id: GenerationId): Promise<boolean>;
}

export interface Store {
  readonly dialect: 'sqlite' | 'postgres';
  readonly generations: Generations;
  readonly events: Events;
  readonly ledger: Ledger;
  readonly accounts: Accounts;
  readonly files: Files;
  /** Nodes added at run time. */
  readonly nodes: {
    all(): Promise<readonly { readonly spec: NodeSpec; readonly draining: boolean }[]>;
    put(spec: NodeSpec, draining: boolean): Promise<void>;
    delete(id: string): Promise<boolean>;
  };
  /** Small durable facts (link secret, admin key hash …). `remember` writes only if absent and returns what stands. */
  readonly meta: {
    get(key: string): Promise<string | null>;
    remember(key: string, value: string): Promise<string>;
  };
  /**
   * Calls back after each commit of this process with what it recorded, in cursor order, before the promises of the
   * callers resolve. This is how stored events reach the watchers; nothing unstored ever does.
   */
  onCommit(listener: (recorded: readonly Recorded[]) => void): Disposable;
  /** Group commits so far, for metrics and tests. */
  readonly commits: number;
  close(): Promise<void>;
}

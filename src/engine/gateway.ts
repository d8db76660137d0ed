// The machine's front door: everything a door may ask. Doors parse and render; this decides.

import type { Readable } from 'node:stream';
import type { CatalogStatus } from '../catalog/catalog.ts';
import type { View } from '../contract/render.ts';
import type { GenerationRequest } from '../contract/generations.ts';
import type { Caller, Key, Scope, Workspace, WorkspaceLimits } from '../domain/caller.ts';
import type { StoredEvent } from '../domain/event.ts';
import type { Generation, Output, Status } from '../domain/generation.ts';
import type { Model, Route } from '../domain/model.ts';
import type { NodeSpec } from '../domain/node.ts';
import type { Cursor, GenerationId, Millicredits, Millis, NodeId, WorkspaceId } from '../domain/units.ts';
import type { NodeState } from '../fleet/fleet.ts';
import type { BlobStat } from '../media/media.ts';
import type { Credits, ListFilter, Page, Upload, UsageGroup, UsageRow } from '../store/store.ts';

export interface Submitted {
  readonly generation: Generation;
  /** An idempotency key answered with the job it had made. */
  readonly replayed: boolean;
  readonly credits: Credits;
}

export type Watched =
  | { readonly type: 'event'; readonly stored: StoredEvent; /** As it was right after the event. */ readonly generation: Generation }
  | { readonly type: 'progress'; readonly id: GenerationId; readonly workspaceId: WorkspaceId; readonly fraction: number; readonly message: string }
  /** Replay is done; live from here. */
  | { readonly type: 'ready'; readonly cursor: Cursor };

export interface WatchFilter {
  readonly workspaceId: WorkspaceId;
  readonly generationIds?: readonly GenerationId[];
  readonly batchId?: string;
  readonly progress: boolean;
}

export interface RouteView {
  readonly route: Route;
  readonly usable: boolean;
  readonly whyNot: string | null;
}

export interface ModelView {
  readonly model: Model;
  readonly aliases: readonly string[];
  readonly usable: boolean;
  readonly whyNot: string | null;
  readonly routes: readonly RouteView[];
}

export interface FileToServe {
  readonly stat: BlobStat;
  readonly sha256: string;
  readonly output: Output;
  open(range?: { readonly start: number; readonly end: number }): Promise<Readable>;
}

export interface Stats {
  readonly queued: number;
  readonly running: number;
  readonly nodes: readonly NodeState[];
  readonly catalog: CatalogStatus;
  /** Finished since start, per model and status. */
  readonly finished: readonly { readonly model: string; readonly status: Status; readonly count: number }[];
  readonly creditsCharged: Millicredits;
  readonly commits: number;
}

export interface NewKeyRequest {
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly models: readonly string[] | null;
  readonly expiresAt: Millis | null;
  readonly requestsPerMinute: number | null;
  readonly spendCap: Millicredits | null;
}

export interface Gateway {
  /** `hash`: sha256 of the key text, hex. Null: no such key, or expired. */
  authenticate(hash: string): Promise<Caller | null>;
  /** An admin acting in another workspace. Throws GatewayError('not_found'). */
  actIn(caller: Caller, workspaceId: WorkspaceId): Promise<Caller>;

  /** Durable before it resolves. Throws GatewayError with the contract's codes; a refused submit leaves nothing behind. */
  submit(caller: Caller, request: GenerationRequest): Promise<Submitted>;
  /** Throws GatewayError('not_found') for foreign ids too. */
  get(caller: Caller, id: GenerationId): Promise<Generation>;
  /** Resolves when final, or after `ms` with the state as it is then. */
  wait(caller: Caller, id: GenerationId, ms: Millis, signal: AbortSignal): Promise<Generation>;
  list(caller: Caller, filter: Omit<ListFilter, 'workspaceId'>, limit: number, cursor?: string): Promise<Page<Generation>>;
  /** Idempotent; a final one comes back unchanged. Answers once committed; the node is cleaned up afterwards. */
  cancel(caller: Caller, id: GenerationId): Promise<Generation>;
  /** Progress, queue place, estimate and links of a generation now. `baseUrl` without trailing slash. */
  view(g: Generation, baseUrl: string): View;
  /** Replay from `cursor` (exclusive), then live; without one, live only. Throws GatewayError('invalid_request') on an unknown or expired cursor. A consumer that lags beyond its bound loses progress first; if it lags further the iterator throws GatewayError('rate_limited'). */
  watch(filter: WatchFilter, cursor: Cursor | null, signal: AbortSignal): AsyncIterable<Watched>;

  models(): { readonly data: readonly ModelView[]; readonly catalog: CatalogStatus };
  model(id: string): ModelView;
  credits(caller: Caller): Promise<Credits>;
  readonly usdPerCredit: number;
  usage(caller: Caller, from: Millis, to: Millis, group: UsageGroup | null): Promise<{ readonly data: readonly UsageRow[]; readonly total: UsageRow }>;
  upload(caller: Caller, bytes: Readable, signal: AbortSignal): Promise<Upload>;
  /** Checks the link. Throws GatewayError 'forbidden' (forged, expired) or 'not_found' (swept). */
  file(id: GenerationId, index: number, what: 'output' | 'thumbnail', expires: Millis, signature: string): Promise<FileToServe>;

  nodes(): readonly NodeState[];
  addNode(spec: NodeSpec): Promise<NodeState>;
  drainNode(id: NodeId): Promise<NodeState>;
  resumeNode(id: NodeId): Promise<NodeState>;
  removeNode(id: NodeId): Promise<void>;

  createWorkspace(w: { readonly name: string; readonly credits: Millicredits; readonly limits: Partial<WorkspaceLimits>; readonly provenance?: boolean }): Promise<Workspace>;
  workspace(id: WorkspaceId): Promise<Workspace>;
  workspaces(limit: number, cursor?: string): Promise<Page<Workspace>>;
  deleteWorkspace(id: WorkspaceId): Promise<void>;
  /** The key text is in the answer and nowhere else. */
  createKey(workspaceId: WorkspaceId, key: NewKeyRequest): Promise<{ readonly key: Key; readonly secret: string }>;
  keys(workspaceId: WorkspaceId, limit: number, cursor?: string): Promise<Page<Key>>;
  deleteKey(workspaceId: WorkspaceId, keyId: string): Promise<void>;
  grant(workspaceId: WorkspaceId, amount: Millicredits, note: string | null): Promise<Credits>;
  creditsOf(workspaceId: WorkspaceId): Promise<Credits>;

  /** Can something run? With the reason when not. */
  ready(): Promise<{ readonly ok: boolean; readonly reason: string | null }>;
  readonly draining: boolean;
  stats(): Stats;
}

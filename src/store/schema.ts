// The tables as Kysely sees them. Every column is text, an integer or null on both engines: JSON is kept as text, which
// (unlike jsonb) takes any string a caller may send, and comes back byte for byte.

import type { BatchStatus } from '../domain/batch.ts';
import type { DeliveryState, HookEvent } from '../domain/delivery.ts';
import type { EntryKind } from '../domain/event.ts';
import type { Status } from '../domain/generation.ts';

export interface GenerationRow {
  id: string;
  workspace_id: string;
  key_id: string;
  batch_id: string | null;
  /** Its place in its batch while it stands for it; null for all others and once another took its place. */
  item: number | null;
  /** Digest of its own key in that batch, as long as `item`. */
  item_key: string | null;
  model: string;
  status: Status;
  seq: number;
  /** Digest of the lane's key while it is queued and not held, null otherwise. */
  lane: string | null;
  not_before: number | null;
  start_by: number | null;
  created_at: number;
  finished_at: number | null;
  swept_at: number | null;
  reserved: number;
  charged: number;
  outputs: number;
  node_ms: number;
  last_node: string | null;
  /** The generation as inserted, JSON. Never updated. */
  submitted: string;
  /** What differs from it by now, JSON. */
  changes: string | null;
}

export interface EventRow {
  cursor: number;
  workspace_id: string;
  /** The batch's own id where a batch moved. */
  generation_id: string;
  batch_id: string | null;
  seq: number;
  at: number;
  event: string;
}

export interface EntryRow {
  number: number;
  workspace_id: string;
  /** Null for grants. Unique together with `kind`: each happens once. */
  generation_id: string | null;
  kind: EntryKind;
  amount: number;
  note: string | null;
  at: number;
}

export interface MetadataRow {
  workspace_id: string;
  key: string;
  value: string;
  created_at: number;
  generation_id: string;
}

export interface ClaimRow {
  /** Workspace and idempotency key. */
  id: string;
  generation_id: string;
  request_hash: string;
  created_at: number;
}

export interface BlobRefRow {
  blob: string;
  /** A generation's or an upload's id. */
  owner: string;
  role: 'input' | 'output' | 'upload';
}

export interface WorkspaceRow {
  id: string;
  name: string;
  created_at: number;
  deleted_at: number | null;
  concurrency_limit: number;
  queue_limit: number;
  requests_per_minute: number | null;
  provenance: number;
  /** Below zero when credits were withdrawn while work that had reserved them was running. */
  balance: number;
  reserved: number;
  queued: number;
  running: number;
}

export interface KeyRow {
  id: string;
  workspace_id: string;
  name: string;
  hash: string;
  scopes: string;
  models: string | null;
  expires_at: number | null;
  requests_per_minute: number | null;
  spend_cap: number | null;
  /** Reserved and charged through this key. */
  spend: number;
  created_at: number;
}

export interface UploadRow {
  id: string;
  workspace_id: string;
  blob: string;
  sha256: string;
  media_type: string;
  width: number;
  height: number;
  bytes: number;
  created_at: number;
  used_at: number;
}

export interface BatchRow {
  id: string;
  workspace_id: string;
  status: BatchStatus;
  seq: number;
  created_at: number;
  finished_at: number | null;
  total: number;
  projected: number;
  breaker: string;
  /** What was fixed when it was made, JSON. */
  asked: string;
  /** Digest of the idempotency key it was made with, until another batch takes the key over. */
  claim: string | null;
  request_hash: string | null;
}

/** A generation of elsewhere that stands for an item, because the item's key was its. */
export interface AttachedRow {
  batch_id: string;
  item: number;
  item_key: string;
  generation_id: string;
  /** The generation's. */
  created_at: number;
}

export interface WebhookRow {
  id: string;
  workspace_id: string;
  url: string;
  events: string;
  description: string | null;
  secrets: string;
  created_at: number;
}

export interface DeliveryRow {
  id: string;
  workspace_id: string;
  webhook_id: string | null;
  url: string;
  /** Digest of workspace and URL. */
  receiver: string;
  event: HookEvent | 'ping';
  generation_id: string | null;
  batch_id: string | null;
  state: DeliveryState;
  created_at: number;
  /** When its day began: at first, and again when it was sent anew. */
  since: number;
  next_attempt_at: number | null;
  ended_at: number | null;
  body: string | null;
  attempts: string;
}

/** One row. Taking its lock is what makes writers of all gateways follow one another, so cursors commit in order. */
export interface LogRow {
  id: number;
  cursor: number;
  entry: number;
  /** The newest cursor forgotten by `prune`. */
  pruned: number;
}

export interface Schema {
  generations: GenerationRow;
  events: EventRow;
  ledger: EntryRow;
  generation_metadata: MetadataRow;
  idempotency: ClaimRow;
  blob_refs: BlobRefRow;
  workspaces: WorkspaceRow;
  keys: KeyRow;
  uploads: UploadRow;
  batches: BatchRow;
  batch_attached: AttachedRow;
  webhooks: WebhookRow;
  hook_secrets: { workspace_id: string; secrets: string };
  deliveries: DeliveryRow;
  nodes: { id: string; spec: string; draining: number };
  meta: { key: string; value: string };
  log: LogRow;
}

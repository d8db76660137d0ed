// A generation ↔ its row. The row holds the generation as it was inserted, which never changes, and beside it only
// what differs by now: rewriting is small, and any earlier state can be folded again from the first and its events.

import { hash } from 'node:crypto';
import { type Generation, isFinal, isHeld } from '../domain/generation.ts';
import { laneOf } from '../domain/lane.ts';
import type { GenerationRow, MetadataRow } from './schema.ts';

type Changes = Pick<
  Generation,
  | 'seq'
  | 'model'
  | 'requestedModel'
  | 'quote'
  | 'warnings'
  | 'attempts'
  | 'avoid'
  | 'softened'
  | 'reserved'
  | 'charged'
  | 'state'
> &
  Partial<Pick<Generation, 'params'>>;

/** `item`: rows of before there were batches do not name it. */
export const toGeneration = (row: Pick<GenerationRow, 'submitted' | 'changes'>): Generation => ({
  item: null,
  ...(JSON.parse(row.submitted) as Omit<Generation, 'item'>),
  ...(row.changes === null ? {} : (JSON.parse(row.changes) as Changes)),
});

/** The columns that follow from a generation's present state, in the order of `MOVING`. */
export const MOVING = [
  'model',
  'status',
  'seq',
  'lane',
  'not_before',
  'finished_at',
  'reserved',
  'charged',
  'outputs',
  'node_ms',
  'last_node',
] as const satisfies readonly (keyof GenerationRow)[];

export function movingColumns(g: Generation): Pick<GenerationRow, (typeof MOVING)[number]> {
  const { state } = g;
  return {
    model: text(g.model),
    status: state.status,
    seq: g.seq,
    lane: state.status === 'queued' && !isHeld(g) ? laneDigest(laneOf(g).key) : null,
    not_before: state.status === 'queued' ? state.notBefore : null,
    finished_at: 'finishedAt' in state ? state.finishedAt : null,
    reserved: g.reserved,
    charged: g.charged,
    outputs: state.status === 'succeeded' ? state.outputs.length : 0,
    node_ms: isFinal(g)
      ? g.attempts.reduce((sum, a) => sum + Math.max(0, (a.finishedAt ?? a.startedAt) - a.startedAt), 0)
      : 0,
    last_node: g.attempts.at(-1)?.node ?? null,
  };
}

export const toRow = (g: Generation): GenerationRow => ({
  id: g.id,
  workspace_id: g.workspaceId,
  key_id: g.keyId,
  batch_id: g.batchId === null ? null : text(g.batchId),
  item: g.item,
  item_key: g.item === null || g.batchId === null ? null : itemKeyOf(g.batchId, g.idempotencyKey),
  start_by: g.startBy,
  created_at: g.createdAt,
  swept_at: null,
  submitted: JSON.stringify(g),
  changes: null,
  ...movingColumns(g),
});

/**
 * Parameters are long and seldom change: by a softened prompt, or by another model that serves, which leaves the name
 * asked for in `requestedModel`.
 */
export function changesOf(g: Generation): string {
  const { seq, model, requestedModel, quote, warnings, attempts, avoid, softened, reserved, charged, state } = g;
  const changes: Changes = {
    seq,
    model,
    requestedModel,
    quote,
    warnings,
    attempts,
    avoid,
    softened,
    reserved,
    charged,
    state,
  };
  return JSON.stringify(softened || requestedModel !== null ? { ...changes, params: g.params } : changes);
}

export const metadataRows = (g: Generation): MetadataRow[] =>
  Object.entries(g.metadata).map(([key, value]) => ({
    workspace_id: g.workspaceId,
    key: text(key),
    value: text(String(value)),
    created_at: g.createdAt,
    generation_id: g.id,
  }));

/** Lanes have no bounded length (LoRA names), indexed columns do. */
export const laneDigest = (key: string): string => hash('sha256', key, 'base64url');

/** The id of an idempotency key inside its workspace; keys are the caller's, so any length and any character. */
export const claimId = (workspaceId: string, key: string): string =>
  hash('sha256', JSON.stringify([workspaceId, key]), 'base64url');

/** The digest an item's own key is known by in its batch. */
export const itemKeyOf = (batchId: string, key: string | null): string | null =>
  key === null ? null : claimId(batchId, key);

/** Callers' strings as columns take them: PostgreSQL stores no NUL. */
export const text = (value: string): string => value.replaceAll('\0', '\uFFFD');

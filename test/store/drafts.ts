// Generations, workspaces and keys as tests want them: small, whole, and different only where a test says so.

import { DEFAULT_LIMITS } from '../../src/domain/caller.ts';
import type { GenerationEvent } from '../../src/domain/event.ts';
import { failure } from '../../src/domain/failure.ts';
import type { Generation, Output } from '../../src/domain/generation.ts';
import type { Inserted, Moved, NewKey, Store } from '../../src/store/store.ts';
import { paramsOf } from '../harness/params.ts';

let made = 0;

/** Ids grow, so drafts are ordered as they were made. */
export const nextId = (): string => `gen_${String(made++).padStart(26, '0')}`;

export const START = Date.UTC(2026, 3, 30, 9, 17, 42);

/** Costs 2 credits. */
export function draft(over: Partial<Generation> & { readonly prompt?: string } = {}): Generation {
  const { prompt = 'a red chair', ...rest } = over;
  const reserved = rest.reserved ?? 2_000;
  return {
    id: nextId(),
    workspaceId: 'studio',
    keyId: 'key_none',
    createdAt: START,
    priority: 'interactive',
    batchId: null,
    item: null,
    metadata: {},
    webhookUrl: null,
    softenedPrompt: null,
    fallback: 'none',
    startBy: null,
    runWithinMs: 600_000,
    maxCredits: null,
    requestedModel: null,
    idempotencyKey: null,
    requestHash: 'hash-of-the-request',
    previousId: null,
    kind: 'image',
    seq: 1,
    model: 'flux-dev',
    params: paramsOf({ prompt, steps: 28, guidance: 3.5 }),
    quote: { perOutput: reserved, perNodeSecond: 0, reserve: reserved },
    warnings: [],
    attempts: [],
    avoid: [],
    softened: false,
    reserved,
    charged: 0,
    state: { status: 'queued', attempt: 1, notBefore: START },
    ...rest,
  };
}

export const output = (over: Partial<Output> = {}): Output => ({
  index: 0,
  kind: 'image',
  mediaType: 'image/png',
  width: 1024,
  height: 1024,
  bytes: 1_900_000,
  sha256: 'ab',
  seed: 7,
  blob: 'blob-a',
  original: 'blob-a',
  thumbnail: 'blob-a-thumb',
  expiresAt: START + 30 * 86_400_000,
  ...over,
});

export const started = (at = START, node = 'rack-1'): GenerationEvent => ({
  type: 'started',
  at,
  node,
  backend: 'comfyui',
});
export const succeeded = (at = START, outputs: readonly Output[] = [output()]): GenerationEvent => ({
  type: 'succeeded',
  at,
  outputs,
  nodeMs: 9_000,
});
export const failed = (at = START): GenerationEvent => ({
  type: 'failed',
  at,
  failure: failure('model_error', 'It broke.'),
});
export const cancelled = (at = START): GenerationEvent => ({
  type: 'cancelled',
  at,
  failure: failure('cancelled_by_caller', 'Stopped on request.'),
});
export const requeued = (at = START, notBefore = at + 5_000, avoid = 'rack-1'): GenerationEvent => ({
  type: 'requeued',
  at,
  notBefore,
  failure: failure('node_lost', 'The node was lost.'),
  avoid,
  giveBack: false,
});

export async function workspace(store: Store, id = 'studio', credits = 1_000_000, limits = {}): Promise<void> {
  const w = { id, name: id, credits, limits: { ...DEFAULT_LIMITS, ...limits }, provenance: true };
  await store.accounts.createWorkspace(w, START);
}

export const newKey = (over: Partial<NewKey> = {}): NewKey => ({
  workspaceId: 'studio',
  name: 'desk',
  scopes: ['generate'],
  models: null,
  expiresAt: null,
  requestsPerMinute: null,
  spendCap: null,
  hash: `${made++}`.padStart(64, 'a'),
  ...over,
});

export async function insertOne(store: Store, one: Generation): Promise<Inserted> {
  const [result] = await store.generations.insert([one]);
  if (result === undefined) throw new Error('insert answered nothing');
  return result;
}

/** Inserts, and expects it to be accepted. */
export async function inserted(store: Store, over: Parameters<typeof draft>[0] = {}): Promise<Generation> {
  const result = await insertOne(store, draft(over));
  if (result.outcome !== 'inserted') throw new Error(`expected inserted, got ${JSON.stringify(result)}`);
  return result.generation;
}

/** Appends, and expects nobody to have moved first. */
export async function appended(store: Store, g: Generation, ...events: GenerationEvent[]): Promise<Generation> {
  let current = g;
  for (const event of events) current = must(await store.generations.append(current, event)).generation;
  return current;
}

export function must(recorded: Moved | null): Moved {
  if (recorded === null) throw new Error('someone moved first');
  return recorded;
}

// Batches and their items as tests want them: small, whole, and different only where a test says so.

import { hash } from 'node:crypto';
import type { Batch } from '../../src/domain/batch.ts';
import { CLOSED } from '../../src/domain/breaker.ts';
import type { Webhook } from '../../src/domain/delivery.ts';
import type { Generation } from '../../src/domain/generation.ts';
import type { Admitted, BatchMade, NewItem, Store } from '../../src/store/store.ts';
import { draft, newKey, START } from './drafts.ts';

let made = 0;

export function batch(over: Partial<Batch> = {}): Batch {
  return {
    id: `batch_${String(made++).padStart(26, '0')}`,
    workspaceId: 'studio',
    keyId: 'key_none',
    createdAt: START,
    name: 'overnight',
    concurrency: 50,
    maxCredits: null,
    rules: null,
    fallback: null,
    metadata: { campaign: 'spring' },
    seq: 1,
    status: 'running',
    total: 0,
    projected: 0,
    breaker: CLOSED,
    finishedAt: null,
    ...over,
  };
}

const keyHash = (workspaceId: string): string => hash('sha256', workspaceId);
const keyIn = (workspaceId: string): string => `key_${hash('sha256', keyHash(workspaceId)).slice(0, 24)}`;

/** The key that items of this workspace are asked for with; it may be there already. */
export async function cutKey(store: Store, workspaceId = 'studio'): Promise<void> {
  const key = newKey({ workspaceId, hash: keyHash(workspaceId) });
  if ((await store.accounts.authenticate(key.hash)) === null) await store.accounts.createKey(key, START);
}

/** Costs 2 credits once it is handed over. */
export function item(of: Pick<Batch, 'id' | 'workspaceId'>, index: number, over: Partial<Generation> = {}): NewItem {
  const quote = { perOutput: 2_000, perNodeSecond: 0, reserve: 2_000 };
  const kept = { state: { status: 'queued', attempt: 1, notBefore: 0, held: true }, reserved: 0 } as const;
  const place = { batchId: of.id, workspaceId: of.workspaceId, item: index, priority: 'batch' } as const;
  return { draft: { ...draft({ quote, keyId: keyIn(of.workspaceId), ...over }), ...kept, ...place }, failure: null };
}

export const items = (of: Batch, count: number, over: Partial<Generation> = {}): NewItem[] =>
  Array.from({ length: count }, (_, i) => item(of, i, over));

/** Makes it, and expects that to be accepted. */
export async function created(
  store: Store,
  of: Batch = batch(),
  its: readonly NewItem[] = items(of, 3),
): Promise<Batch> {
  await cutKey(store, of.workspaceId);
  return whole(await store.batches.create(of, its, null));
}

export function whole(result: BatchMade): Batch {
  if (result.outcome === 'refused') throw new Error(JSON.stringify(result.failure));
  return result.batch;
}

/** Hands over what is held, and expects all to be accepted. */
export async function admitted(store: Store, id: string, count = 100): Promise<Generation[]> {
  const results = await store.batches.admit(await store.batches.held(id, count), null, START);
  return results.map(accepted);
}

export function accepted(result: Admitted | undefined): Generation {
  if (result?.outcome !== 'admitted') throw new Error(`expected admitted, got ${JSON.stringify(result)}`);
  return result.generation;
}

export function webhook(over: Partial<Webhook> = {}): Webhook {
  return {
    id: `wh_${String(made++).padStart(26, '0')}`,
    workspaceId: 'studio',
    url: 'https://studio.example/hook',
    events: ['generation.succeeded', 'generation.failed', 'generation.cancelled', 'batch.finished'],
    description: null,
    secrets: [{ key: 'whsec_c2VjcmV0', until: null }],
    createdAt: START,
    ...over,
  };
}

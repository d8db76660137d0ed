// The items of a batch that may be asked for once more: the same request, seed and key, at today's price. An item is
// rebuilt from what was stored when it was asked for, so no request is kept twice.

import { type Batch, type Item, isOwn, mayRetry } from '../domain/batch.ts';
import type { Caller } from '../domain/caller.ts';
import { type Failure, failure, GatewayError } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import { quote } from '../domain/price.ts';
import { toCredits } from '../domain/units.ts';
import type { NewItem } from '../store/store.ts';
import { drafter } from './batch-items.ts';
import { HELD, isUnresolved, refusedRequest } from './batch-refused.ts';
import type { Rooms } from './rooms.ts';
import { modelFor } from './submit.ts';

/** New items in the place of those that may be retried, in order. */
export async function retriesOf(
  rooms: Rooms,
  caller: Caller,
  batch: Batch,
  ended: AsyncIterable<Item<Generation>>,
): Promise<readonly NewItem[]> {
  const draft = drafter(rooms, caller, batch);
  const items: NewItem[] = [];
  for await (const { index, generation } of ended) {
    if (!mayRetry(generation, batch.id)) continue;
    const first = (await rooms.store.events.generationAt(generation.id, 1)) ?? generation;
    const item = isUnresolved(first)
      ? await draft(refusedRequest(first), index)
      : await again(rooms, caller, isOwn(generation, batch.id) ? first : asked(batch, first));
    const place = { batchId: batch.id, item: index, previousId: generation.id };
    items.push({ ...item, draft: { ...item.draft, ...place } });
  }
  return items;
}

/** The same picture as somebody else's, without what they wanted beside it: of an attached item no request is kept. */
const asked = (batch: Batch, theirs: Generation): Generation => ({
  ...theirs,
  priority: 'batch',
  metadata: batch.metadata,
  webhookUrl: null,
  fallback: batch.fallback ?? theirs.fallback,
  startBy: null,
  maxCredits: null,
});

/** What it resolved to stays as it was; only its price and its deadline are of today. */
async function again(rooms: Rooms, caller: Caller, first: Generation): Promise<NewItem> {
  const { clock, random } = rooms.system;
  const now = clock.now();
  const draft: Generation = {
    ...first,
    id: `gen_${random.ulid(now)}`,
    keyId: caller.key.id,
    createdAt: now,
    startBy: first.startBy === null ? null : now + first.startBy - first.createdAt,
    reserved: 0,
    state: HELD,
  };
  try {
    const model = modelFor(rooms, caller, { model: first.model, fallback: 'none' });
    const price = quote(model.price, first.params, (model.estimateMs * first.params.n) / 1000);
    return { draft: { ...draft, quote: price }, failure: beyond(first, price.reserve) ?? (await swept(rooms, first)) };
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    return { draft, failure: error.failure };
  }
}

/** Its pictures are kept while it runs, and may be gone once it has ended. */
async function swept({ media }: Rooms, { params }: Generation): Promise<Failure | null> {
  for (const picture of [params.initImage, params.mask]) {
    if (picture?.kind !== 'blob' || (await media.blobs.stat(picture.blob)) !== null) continue;
    return failure(
      'not_found',
      'The picture it was asked with was swept since; send the picture again, as a new item.',
    );
  }
  return null;
}

function beyond({ maxCredits }: Generation, reserve: number): Failure | null {
  if (maxCredits === null || reserve <= maxCredits) return null;
  const why = `This costs up to ${toCredits(reserve)} credits by now, more than its max_credits ${toCredits(maxCredits)}.`;
  return failure('budget_exceeded', why);
}

// What becomes of the items of a batch: held, attached to the generation that has their key already, or failed at once.
// Decided like single submits, in the transaction that stores them; nothing is reserved before an item is handed over.

import { setImmediate as turn } from 'node:timers/promises';
import { apply, type GenerationEvent } from '../domain/event.ts';
import type { Failure } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import type { Quote } from '../domain/price.ts';
import type { Millicredits, Millis } from '../domain/units.ts';
import { claimedByAnother, liveClaim, needsOf, place, spent } from './insert.ts';
import { changesOf, itemKeyOf, metadataRows, movingColumns, toRow } from './rows.ts';
import type { Transaction } from './transaction.ts';
import { GROUP } from './writer.ts';

/** An item about to be stored: held, with its `item` set. */
export interface NewItem {
  readonly draft: Generation;
  /** It cannot run (unknown model …): stored, and failed at once. */
  readonly failure: Failure | null;
}

/** What an item costs that can never run. */
const NOTHING: Quote = { perOutput: 0, perNodeSecond: 0, reserve: 0 };

/** Stores one; what it adds to the projection is returned. */
export function placeItem(tx: Transaction, { draft, failure }: NewItem, now: Millis): Millicredits {
  if (failure !== null) return refuseItem(tx, draft, failure);
  const claim = liveClaim(tx, draft, now);
  if (claim === undefined || spent(claim.generation)) {
    place(tx, claim === undefined ? draft : { ...draft, previousId: claim.generation.id }, now);
    return draft.quote.reserve;
  }
  if (claim.requestHash !== draft.requestHash) return refuseItem(tx, draft, claimedByAnother(claim));
  const { batchId, item } = itemOf(draft);
  tx.attach({
    batch_id: batchId,
    item,
    item_key: itemKeyOf(batchId, draft.idempotencyKey) ?? '',
    generation_id: claim.generation.id,
    created_at: claim.generation.createdAt,
  });
  return 0;
}

/** Works on a group of items in each turn of the event loop. */
export async function inGroups(
  tx: Transaction,
  items: readonly NewItem[],
  work: (group: readonly NewItem[]) => void | Promise<void>,
): Promise<void> {
  for (let from = 0; from < items.length; from += GROUP) {
    const group = items.slice(from, from + GROUP);
    await tx.load([itemNeeds(group)]);
    await work(group);
    await tx.flush();
    await turn();
  }
}

const itemNeeds = (items: readonly NewItem[]) => {
  const needs = needsOf(items.map((one) => one.draft));
  return { ...needs, hooks: needs.workspaces };
};

export function itemOf({ id, batchId, item }: Generation): { readonly batchId: string; readonly item: number } {
  if (batchId === null || item === null) throw new Error(`${id} is no item of a batch`);
  return { batchId, item };
}

function refuseItem(tx: Transaction, draft: Generation, failure: Failure): 0 {
  const submitted = { ...draft, quote: NOTHING };
  const event: GenerationEvent = { type: 'failed', at: draft.createdAt, failure };
  const ended = apply(submitted, event);
  tx.add({ ...toRow(submitted), ...movingColumns(ended), changes: changesOf(ended) }, metadataRows(submitted));
  tx.record(null, submitted, { type: 'submitted', at: draft.createdAt });
  tx.record(submitted, ended, event);
  return 0;
}

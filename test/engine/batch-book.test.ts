// The book of open batches after a restart: what is committed counts once, whenever it is told.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { DEFAULT_BREAKER } from '../../src/domain/breaker.ts';
import type { Generation } from '../../src/domain/generation.ts';
import { createBook, type Work } from '../../src/engine/batch-book.ts';
import type { Recorder } from '../../src/engine/record.ts';
import type { Recorded, Store } from '../../src/store/store.ts';
import { admitted, batch, created, items } from '../store/batch-drafts.ts';
import { appended, requeued, started, succeeded, workspace } from '../store/drafts.ts';
import { freshStore, type Site, sqlite } from '../store/engines.ts';

let site: Site & { readonly store: Store };
beforeEach(async () => {
  site = await freshStore(sqlite);
  await workspace(site.store);
});
afterEach(async () => {
  await site[Symbol.asyncDispose]();
});

const NIGHT = { ...batch({ rules: DEFAULT_BREAKER }) };

/** A batch of three in work, and the book a new process opens on it. `meanwhile` happens at the first look at its items. */
async function reopened(meanwhile: (running: readonly Generation[]) => Promise<unknown> = async () => {}) {
  const { store } = site;
  const of = await created(store, NIGHT, items(NIGHT, 3));
  const running: Generation[] = [];
  for (const g of await admitted(store, of.id)) running.push(await appended(store, g, started()));
  let tell: (recorded: readonly Recorded[]) => void = () => {};
  const onMove: Recorder['onMove'] = (listener) => {
    tell = listener;
  };
  let looked = false;
  const looking: Store['batches'] = {
    ...store.batches,
    async items(...asked) {
      if (!looked) {
        looked = true;
        await meanwhile(running);
      }
      return store.batches.items(...asked);
    },
  };
  const book = createBook({ ...store, batches: looking }, { onMove }, () => {});
  book.open([of]);
  const untold: Recorded[] = [];
  store.onCommit((recorded) => void untold.push(...recorded));
  const work = book.works.get(of.id) as Work;
  return { book, work, running, tell: () => tell(untold.splice(0)) };
}

const charges = (work: Work) => ({ charged: work.charged, inWork: work.inWork.size, ends: work.outcomes.length });

it('counts an end once that was committed before the reading and told after it', async () => {
  const { book, work, running, tell } = await reopened();
  await appended(site.store, running[0] as Generation, succeeded());
  await book.load(work);
  tell();
  expect(charges(work)).toEqual({ charged: 2_000, inWork: 2, ends: 1 });
});

it('counts an end once that falls into the reading', async () => {
  const { book, work, tell } = await reopened(([first]) => appended(site.store, first as Generation, succeeded()));
  await book.load(work);
  tell();
  expect(charges(work)).toEqual({ charged: 2_000, inWork: 2, ends: 1 });
});

it('counts an end once whose start was told before the reading', async () => {
  const { book, work, running, tell } = await reopened();
  const again = await appended(site.store, running[0] as Generation, requeued());
  const back = await appended(site.store, again, started());
  tell();
  await appended(site.store, back, succeeded());
  await book.load(work);
  tell();
  expect(charges(work)).toEqual({ charged: 2_000, inWork: 2, ends: 1 });
});

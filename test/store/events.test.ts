// The log: in commit order, replayable from any kept cursor, honest about what it has forgotten.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { NO_TALLY } from '../../src/domain/batch.ts';
import type { Store } from '../../src/store/store.ts';
import { settle } from '../harness/manual-clock.ts';
import { batch, created } from './batch-drafts.ts';
import { appended, cancelled, draft, inserted, START, started, succeeded, workspace } from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';

const HOUR = 3_600_000;

onBothEngines((engine) => {
  let site: Site & { readonly store: Store };
  let store: Store;
  beforeEach(async () => {
    site = await freshStore(engine);
    store = site.store;
    await workspace(store);
  });
  afterEach(() => site[Symbol.asyncDispose]());
  const mine = { workspaceId: 'studio' };

  it('replays from a cursor, in order, no more than asked for', async () => {
    expect(await store.events.latest()).toBe(0);
    const one = await inserted(store);
    await appended(store, one, started(), succeeded());
    const events = (await store.events.after(0, mine, 10)) ?? [];
    expect(events.map((e) => [e.cursor, e.seq, e.event.type])).toEqual([
      [1, 1, 'submitted'],
      [2, 2, 'started'],
      [3, 3, 'succeeded'],
    ]);
    expect((await store.events.after(1, mine, 1))?.map((e) => e.cursor)).toEqual([2]);
    expect(await store.events.after(3, mine, 10)).toEqual([]);
    expect(await store.events.latest()).toBe(3);
  });

  it('shows only what the filter asks for', async () => {
    await workspace(store, 'other');
    const one = await inserted(store, { batchId: 'batch_1' });
    const two = await inserted(store);
    const foreign = await inserted(store, { workspaceId: 'other', batchId: 'batch_1' });
    const ids = async (filter: object) =>
      (await store.events.after(0, { ...mine, ...filter }, 10))?.map((e) =>
        'generationId' in e ? e.generationId : e.batchId,
      );
    expect(await ids({})).toEqual([one.id, two.id]);
    expect(await ids({ batchId: 'batch_1' })).toEqual([one.id]);
    expect(await ids({ generationIds: [two.id, foreign.id] })).toEqual([two.id]);
    expect(await ids({ generationIds: [] })).toEqual([]);
  });

  it('answers null to a cursor it never gave out', async () => {
    await inserted(store);
    for (const cursor of [2, -1, 0.5, Number.NaN]) expect(await store.events.after(cursor, mine, 10)).toBeNull();
  });

  it('answers null to a cursor older than what is kept', async () => {
    await inserted(store, { createdAt: START });
    await inserted(store, { createdAt: START + HOUR });
    await inserted(store, { createdAt: START + 2 * HOUR });
    expect(await store.events.prune(START + HOUR)).toBe(1);
    expect(await store.events.after(0, mine, 10)).toBeNull();
    expect((await store.events.after(1, mine, 10))?.map((e) => e.cursor)).toEqual([2, 3]);
    expect(await store.events.prune(START + HOUR)).toBe(0);
    expect(await store.events.latest()).toBe(3);
  });

  it('forgets thousands, and the generation stays though its past is gone', async () => {
    const one = await inserted(store);
    await store.generations.insert(Array.from({ length: 2_500 }, () => draft({ reserved: 0 })));
    const now = await appended(store, one, started(START + HOUR));
    expect(await store.events.prune(START + HOUR)).toBe(2_501);
    expect(await store.generations.get(one.id)).toEqual(now);
    const last = await appended(store, now, cancelled());
    expect(await store.events.generationAt(one.id, last.seq)).toEqual(last);
    expect((await store.events.after(2_502, mine, 10))?.map((e) => e.seq)).toEqual([3]);
  });

  it('forgets what batches did like anything else', async () => {
    const one = await created(store, batch(), []);
    await store.batches.change(one, { type: 'paused', at: START + HOUR }, NO_TALLY);
    expect(await store.events.prune(START + HOUR)).toBe(1);
    expect((await store.events.after(1, { ...mine, batchId: one.id }, 10))?.map((e) => e.seq)).toEqual([2]);
    expect(await store.batches.get(one.id)).toMatchObject({ status: 'paused' });
  });

  it('forgets expired idempotency keys with old events', async () => {
    await inserted(store, { idempotencyKey: 'k' });
    await store.events.prune(START);
    expect(await site.query('select count(*) as n from idempotency')).toEqual([{ n: 1 }]);
    await site.clock.advance(24 * HOUR);
    await store.events.prune(START);
    expect(await site.query('select count(*) as n from idempotency')).toEqual([{ n: 0 }]);
  });

  it('commits cursors in order though several gateways write at once', async () => {
    const stores = [store, await site.open(), await site.open()];
    const seen: number[] = [];
    let writing = true;
    const watch = (async () => {
      for (let cursor = 0; writing || cursor < (await store.events.latest()); ) {
        const events = (await store.events.after(cursor, mine, 50)) ?? [];
        seen.push(...events.map((e) => e.cursor));
        cursor = events.at(-1)?.cursor ?? cursor;
        await settle(1);
      }
    })();
    await Promise.all(
      stores.map(async (each) => {
        for (let i = 0; i < 20; i++) await Promise.all([inserted(each), inserted(each)]);
      }),
    );
    writing = false;
    await watch;
    expect(seen).toEqual(Array.from({ length: 120 }, (_, i) => i + 1));
  });

  it('inserts one of 32 submits with one key though two gateways take them', async () => {
    const stores = [store, await site.open()];
    const all = await Promise.all(
      Array.from({ length: 32 }, (_, i) =>
        (stores[i % 2] as Store).generations.insert([draft({ idempotencyKey: 'k' })]),
      ),
    );
    const outcomes = all.flat().map((r) => r.outcome);
    expect(outcomes.filter((o) => o === 'inserted')).toHaveLength(1);
    expect(outcomes.filter((o) => o === 'replayed')).toHaveLength(31);
  });
});

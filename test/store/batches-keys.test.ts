// Keys of batches and of their items: what has a key already stands for the item, once, and a batch is made once.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { NO_TALLY } from '../../src/domain/batch.ts';
import { failure } from '../../src/domain/failure.ts';
import type { NewItem, Store } from '../../src/store/store.ts';
import { accepted, admitted, batch, created, item, items, whole } from './batch-drafts.ts';
import { appended, cancelled, failed, inserted, START, started, succeeded, workspace } from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

const HOUR = 3_600_000;
const placed = (one: NewItem, at: number): NewItem => ({ ...one, draft: { ...one.draft, item: at } });
const counts = (over: Partial<typeof NO_TALLY.counts>) => ({ ...NO_TALLY.counts, ...over });

onBothEngines((engine) => {
  let site: Site & { readonly store: Store };
  let store: Store;
  beforeEach(async () => {
    site = await freshStore(engine);
    store = site.store;
    await workspace(store);
  });
  afterEach(async () => {
    await expectSound(site, store);
    await site[Symbol.asyncDispose]();
  });
  const held = (id: string) => store.batches.held(id, 10_000);
  const everything = async (id: string) => (await store.batches.items(id, {}, 10_000)).data;

  it('attaches the generation that an item has the key of, and costs nothing for it', async () => {
    const done = await appended(store, await inserted(store, { idempotencyKey: 'done' }), started(), succeeded());
    const open = await inserted(store, { idempotencyKey: 'open' });
    const spent = await appended(store, await inserted(store, { idempotencyKey: 'spent' }), started(), failed());
    const one = batch({ createdAt: START + 1 });
    const made = await created(store, one, [
      item(one, 0, { idempotencyKey: 'done', createdAt: START + 1 }),
      item(one, 1, { idempotencyKey: 'spent', createdAt: START + 1 }),
      item(one, 2, { idempotencyKey: 'open', createdAt: START + 1 }),
      item(one, 3, { idempotencyKey: 'open', createdAt: START + 1, requestHash: 'another' }),
      item(one, 4, { createdAt: START + 1 }),
    ]);
    expect(made).toMatchObject({ total: 5, projected: 4_000 });
    expect(await store.batches.tally(one.id)).toEqual({
      held: 2,
      counts: counts({ queued: 3, succeeded: 1, failed: 1 }),
      others: 1,
      charged: 0,
      reserved: 0,
    });
    const all = await everything(one.id);
    expect(all.map((i) => [i.index, i.key])).toEqual([
      [0, 'done'],
      [1, 'spent'],
      [2, 'open'],
      [3, 'open'],
      [4, `${one.id}/4`],
    ]);
    expect(all[0]?.generation).toEqual(done);
    expect(all[1]?.generation).toMatchObject({ previousId: spent.id });
    expect(all[2]?.generation).toEqual(open);
    expect(all[3]?.generation).toMatchObject({ state: { failure: { code: 'idempotency_conflict' } } });
    const listed = await store.generations.list({ workspaceId: 'studio', batchId: one.id }, 10);
    expect(listed.data.map((g) => g.id)).toEqual([
      ...[4, 3, 1].map((n) => all[n]?.generation.id),
      ...[open.id, done.id],
    ]);
    await appended(store, open, started());
    expect(await store.batches.tally(one.id)).toMatchObject({ reserved: 0, counts: { running: 1 } });
    expect(await store.batches.idsIn(one.id, 'running', 10), 'attached ones are not its own to stop').toEqual([]);
    expect(await store.batches.nodeTimes(one.id)).toHaveLength(1);
  });

  it('shows an attached generation once in a listing, though two items have its key', async () => {
    const open = await inserted(store, { idempotencyKey: 'k' });
    const one = batch();
    await created(
      store,
      one,
      [0, 1, 2].map((n) => item(one, n, { idempotencyKey: 'k' })),
    );
    const own = batch();
    await created(
      store,
      own,
      [0, 1].map((n) => item(own, n, { idempotencyKey: 'new' })),
    );
    const list = async (id: string, more = {}) =>
      (await store.generations.list({ workspaceId: 'studio', batchId: id, ...more }, 10)).data.map((g) => g.id);
    expect(await list(one.id)).toEqual([open.id]);
    expect(await list(one.id, { statuses: ['queued', 'failed'], model: 'flux-dev' })).toEqual([open.id]);
    expect(await list(one.id, { statuses: ['failed'] })).toEqual([]);
    expect(await store.batches.tally(one.id)).toMatchObject({ held: 0, counts: { queued: 3 } });
    expect(await list(own.id)).toHaveLength(1);
    expect(await everything(own.id)).toHaveLength(2);
  });

  it('pages through a batch newest first, own and attached ones in one order', async () => {
    const early = [];
    for (const n of [0, 1, 2, 3])
      early.push(await inserted(store, { idempotencyKey: `k${n}`, createdAt: START + n * 2 }));
    const one = batch();
    const own = [0, 1, 2, 3].map((n) => item(one, n, { createdAt: START + n * 2 + 1 }));
    await created(store, one, [...own, ...early.map((g, n) => item(one, n + 4, { idempotencyKey: g.idempotencyKey }))]);
    const ages: number[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await store.generations.list({ workspaceId: 'studio', batchId: one.id }, 3, cursor);
      ages.push(...page.data.map((g) => g.createdAt - START));
      if (page.next === null) break;
      cursor = page.next;
    }
    expect(ages).toEqual([7, 6, 5, 4, 3, 2, 1, 0]);
    const pages: number[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await store.batches.items(one.id, { statuses: ['queued'] }, 3, cursor);
      pages.push(...page.data.map((i) => i.index));
      if (page.next === null) break;
      cursor = page.next;
    }
    expect(pages).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('says who holds idempotency keys now', async () => {
    const open = await inserted(store, { idempotencyKey: 'open' });
    await appended(store, await inserted(store, { idempotencyKey: 'spent' }), cancelled());
    const asked = () => store.batches.claimed('studio', ['open', 'spent', 'free']);
    expect([...(await asked())]).toEqual([['open', { generation: open, requestHash: open.requestHash }]]);
    await site.clock.advance(24 * HOUR);
    expect([...(await asked())]).toEqual([]);
  });

  it('replays a batch by its own idempotency key as it is now, and refuses another request under it', async () => {
    const claim = { key: 'k', requestHash: 'one' };
    const one = batch();
    const made = await store.batches.create(one, items(one, 2), claim);
    expect(made.outcome).toBe('created');
    const paused = await store.batches.change(whole(made), { type: 'paused', at: START }, NO_TALLY);
    const again = batch();
    expect(await store.batches.create(again, items(again, 2), claim)).toEqual({ outcome: 'replayed', batch: paused });
    expect(await store.batches.made('studio', claim)).toEqual({ outcome: 'replayed', batch: paused });
    expect(await store.batches.made('studio', { ...claim, requestHash: 'two' })).toMatchObject({ outcome: 'refused' });
    expect(await store.batches.made('other', claim)).toBeNull();
    expect(await store.batches.create(batch(), [], { ...claim, requestHash: 'two' })).toMatchObject({
      outcome: 'refused',
      failure: { code: 'idempotency_conflict' },
    });
    await workspace(store, 'other');
    expect(await store.batches.create(batch({ workspaceId: 'other' }), [], claim)).toMatchObject({
      outcome: 'created',
    });
    await site.clock.advance(24 * HOUR);
    const later = batch({ createdAt: site.clock.now() });
    expect(await store.batches.made('studio', claim), 'it has expired').toBeNull();
    expect(await store.batches.create(later, [], { ...claim, requestHash: 'two' })).toMatchObject({
      outcome: 'created',
    });
    expect(await store.batches.create(batch(), [], claim)).toMatchObject({ outcome: 'refused' });
  });

  it('makes one batch of many parallel requests with one key', async () => {
    const results = await Promise.all(
      Array.from({ length: 8 }, () => store.batches.create(batch(), [], { key: 'k', requestHash: 'h' })),
    );
    expect(results.map((r) => r.outcome).sort()).toEqual(['created', ...Array(7).fill('replayed')]);
  });

  it('appends items on from the last, except those whose key it has already', async () => {
    const done = await inserted(store, { idempotencyKey: 'elsewhere' });
    const one = batch();
    const keyed = (key: string) => item(one, 99, { idempotencyKey: key });
    const made = await created(store, one, [item(one, 0), item(one, 1, { idempotencyKey: 'a' })]);
    const more = await store.batches.extend(
      made,
      [keyed('a'), keyed('b'), keyed('b'), item(one, 99), keyed('elsewhere'), item(one, 99)],
      START + 5,
    );
    expect(more).toMatchObject({ seq: 2, total: 6, projected: 10_000 });
    expect((await everything(one.id)).map((i) => i.key)).toEqual([
      `${one.id}/0`,
      'a',
      'b',
      `${one.id}/3`,
      'elsewhere',
      `${one.id}/5`,
    ]);
    expect((await everything(one.id))[4]?.generation).toEqual(done);
    expect(await store.batches.extend(more as never, [keyed('a'), keyed('elsewhere')], START)).toEqual(more);
    expect(await store.batches.get(one.id)).toEqual(more);
  });

  it('appends an item that fails where its key is in use with another request', async () => {
    const elsewhere = await inserted(store, { idempotencyKey: 'elsewhere' });
    const one = batch();
    const keyed = (key: string, requestHash?: string) =>
      item(one, 99, { idempotencyKey: key, ...(requestHash && { requestHash }) });
    const made = await created(store, one, [keyed('a'), item(one, 1, { idempotencyKey: 'elsewhere' })].map(placed));
    const others = () => [keyed('a', 'another'), keyed('elsewhere', 'another'), keyed('b')];
    const more = await store.batches.extend(made, others(), START);
    expect(more).toMatchObject({ total: 5, projected: 4_000 });
    const all = await everything(one.id);
    expect(all.map((i) => i.key)).toEqual(['a', 'elsewhere', 'a', 'elsewhere', 'b']);
    for (const [at, of] of [
      [2, all[0]?.generation.id],
      [3, elsewhere.id],
    ] as const) {
      expect(all[at]?.generation.state).toMatchObject({
        failure: { code: 'idempotency_conflict', message: expect.stringContaining(`${of}`) },
      });
    }
    expect(await store.batches.extend(more as never, others(), START), 'it may be repeated').toEqual(more);
  });

  it('puts new generations in the place of failed ones, which stay as history', async () => {
    const why = failure('unknown_model', 'There is no model nope.');
    const elsewhere = await inserted(store, { idempotencyKey: 'elsewhere' });
    const one = batch();
    const made = await created(store, one, [
      item(one, 0),
      item(one, 1, { idempotencyKey: 'k' }),
      { draft: item(one, 2).draft, failure: why },
      item(one, 3, { idempotencyKey: 'elsewhere' }),
    ]);
    const [first, second] = await admitted(store, one.id);
    await appended(store, first as never, started(), succeeded());
    await appended(store, second as never, started(), failed());
    await appended(store, elsewhere, cancelled());
    const ended = await store.batches.change(made, { type: 'finished', at: START }, await store.batches.tally(one.id));
    const anew = [
      item(one, 1, { idempotencyKey: 'k', previousId: second?.id ?? null }),
      item(one, 2),
      item(one, 3, { idempotencyKey: 'elsewhere' }),
    ];
    const again = await store.batches.retry(ended as never, anew, START + 9);
    expect(again).toMatchObject({ status: 'running', finishedAt: null, total: 4, projected: 8_000 });
    expect(await store.batches.tally(one.id)).toEqual({
      held: 3,
      counts: counts({ queued: 3, succeeded: 1 }),
      others: 0,
      charged: 2_000,
      reserved: 0,
    });
    const all = await everything(one.id);
    expect(all.map((i) => i.generation.id)).toEqual([first?.id, ...anew.map((i) => i.draft.id)]);
    expect(all.map((i) => i.generation.previousId)).toEqual([null, second?.id, null, elsewhere.id]);
    expect(await store.generations.get(second?.id ?? '')).toMatchObject({ state: { status: 'failed' } });
    const listed = await store.generations.list({ workspaceId: 'studio', batchId: one.id }, 10);
    expect(listed.data, 'the old ones stay in the listing').toHaveLength(6);
    expect(accepted((await store.batches.admit(await held(one.id), null, START))[0]).item).toBe(1);
  });
});

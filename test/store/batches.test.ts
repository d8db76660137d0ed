// Batches: made whole or not at all, counted over their items, moved only by whoever saw the newest state.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { NO_TALLY } from '../../src/domain/batch.ts';
import { failure } from '../../src/domain/failure.ts';
import { laneOf } from '../../src/domain/lane.ts';
import type { Recorded, Store } from '../../src/store/store.ts';
import { admitted, batch, created, cutKey, item, items } from './batch-drafts.ts';
import { appended, cancelled, draft, inserted, newKey, START, started, succeeded, workspace } from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

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

  it('gives back what was made, with what was counted', async () => {
    const one = batch({ name: 'NUL \0', rules: { ...RULES }, maxCredits: 5_000, metadata: { 'a\0': 'b\0' } });
    const made = await created(store, one, items(one, 3));
    expect(made).toEqual({ ...one, total: 3, projected: 6_000 });
    expect(await store.batches.get(one.id)).toEqual(made);
    expect(await store.batches.get('batch_unknown')).toBeNull();
    expect(await store.batches.tally(one.id)).toEqual({ ...NO_TALLY, held: 3, counts: counts({ queued: 3 }) });
    expect((await everything(one.id)).map((i) => [i.index, i.key])).toEqual([
      [0, `${one.id}/0`],
      [1, `${one.id}/1`],
      [2, `${one.id}/2`],
    ]);
  });

  it('takes a batch without items', async () => {
    const one = await created(store, batch(), []);
    expect(one).toMatchObject({ total: 0, projected: 0 });
    expect(await store.batches.tally(one.id)).toEqual(NO_TALLY);
  });

  it('makes thousands of items in one commit, or none when one is broken', async () => {
    await cutKey(store);
    const before = store.commits;
    const one = batch();
    expect(await created(store, one, items(one, 2_000))).toMatchObject({ total: 2_000, projected: 4_000_000 });
    expect(store.commits - before).toBe(1);
    const other = batch();
    const broken = [...items(other, 300), item(other, 0)];
    await expect(store.batches.create(other, broken, null)).rejects.toThrow();
    expect(await store.batches.get(other.id)).toBeNull();
    expect(await everything(other.id)).toEqual([]);
  });

  it('tells listeners of all items and of the batch, in order, before the caller hears', async () => {
    const told: Recorded[] = [];
    using _ = store.onCommit((recorded) => told.push(...recorded));
    const one = batch();
    await created(store, one, items(one, 300));
    expect(told.map((r) => r.stored.cursor)).toEqual(Array.from({ length: 301 }, (_, i) => i + 1));
    expect(told.at(-1)).toMatchObject({ type: 'batch', batch: { id: one.id, total: 300 }, tally: { held: 300 } });
  });

  it('keeps held items out of lanes, queue limits and reservations', async () => {
    await workspace(store, 'small', 1_000, { queue: 1 });
    const one = batch({ workspaceId: 'small' });
    const made = await created(store, one, items(one, 5));
    expect(await store.generations.lanes()).toEqual([]);
    expect(await store.generations.queuedIds('small', 10)).toEqual([]);
    expect(await store.ledger.credits('small')).toEqual({ balance: 1_000, reserved: 0 });
    expect(await inserted(store, { workspaceId: 'small', reserved: 0 })).toBeDefined();
    const [first] = await held(made.id);
    expect(await store.generations.window(laneOf(first as never).key, 10)).toEqual([]);
  });

  it('times out a held item whose start deadline has passed', async () => {
    const one = batch();
    await created(store, one, [item(one, 0, { startBy: START + 10 })]);
    const { ids } = await store.generations.overdue(START + 10, 10);
    const late = await store.generations.get(ids[0] ?? '');
    const why = failure('start_timeout', 'Too late.');
    await appended(store, late as never, { type: 'timed_out', at: START + 10, failure: why });
    expect(await store.batches.tally(one.id)).toMatchObject({ held: 0, counts: counts({ timeout: 1 }) });
  });

  it('refuses a workspace that is not there', async () => {
    const result = await store.batches.create(batch({ workspaceId: 'nowhere' }), [], null);
    expect(result).toMatchObject({ outcome: 'refused', failure: { code: 'not_found' } });
  });

  it('hands items over: each reserves its price and enters its lane', async () => {
    const one = await created(store);
    const [first, second] = await admitted(store, one.id, 2);
    expect(first).toMatchObject({ seq: 2, reserved: 2_000, state: { status: 'queued', attempt: 1 } });
    expect(await store.generations.lanes()).toEqual([{ lane: laneOf(first as never).key, queued: 2 }]);
    expect(await store.ledger.credits('studio')).toMatchObject({ reserved: 4_000 });
    expect(await store.batches.tally(one.id)).toEqual({
      held: 1,
      counts: counts({ queued: 3 }),
      others: 0,
      charged: 0,
      reserved: 4_000,
    });
    await appended(store, first as never, started(), succeeded());
    await appended(store, second as never, started());
    expect(await store.batches.tally(one.id)).toEqual({
      held: 1,
      counts: counts({ queued: 1, running: 1, succeeded: 1 }),
      others: 0,
      charged: 2_000,
      reserved: 2_000,
    });
    expect(await store.batches.nodeTimes(one.id)).toEqual([0]);
  });

  it('finds the first held items behind a place, in order', async () => {
    const one = batch();
    await created(store, one, items(one, 5));
    await admitted(store, one.id, 1);
    expect((await store.batches.held(one.id, 2)).map((g) => g.item)).toEqual([1, 2]);
    expect((await store.batches.held(one.id, 10, 2)).map((g) => g.item)).toEqual([3, 4]);
  });

  it('refuses to hand over what credits, the key, the queue or the batch have no room for, and goes on', async () => {
    await workspace(store, 'poor', 5_000, { queue: 3 });
    const key = await store.accounts.createKey(newKey({ workspaceId: 'poor', spendCap: 2_000 }), START);
    const one = batch({ workspaceId: 'poor' });
    const price = (reserve: number, more = {}) => ({
      quote: { perOutput: reserve, perNodeSecond: 0, reserve },
      ...more,
    });
    await created(store, one, [
      item(one, 0, price(2_000)),
      item(one, 1, price(9_000)),
      item(one, 2, price(1_500, { keyId: key.id })),
      item(one, 3, price(1_500, { keyId: key.id })),
      item(one, 4, price(1_000)),
      item(one, 5, price(500)),
      item(one, 6, price(0)),
    ]);
    const results = await store.batches.admit(await held(one.id), 4_000, START);
    expect(results.map((r) => (r.outcome === 'refused' ? r.failure.code : r.outcome))).toEqual([
      'admitted',
      'insufficient_credits',
      'admitted',
      'budget_exceeded',
      'budget_exceeded',
      'admitted',
      'queue_full',
    ]);
    expect(results[4]).toMatchObject({
      failure: { message: 'This needs 1 credits; its batch may still set aside 0.5.' },
    });
    expect(await store.ledger.credits('poor')).toEqual({ balance: 5_000, reserved: 4_000 });
    expect((await held(one.id)).map((g) => g.item)).toEqual([1, 3, 4, 6]);
  });

  it('hands over nothing that a key asked for which was deleted or has expired', async () => {
    const key = (more: object) => store.accounts.createKey(newKey(more), START);
    const [gone, old, young] = [
      await key({}),
      await key({ expiresAt: START + 5 }),
      await key({ expiresAt: START + 6 }),
    ];
    const one = batch();
    await created(
      store,
      one,
      [gone, old, young].map(({ id: keyId }, n) => item(one, n, { keyId })),
    );
    await store.accounts.deleteKey('studio', gone.id);
    const refused = (id: string, why: string) => ({
      outcome: 'refused',
      failure: { code: 'cancelled_by_admin', message: expect.stringContaining(`${id}, ${why}`) },
    });
    expect(await store.batches.admit(await held(one.id), null, START + 5)).toMatchObject([
      refused(gone.id, 'was deleted'),
      refused(old.id, 'has expired'),
      { outcome: 'admitted' },
    ]);
    expect((await held(one.id)).map((g) => g.item)).toEqual([0, 1]);
  });

  it('does not hand over what moved meanwhile, nor anything twice', async () => {
    const one = await created(store);
    const [first, second, third] = await held(one.id);
    await appended(store, first as never, cancelled());
    const results = await Promise.all([
      store.batches.admit([first, second, third] as never, null, START),
      store.batches.admit([second, third] as never, null, START),
    ]);
    const outcomes = results.flat().map((r) => r.outcome);
    expect(outcomes).toEqual(['moved', 'admitted', 'admitted', 'moved', 'moved']);
  });

  it('lets nobody hand over an item by appending', async () => {
    const one = await created(store);
    const [first] = await held(one.id);
    const event = { type: 'admitted', at: START } as const;
    await expect(store.generations.append(first as never, event)).rejects.toThrow('Batches.admit');
  });

  it('cancels what waits of it, held or queued, for whoever saw the newest state', async () => {
    const one = await created(store, batch(), []);
    const all = await store.batches.extend(one, items(one, 5), START);
    const [runs, waits] = await admitted(store, one.id, 2);
    await appended(store, runs as never, started());
    const why = failure('batch_halted', 'Too many failed.');
    expect(await store.batches.cancelWaiting(one, 10, why, START)).toBeNull();
    expect(await store.batches.tally(one.id)).toMatchObject({ held: 3, counts: { cancelled: 0 } });
    expect(await store.batches.cancelWaiting(all as never, 2, why, START)).toEqual([
      waits?.id,
      (await everything(one.id))[2]?.generation.id,
    ]);
    expect(await store.batches.cancelWaiting(all as never, 10, why, START)).toHaveLength(2);
    expect(await store.batches.cancelWaiting(all as never, 10, why, START)).toEqual([]);
    expect(await store.batches.tally(one.id)).toMatchObject({
      held: 0,
      counts: { running: 1, cancelled: 4 },
      reserved: 2_000,
    });
  });

  it('lists ids of its items in a state, in order, for cancelling them', async () => {
    const one = await created(store);
    const [first] = await admitted(store, one.id, 1);
    const ids = await store.batches.idsIn(one.id, 'queued', 2);
    expect(ids).toEqual((await everything(one.id)).slice(0, 2).map((i) => i.generation.id));
    await appended(store, first as never, cancelled());
    expect(await store.batches.idsIn(one.id, 'queued', 10)).toHaveLength(2);
    expect(await store.batches.idsIn(one.id, 'cancelled', 10)).toEqual([first?.id]);
  });

  it('stores an item that cannot run and fails it at once', async () => {
    const one = batch();
    const why = failure('unknown_model', 'There is no model nope.');
    const key = { idempotencyKey: 'k' };
    const made = await created(store, one, [item(one, 0), { draft: item(one, 1, key).draft, failure: why }]);
    expect(made).toMatchObject({ total: 2, projected: 2_000 });
    expect(await store.batches.tally(one.id)).toMatchObject({ held: 1, counts: counts({ queued: 1, failed: 1 }) });
    const [refused] = (await store.batches.items(one.id, { statuses: ['failed'] }, 10)).data;
    expect(refused).toMatchObject({ index: 1, key: 'k', generation: { seq: 2, state: { failure: why } } });
    const log = await store.events.after(
      0,
      { workspaceId: 'studio', generationIds: [refused?.generation.id ?? ''] },
      9,
    );
    expect(log?.map((e) => [e.seq, e.event.type])).toEqual([
      [1, 'submitted'],
      [2, 'failed'],
    ]);
    expect(await inserted(store, { ...key, requestHash: 'another' }), 'it took no claim').toBeDefined();
  });

  it('moves a batch for whoever saw the newest state, and nobody else', async () => {
    const one = await created(store);
    const paused = await store.batches.change(one, { type: 'paused', at: START }, NO_TALLY);
    expect(paused).toEqual({ ...one, seq: 2, status: 'paused' });
    expect(await store.batches.get(one.id)).toEqual(paused);
    expect(await store.batches.change(one, { type: 'cancelled', at: START }, NO_TALLY)).toBeNull();
    expect(await store.batches.extend(one, items(one, 1), START)).toBeNull();
    expect(await store.batches.retry(one, items(one, 1), START)).toBeNull();
    expect((await everything(one.id)).length).toBe(3);
    await expect(store.batches.change(one, { type: 'settled', at: START }, NO_TALLY)).rejects.toThrow('cannot follow');
  });

  it('lists batches newest first, and those that have not ended oldest first', async () => {
    const all = [];
    for (let n = 0; n < 5; n++) all.push(await created(store, batch({ createdAt: START + n }), []));
    await workspace(store, 'other');
    const foreign = await created(store, batch({ workspaceId: 'other', createdAt: START + 9 }), []);
    const ids: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await store.batches.list('studio', 2, cursor);
      ids.push(...page.data.map((b) => b.id));
      if (page.next === null) break;
      cursor = page.next;
    }
    expect(ids).toEqual(all.map((b) => b.id).reverse());
    const ended = await store.batches.change(all[1] as never, { type: 'finished', at: START }, NO_TALLY);
    expect(ended?.finishedAt).toBe(START);
    expect((await store.batches.open()).map((b) => b.id)).toEqual(
      [...all.filter((_, n) => n !== 1), foreign].map((b) => b.id),
    );
  });

  it('logs what batches do beside what their items do', async () => {
    const one = await created(store, batch(), []);
    const more = await store.batches.extend(one, [item(one, 0)], START + 1);
    const tally = await store.batches.tally(one.id);
    const last = await store.batches.change(more as never, { type: 'cancelled', at: START + 2 }, tally);
    const log = await store.events.after(0, { workspaceId: 'studio', batchId: one.id }, 10);
    expect(log?.map((e) => [e.cursor, e.seq, e.event.type])).toEqual([
      [1, 1, 'running'],
      [2, 1, 'submitted'],
      [3, 2, 'extended'],
      [4, 3, 'cancelled'],
    ]);
    expect(log?.[3]).toEqual({
      cursor: 4,
      workspaceId: 'studio',
      batchId: one.id,
      seq: 3,
      event: { type: 'cancelled', at: START + 2 },
      batch: last,
      tally,
    });
    expect(log?.[2]).toMatchObject({ tally: { held: 1 } });
    expect(await store.events.after(0, { workspaceId: 'studio' }, 10)).toEqual(log);
    expect(await store.events.after(0, { workspaceId: 'studio', generationIds: [one.id] }, 10)).toEqual([]);
  });

  it('keeps a workspace whose batch has not ended', async () => {
    await workspace(store, 'w');
    const one = await created(store, batch({ workspaceId: 'w' }), []);
    await expect(store.accounts.deleteWorkspace('w')).rejects.toMatchObject({ failure: { code: 'conflict' } });
    await store.batches.change(one, { type: 'finished', at: START }, NO_TALLY);
    expect(await store.accounts.deleteWorkspace('w')).toBe(true);
  });

  it('is all there after opening again', async () => {
    const one = await created(store);
    await admitted(store, one.id, 1);
    const before = [await store.batches.get(one.id), await store.batches.tally(one.id), await everything(one.id)];
    await store.close();
    store = await site.open();
    expect([await store.batches.get(one.id), await store.batches.tally(one.id), await everything(one.id)]).toEqual(
      before,
    );
  });

  it('knows a label from a batch: what only names it is listed, not counted', async () => {
    const one = await created(store);
    const labelled = await inserted(store, { batchId: one.id });
    expect(await store.batches.tally(one.id)).toMatchObject({ counts: { queued: 3 } });
    const listed = await store.generations.list({ workspaceId: 'studio', batchId: one.id }, 10);
    expect(listed.data.map((g) => g.id)).toContain(labelled.id);
    expect(draft().item).toBeNull();
  });
});

const RULES = { windowMs: 60_000, minFinished: 20, threshold: 0.1, cooldownMs: 60_000, trips: 2 };

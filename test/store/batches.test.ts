// Batches: made whole or not at all, counted over their items, moved only by whoever saw the newest state.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { NO_TALLY } from '../../src/domain/batch.ts';
import { failure } from '../../src/domain/failure.ts';
import { laneOf } from '../../src/domain/lane.ts';
import type { Recorded, Store } from '../../src/store/store.ts';
import { accepted, admitted, batch, created, item, items, whole } from './batch-drafts.ts';
import {
  appended,
  cancelled,
  draft,
  failed,
  inserted,
  newKey,
  START,
  started,
  succeeded,
  workspace,
} from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

const HOUR = 3_600_000;
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

// The queue as the scheduler reads it, and the listings people read: in order, complete, and by index.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { laneOf } from '../../src/domain/lane.ts';
import type { Page, Store } from '../../src/store/store.ts';
import { appended, cancelled, draft, inserted, requeued, START, started, succeeded, workspace } from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';

async function everyPage<T>(fetch: (cursor?: string) => Promise<Page<T>>): Promise<T[]> {
  const all: T[] = [];
  for (let page = await fetch(); ; page = await fetch(page.next)) {
    all.push(...page.data);
    if (page.next === null) return all;
  }
}

onBothEngines((engine) => {
  let site: Site & { readonly store: Store };
  let store: Store;
  beforeEach(async () => {
    site = await freshStore(engine);
    store = site.store;
    await workspace(store);
  });
  afterEach(() => site[Symbol.asyncDispose]());

  it('counts each lane with something queued', async () => {
    const one = await inserted(store);
    await inserted(store);
    const batch = await inserted(store, { batchId: 'batch_1', priority: 'batch' });
    const gone = await inserted(store, { model: 'sdxl' });
    await appended(store, gone, started());
    const lanes = await store.generations.lanes();
    expect(new Map(lanes.map((l) => [l.lane, l.queued]))).toEqual(
      new Map([
        [laneOf(one).key, 2],
        [laneOf(batch).key, 1],
      ]),
    );
  });

  it('moves a generation to another lane when an attempt tells it to avoid a node', async () => {
    const one = await inserted(store);
    const again = await appended(store, one, started(), requeued(START, START + 5_000));
    expect(await store.generations.lanes()).toEqual([{ lane: laneOf(again).key, queued: 1 }]);
    expect(await store.generations.window(laneOf(again).key, 10)).toEqual([
      { id: one.id, createdAt: START, notBefore: START + 5_000, startBy: null },
    ]);
    expect(await store.generations.window(laneOf(one).key, 10)).toEqual([]);
  });

  it('takes lanes whose name is longer than an index entry may be', async () => {
    const loras = Array.from({ length: 16 }, (_, i) => ({ name: `${i}-`.padEnd(300, 'long/name'), strength: 1 }));
    const one = await inserted(store, { params: { ...draft().params, loras } });
    expect(await store.generations.lanes()).toEqual([{ lane: laneOf(one).key, queued: 1 }]);
    expect(await store.generations.window(laneOf(one).key, 1)).toHaveLength(1);
  });

  it('opens a window on a lane by age and continues behind an id', async () => {
    const drafts = Array.from({ length: 10 }, () => draft({ startBy: START + 60_000 }));
    await store.generations.insert(drafts);
    const lane = laneOf(draft()).key;
    const first = await store.generations.window(lane, 4);
    expect(first.map((s) => s.id)).toEqual(drafts.slice(0, 4).map((d) => d.id));
    expect(first[0]).toEqual({ id: drafts[0]?.id, createdAt: START, notBefore: START, startBy: START + 60_000 });
    const rest = await store.generations.window(lane, 100, first.at(-1)?.id);
    expect(rest.map((s) => s.id)).toEqual(drafts.slice(4).map((d) => d.id));
  });

  it('lists what runs, and the queued ids newest first', async () => {
    const ids = (await store.generations.insert(Array.from({ length: 4 }, () => draft()))).map((r) =>
      'generation' in r ? r.generation : draft(),
    );
    const running = await appended(store, ids[1] as (typeof ids)[0], started());
    expect(await store.generations.running()).toEqual([running]);
    expect(await store.generations.queuedIds('studio', 2)).toEqual([ids[3]?.id, ids[2]?.id]);
  });

  it('finds those whose start deadline has passed, and the next deadline', async () => {
    const late = await inserted(store, { startBy: START + 10 });
    const later = await inserted(store, { startBy: START + 20 });
    await inserted(store);
    await appended(store, await inserted(store, { startBy: START + 5 }), started());
    expect(await store.generations.overdue(START + 10, 10)).toEqual({ ids: [late.id], next: START + 20 });
    expect(await store.generations.overdue(START + 20, 10)).toEqual({ ids: [late.id, later.id], next: null });
  });

  it('pages through a workspace newest first, each once, though others arrive meanwhile', async () => {
    await workspace(store, 'other');
    const drafts = Array.from({ length: 25 }, (_, i) => draft({ createdAt: START + Math.floor(i / 3) }));
    await store.generations.insert([...drafts, draft({ workspaceId: 'other' })]);
    const all = await everyPage(async (cursor) => {
      const page = await store.generations.list({ workspaceId: 'studio' }, 7, cursor);
      await inserted(store, { createdAt: START + 1_000 });
      return page;
    });
    expect(all.map((g) => g.id)).toEqual(drafts.map((d) => d.id).reverse());
  });

  it('filters by each thing and by all together', async () => {
    const match = {
      model: 'sdxl',
      batchId: 'batch_1',
      metadata: { ticket: 'MKT-2241', shot: 7, hero: true },
      createdAt: START + 50,
    };
    const wanted = await inserted(store, match);
    await inserted(store, { ...match, model: 'flux-dev' });
    await inserted(store, { ...match, batchId: null });
    await inserted(store, { ...match, metadata: { ticket: 'MKT-2242', shot: 7, hero: true } });
    await inserted(store, { ...match, metadata: { ticket: 'MKT-2241', shot: 8, hero: true } });
    await inserted(store, { ...match, createdAt: START });
    await appended(store, await inserted(store, match), cancelled());
    const filter = {
      workspaceId: 'studio',
      statuses: ['queued'],
      model: 'sdxl',
      batchId: 'batch_1',
      since: START + 50,
    } as const;
    const listed = await store.generations.list(
      { ...filter, metadata: { ticket: 'MKT-2241', shot: '7', hero: 'true' } },
      10,
    );
    expect(listed.data.map((g) => g.id)).toEqual([wanted.id]);
    const count = async (f: object) => (await store.generations.list({ workspaceId: 'studio', ...f }, 50)).data.length;
    expect(await count({ model: 'sdxl' })).toBe(6);
    expect(await count({ batchId: 'batch_1' })).toBe(6);
    expect(await count({ since: START + 50 })).toBe(6);
    expect(await count({ metadata: { shot: '7' } })).toBe(6);
    expect(await count({ statuses: ['cancelled'] })).toBe(1);
    expect(await count({ statuses: [] })).toBe(0);
  });

  it('pages through several statuses in one order', async () => {
    const made = [];
    for (let i = 0; i < 12; i++) {
      const one = await inserted(store, { createdAt: START + i });
      made.push(one);
      if (i % 3 === 0) await appended(store, one, started());
      if (i % 3 === 1) await appended(store, one, started(), succeeded());
    }
    const filter = { workspaceId: 'studio', statuses: ['running', 'succeeded', 'running'] } as const;
    const all = await everyPage((cursor) => store.generations.list(filter, 3, cursor));
    expect(all.map((g) => g.id)).toEqual(
      made
        .filter((_, i) => i % 3 !== 2)
        .map((g) => g.id)
        .reverse(),
    );
  });

  it.each([
    '',
    'x',
    'bnVsbA',
    Buffer.from('[1,"a",2]').toString('base64url'),
    Buffer.from('[ 1,"a"]').toString('base64url'),
  ])('refuses the forged cursor %j', async (cursor) => {
    await expect(store.generations.list({ workspaceId: 'studio' }, 5, cursor)).rejects.toMatchObject({
      failure: { code: 'invalid_request' },
    });
  });
});

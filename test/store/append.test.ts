// Appending: one event moves row, log and ledger together, and only for whoever saw the newest state.

import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Served } from '../../src/domain/event.ts';
import type { Recorded, Store } from '../../src/store/store.ts';
import {
  appended,
  cancelled,
  failed,
  inserted,
  must,
  output,
  requeued,
  START,
  started,
  succeeded,
  workspace,
} from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

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

  it('stores what the reducer says and numbers it', async () => {
    const one = await inserted(store);
    const { generation, stored } = must(await store.generations.append(one, started()));
    expect(generation).toMatchObject({ seq: 2, state: { status: 'running', node: 'rack-1' } });
    expect(stored).toMatchObject({ cursor: 2, seq: 2, generationId: one.id, workspaceId: 'studio', event: started() });
    expect(await store.generations.get(one.id)).toEqual(generation);
  });

  it('charges what succeeded and gives back the rest', async () => {
    const one = await inserted(store, {
      reserved: 5_000,
      quote: { perOutput: 2_000, perNodeSecond: 0, reserve: 5_000 },
    });
    await appended(store, one, started(), succeeded());
    expect(await store.ledger.credits('studio')).toEqual({ balance: 998_000, reserved: 0 });
  });

  it.each([
    ['failure', [started(), failed()]],
    ['cancelling', [cancelled()]],
  ])('gives everything back after %s', async (_, events) => {
    const one = await inserted(store);
    await appended(store, one, ...events);
    expect(await store.ledger.credits('studio')).toEqual({ balance: 1_000_000, reserved: 0 });
  });

  it('keeps the reservation through any number of attempts', async () => {
    const one = await inserted(store);
    const again = await appended(
      store,
      one,
      started(),
      requeued(),
      started(START, 'rack-2'),
      requeued(START, START, 'rack-2'),
    );
    expect(again).toMatchObject({ state: { attempt: 3 }, avoid: ['rack-1', 'rack-2'] });
    expect(await store.ledger.credits('studio')).toEqual({ balance: 1_000_000, reserved: 2_000 });
  });

  it('answers null to whoever saw an older state, and changes nothing', async () => {
    const one = await inserted(store);
    const now = await appended(store, one, started());
    expect(await store.generations.append(one, cancelled())).toBeNull();
    expect(await store.generations.get(one.id)).toEqual(now);
    expect(await store.events.latest()).toBe(2);
  });

  it('lets one of many racing events win, without harm to others of the group', async () => {
    const [one, other] = [await inserted(store), await inserted(store)];
    const results = await Promise.all([
      ...Array.from({ length: 10 }, (_, i) => store.generations.append(one, started(START, `rack-${i}`))),
      store.generations.append(other, started()),
    ]);
    expect(results.slice(0, 10).filter((r) => r !== null)).toHaveLength(1);
    expect(results[10]).not.toBeNull();
  });

  it('lets one of two gateways win', async () => {
    const other = await site.open();
    const one = await inserted(store);
    const results = await Promise.all([store, other].map((s) => s.generations.append(one, started())));
    expect(results.filter((r) => r !== null)).toHaveLength(1);
  });

  it('refuses an event the state does not accept, without harm to others of the group', async () => {
    const [one, other] = [await inserted(store), await inserted(store)];
    const results = await Promise.allSettled([
      store.generations.append(one, succeeded()),
      store.generations.append(other, started()),
    ]);
    expect(results.map((r) => r.status)).toEqual(['rejected', 'fulfilled']);
  });

  it('shares one commit among all appends of a turn', async () => {
    const all = await Promise.all(Array.from({ length: 40 }, () => inserted(store)));
    const before = store.commits;
    await Promise.all(all.map((g) => appended(store, g, started())));
    expect(store.commits - before).toBe(1);
  });

  it('tells listeners what was committed, in order, before the callers hear of it', async () => {
    const told: Recorded[] = [];
    const order: string[] = [];
    using _ = store.onCommit((recorded) => {
      told.push(...recorded);
      order.push('listener');
    });
    const one = await inserted(store).finally(() => order.push('caller'));
    const last = await appended(store, one, started(), requeued(), cancelled());
    expect(order.slice(0, 2)).toEqual(['listener', 'caller']);
    expect(told.map((r) => r.stored.cursor)).toEqual([1, 2, 3, 4]);
    expect(told.at(-1)).toMatchObject({ generation: last });
  });

  it('says nothing to a listener that was disposed', async () => {
    const told: unknown[] = [];
    store.onCommit((recorded) => told.push(recorded))[Symbol.dispose]();
    await inserted(store);
    expect(told).toEqual([]);
  });

  it('keeps the softened prompt of a later attempt', async () => {
    const one = await inserted(store, { softenedPrompt: 'a kinder chair' });
    const soft = { ...requeued(), soften: true } as ReturnType<typeof requeued>;
    const again = await appended(store, one, started(), soft);
    expect(await store.generations.get(one.id)).toEqual(again);
    expect(again).toMatchObject({ softened: true, params: { prompt: 'a kinder chair' } });
  });

  it('keeps model, parameters and price of what serves instead, and charges by that price', async () => {
    const one = await inserted(store, { reserved: 5_000 });
    const served: Served = {
      model: 'flux-schnell',
      params: { ...one.params, steps: 4, guidance: 1 },
      quote: { perOutput: 700, perNodeSecond: 0, reserve: 700 },
    };
    const begun = await appended(store, one, { ...started(), served } as ReturnType<typeof started>);
    expect(begun).toMatchObject({ ...served, requestedModel: 'flux-dev' });
    const other = await site.open();
    const found = await other.generations.get(one.id);
    expect(found).toEqual(begun);
    const again = await appended(other, found ?? one, requeued(), started(START, 'rack-2'));
    expect(await store.generations.get(one.id)).toEqual(again);
    const read = (await store.generations.get(one.id)) ?? one;
    expect(await appended(store, read, succeeded())).toMatchObject({ charged: 700, reserved: 0 });
    expect(await store.ledger.credits('studio')).toEqual({ balance: 999_300, reserved: 0 });
  });

  it('folds any earlier state from its events', async () => {
    const states = [await inserted(store, { softenedPrompt: 'kinder' })];
    for (const event of [started(), requeued(), started(START, 'rack-2'), succeeded(START + 9_000, [output()])]) {
      states.push(await appended(store, states.at(-1) as (typeof states)[0], event));
    }
    for (const state of states) expect(await store.events.generationAt(state.id, state.seq)).toEqual(state);
    expect(await store.events.generationAt(states[0]?.id ?? '', 9)).toBeNull();
    expect(await store.events.generationAt('gen_unknown', 1)).toBeNull();
  });
});

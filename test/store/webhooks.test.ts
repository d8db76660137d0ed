// Webhooks and their deliveries: written with the change they tell of, found when due, and never lost or told twice.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { batchHookBody } from '../../src/contract/webhooks.ts';
import type { Delivery, DeliveryState } from '../../src/domain/delivery.ts';
import { failure } from '../../src/domain/failure.ts';
import type { Recorded, Store } from '../../src/store/store.ts';
import { batch, created, item, webhook } from './batch-drafts.ts';
import { appended, cancelled, failed, inserted, requeued, START, started, succeeded, workspace } from './drafts.ts';
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
  const all = async (filter = {}) => (await store.deliveries.list('studio', filter, 100)).data;
  const hook = async (over = {}) => {
    const made = webhook(over);
    await store.webhooks.create(made);
    return made;
  };
  const ping = (over: Partial<Delivery> = {}): Delivery => ({
    id: `msg_${String(pings++).padStart(26, '0')}`,
    workspaceId: 'studio',
    webhookId: null,
    url: 'https://studio.example/ping',
    event: 'ping',
    generationId: null,
    batchId: null,
    createdAt: START,
    since: START,
    state: 'pending',
    nextAttemptAt: START,
    body: '{}',
    attempts: [],
    ...over,
  });
  let pings = 0;
  const attempt = (at = START, statusCode: number | null = 500) => ({ at, statusCode, error: 'HTTP 500', ms: 12 });
  const then = (state: DeliveryState, nextAttemptAt: number | null = null, body = '{"a":1}') => ({
    state,
    nextAttemptAt,
    body,
  });

  it('keeps a webhook, changes it and forgets it', async () => {
    const one = await hook({ description: 'NUL \0' });
    const kept = { ...one, description: 'NUL \uFFFD' };
    expect(await store.webhooks.get('studio', one.id)).toEqual(kept);
    expect(await store.webhooks.get('other', one.id)).toBeNull();
    const patch = { events: ['batch.finished'], description: null, secrets: [] } as const;
    expect(await store.webhooks.update('studio', one.id, patch)).toEqual({ ...kept, ...patch });
    expect(await store.webhooks.get('studio', one.id)).toEqual({ ...kept, ...patch });
    expect(await store.webhooks.update('other', one.id, patch)).toBeNull();
    expect(await store.webhooks.delete('other', one.id)).toBe(false);
    expect(await store.webhooks.delete('studio', one.id)).toBe(true);
    expect(await store.webhooks.delete('studio', one.id)).toBe(false);
    expect(await store.webhooks.get('studio', one.id)).toBeNull();
  });

  it('lists webhooks of a workspace newest first', async () => {
    await workspace(store, 'other');
    await hook({ workspaceId: 'other' });
    const made = [await hook(), await hook({ createdAt: START + 1 }), await hook({ createdAt: START + 2 })];
    const first = await store.webhooks.list('studio', 2);
    const rest = await store.webhooks.list('studio', 2, first.next ?? '');
    expect([...first.data, ...rest.data]).toEqual(made.reverse());
    expect(rest.next).toBeNull();
  });

  it('keeps the default secrets of a workspace for whoever saw the newest', async () => {
    const [a, b] = [[{ key: 'whsec_a', until: null }], [{ key: 'whsec_b', until: null }]];
    expect(await store.webhooks.secrets('studio')).toEqual([]);
    const firsts = await Promise.all([
      store.webhooks.putSecrets('studio', [], a),
      store.webhooks.putSecrets('studio', [], b),
    ]);
    expect(firsts).toEqual([true, false]);
    expect(await store.webhooks.secrets('studio')).toEqual(a);
    expect(await store.webhooks.putSecrets('studio', a, [...b, ...a])).toBe(true);
    expect(await store.webhooks.secrets('studio')).toEqual([...b, ...a]);
  });

  it('writes a delivery for each hook that wants the event, and for the own URL, with the change itself', async () => {
    const one = await hook();
    await hook({ events: ['generation.failed'] });
    await workspace(store, 'other');
    await hook({ workspaceId: 'other' });
    const told: Recorded[] = [];
    using _ = store.onCommit((recorded) => told.push(...recorded));
    const made = await inserted(store, { webhookUrl: 'https://job.example/' });
    const done = await appended(store, made, started(), succeeded(START + 5));
    expect(told.map((r) => r.deliveries)).toEqual([0, 0, 2]);
    const common = {
      workspaceId: 'studio',
      event: 'generation.succeeded',
      generationId: done.id,
      batchId: null,
      createdAt: START + 5,
      since: START + 5,
      state: 'pending',
      nextAttemptAt: START + 5,
      body: null,
      attempts: [],
    };
    const rows = await all();
    expect(rows).toHaveLength(2);
    expect(rows).toContainEqual({ ...common, id: expect.anything(), webhookId: one.id, url: one.url });
    expect(rows).toContainEqual({ ...common, id: expect.anything(), webhookId: null, url: 'https://job.example/' });
    for (const { id } of rows) expect(id).toMatch(/^msg_[0-9a-v]{26}$/);
    expect(await store.deliveries.get('studio', rows[0]?.id ?? '')).toEqual(rows[0]);
    expect(await store.deliveries.get('other', rows[0]?.id ?? '')).toBeNull();
  });

  it('tells nothing of what someone else moved first, and nothing before the end', async () => {
    await hook();
    const one = await inserted(store);
    const now = await appended(store, one, started(), requeued());
    await store.generations.append(one, cancelled());
    expect(await all()).toEqual([]);
    await appended(store, now, cancelled());
    expect(await all()).toHaveLength(1);
  });

  it('tells of each of many that end in one commit, and of items that fail at once', async () => {
    await hook();
    const made = await Promise.all(Array.from({ length: 200 }, () => inserted(store)));
    await Promise.all(made.map((g) => appended(store, g, cancelled())));
    expect(await store.deliveries.waiting()).toBe(200);
    const one = batch();
    const why = failure('unknown_model', 'There is no such model.');
    await created(store, one, [item(one, 0), { draft: item(one, 1).draft, failure: why }]);
    expect(await store.deliveries.waiting()).toBe(201);
    const { data } = await store.deliveries.list('studio', {}, 1_000);
    expect(data.filter((d) => d.event === 'generation.failed')).toHaveLength(1);
  });

  it('fixes what it will say of a batch at its end, once per end', async () => {
    const mine = await hook();
    const told: Recorded[] = [];
    using _ = store.onCommit((recorded) => told.push(...recorded));
    const one = await created(store, batch(), []);
    const tally = await store.batches.tally(one.id);
    const ended = await store.batches.change(one, { type: 'finished', at: START + 1 }, tally);
    if (ended === null) throw new Error('someone moved first');
    const [first] = await all();
    expect(first).toMatchObject({ webhookId: mine.id, event: 'batch.finished', batchId: one.id, generationId: null });
    expect(first?.body).toBe(JSON.stringify(batchHookBody(ended, tally)));
    expect(told.map((r) => r.deliveries)).toEqual([0, 1]);
    const again = await store.batches.retry(ended, [], START + 2);
    await store.batches.change(again as never, { type: 'finished', at: START + 3 }, tally);
    const ids = (await all()).map((d) => d.id);
    expect(new Set(ids).size).toBe(2);
  });

  it('finds who has something due, longest due first, whatever waits behind each', async () => {
    const at = (url: string, due: number, over = {}) => ping({ url, nextAttemptAt: due, ...over });
    await workspace(store, 'other');
    const b = at('https://b/', START + 10);
    const added = [
      at('https://a/', START + 30),
      at('https://a/', START + 20),
      b,
      at('https://b/', START + 90),
      at('https://c/', START + 40),
      at('https://b/', START + 15, { workspaceId: 'other' }),
      at('https://d/', START, { state: 'dead', nextAttemptAt: null }),
    ];
    for (const one of added) await store.deliveries.add(one);
    const who = async (now: number, limit = 10) =>
      (await store.deliveries.receivers(now, limit)).map((r) => `${r.workspaceId} ${r.url}`);
    expect(await who(START + 9)).toEqual([]);
    expect(await who(START + 30)).toEqual(['studio https://b/', 'other https://b/', 'studio https://a/']);
    expect(await who(START + 30, 1)).toEqual(['studio https://b/']);
    expect(await who(START + 1_000)).toHaveLength(4);
    const due = await store.deliveries.due({ workspaceId: 'studio', url: 'https://a/' }, START + 30, 10);
    expect(due.map((d) => d.nextAttemptAt)).toEqual([START + 20, START + 30]);
    expect(await store.deliveries.due({ workspaceId: 'studio', url: 'https://b/' }, START + 30, 10)).toEqual([b]);
    expect(await store.deliveries.next()).toBe(START + 10);
    expect(await store.deliveries.next(START + 20)).toBe(START + 30);
    expect(await store.deliveries.next(START + 90)).toBeNull();
  });

  it('lets no workspace and no host stand before the others, however much it has due', async () => {
    await workspace(store, 'other');
    const hung = ['https://hung/1', 'https://hung/2', 'https://hung', 'https://hung/3?a=/b'];
    for (const [n, url] of hung.entries()) await store.deliveries.add(ping({ url, nextAttemptAt: START + n }));
    await store.deliveries.add(ping({ url: 'http://good/hook', nextAttemptAt: START + 20 }));
    await store.deliveries.add(ping({ url: 'https://late/', nextAttemptAt: START + 30, workspaceId: 'other' }));
    const who = (await store.deliveries.receivers(START + 90, 10)).map((r) => r.url);
    expect(who).toEqual(['https://hung/1', 'https://late/', 'http://good/hook', ...hung.slice(1)]);
    expect(await store.deliveries.receivers(START + 90, 3)).toHaveLength(3);
  });

  it('counts what is waiting, of one webhook or of all', async () => {
    const one = await hook();
    await store.deliveries.add(ping({ webhookId: one.id, url: one.url }));
    await store.deliveries.add(ping());
    await store.deliveries.add(ping({ webhookId: one.id, state: 'delivered', nextAttemptAt: null }));
    expect([await store.deliveries.waiting(one.id), await store.deliveries.waiting()]).toEqual([1, 2]);
  });

  it('makes everything due at once, or what waits for one receiver', async () => {
    for (let n = 0; n < 5; n++)
      await store.deliveries.add(ping({ url: `https://${n}/`, nextAttemptAt: START + n * 100 }));
    await store.deliveries.dueNow(START + 50, { workspaceId: 'studio', url: 'https://3/' });
    expect(await store.deliveries.receivers(START + 50, 10)).toHaveLength(2);
    await store.deliveries.dueNow(START + 50);
    expect(await store.deliveries.receivers(START + 50, 10)).toHaveLength(5);
    expect(await store.deliveries.next(), 'what was due before keeps its place').toBe(START);
  });

  it('logs every try, and ends when it arrived', async () => {
    const one = ping({ body: null });
    await store.deliveries.add(one);
    const second = await store.deliveries.attempted(one, attempt(), then('pending', START + 3_000));
    expect(second).toEqual({ ...one, nextAttemptAt: START + 3_000, body: '{"a":1}', attempts: [attempt()] });
    const done = await store.deliveries.attempted(one, attempt(START + 3_000, 204), then('delivered'));
    expect(done).toMatchObject({ state: 'delivered', nextAttemptAt: null, attempts: [{}, { statusCode: 204 }] });
    expect(await store.deliveries.get('studio', one.id)).toEqual(done);
    expect(await store.deliveries.attempted(one, attempt(), then('delivered')), 'not pending').toBeNull();
    expect(await store.deliveries.next()).toBeNull();
  });

  it('lets what is pending die with its webhook, and keeps the log', async () => {
    const one = await hook();
    const sent = await appended(store, await inserted(store), cancelled());
    await store.webhooks.delete('studio', one.id);
    const [dead] = await all();
    expect(dead).toMatchObject({ state: 'dead', nextAttemptAt: null, generationId: sent.id });
    expect(await store.deliveries.attempted(dead as never, attempt(), then('delivered'))).toBeNull();
    expect(await store.deliveries.redeliver('studio', dead?.id ?? '', START), 'nothing could sign it').toBeNull();
    await appended(store, await inserted(store), cancelled());
    expect(await all()).toHaveLength(1);
  });

  it('sends what is pending to the new address of its webhook, and what is redelivered too', async () => {
    const one = await hook();
    const ended = await appended(store, await inserted(store), cancelled());
    const [first] = await all();
    await store.webhooks.update('studio', one.id, { url: 'https://moved.example/' });
    expect(await store.deliveries.receivers(START, 5)).toEqual([
      { workspaceId: 'studio', url: 'https://moved.example/' },
    ]);
    await store.deliveries.attempted(first as never, attempt(), then('dead'));
    await store.webhooks.update('studio', one.id, { url: 'https://again.example/' });
    expect((await all())[0]?.url, 'the log says where it went').toBe('https://moved.example/');
    const anew = await store.deliveries.redeliver('studio', first?.id ?? '', START + 90);
    expect(anew).toMatchObject({
      id: first?.id,
      generationId: ended.id,
      url: 'https://again.example/',
      state: 'pending',
      nextAttemptAt: START + 90,
      createdAt: START,
      since: START + 90,
      body: '{"a":1}',
      attempts: [attempt()],
    });
    expect(await store.deliveries.get('studio', first?.id ?? '')).toEqual(anew);
    expect(await store.deliveries.redeliver('studio', 'msg_unknown', START)).toBeNull();
    expect(await store.deliveries.redeliver('other', first?.id ?? '', START)).toBeNull();
  });

  it('pages through deliveries newest first, by webhook and by state', async () => {
    const one = await hook();
    const added: Delivery[] = [];
    for (let n = 0; n < 9; n++) {
      const state = (['pending', 'delivered', 'dead'] as const)[n % 3] ?? 'pending';
      const nextAttemptAt = state === 'pending' ? START : null;
      added.push(ping({ createdAt: START + n, webhookId: n < 6 ? one.id : null, state, nextAttemptAt }));
    }
    for (const each of added) await store.deliveries.add(each);
    const ids: string[] = [];
    for (let cursor: string | undefined; ; ) {
      const page = await store.deliveries.list('studio', {}, 4, cursor);
      ids.push(...page.data.map((d) => d.id));
      if (page.next === null) break;
      cursor = page.next;
    }
    expect(ids).toEqual(added.map((d) => d.id).reverse());
    expect(await all({ webhookId: one.id })).toHaveLength(6);
    expect(await all({ webhookId: one.id, state: 'dead' })).toEqual([added[5], added[2]]);
    expect((await store.deliveries.list('other', { webhookId: one.id }, 10)).data).toEqual([]);
  });

  it('forgets deliveries that ended before, never pending ones', async () => {
    const ended = { state: 'delivered', nextAttemptAt: null } as const;
    await store.deliveries.add(ping({ ...ended, createdAt: START, attempts: [attempt(START + 5)] }));
    await store.deliveries.add(ping({ ...ended, createdAt: START, attempts: [attempt(START + 10)] }));
    await store.deliveries.add(ping({ createdAt: 0, nextAttemptAt: 0 }));
    expect(await store.deliveries.prune(START + 10)).toBe(1);
    expect(await all()).toHaveLength(2);
  });

  it('lets the webhooks of a workspace go with it', async () => {
    await workspace(store, 'w');
    const one = await hook({ workspaceId: 'w' });
    await store.webhooks.putSecrets('w', [], [{ key: 'whsec_a', until: null }]);
    await appended(store, await inserted(store, { workspaceId: 'w' }), started(), failed());
    expect(await store.accounts.deleteWorkspace('w')).toBe(true);
    expect(await store.webhooks.get('w', one.id)).toBeNull();
    expect(await store.webhooks.secrets('w')).toEqual([]);
    expect(await store.deliveries.waiting()).toBe(0);
  });
});

// Inserting: what is durable, what is refused, and what an idempotency key means.

import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Store } from '../../src/store/store.ts';
import {
  appended,
  cancelled,
  draft,
  failed,
  inserted,
  insertOne,
  newKey,
  started,
  succeeded,
  workspace,
} from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

const HOUR = 3_600_000;

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

  it('gives back what was inserted', async () => {
    const one = draft({
      prompt: 'NUL \0, lone \ud800 and “quotes”',
      metadata: { shot: 12, dark: true, 'a\0b': 'c\0d' },
    });
    expect(await insertOne(store, one)).toMatchObject({
      outcome: 'inserted',
      generation: one,
      stored: { cursor: 1, seq: 1 },
    });
    expect(await store.generations.get(one.id)).toEqual(one);
    expect(await store.generations.get('gen_unknown')).toBeNull();
  });

  it('is still there after closing and opening again', async () => {
    const one = await inserted(store);
    await store.close();
    store = await site.open();
    expect(await store.generations.get(one.id)).toEqual(one);
  });

  it('reserves with the insert', async () => {
    await inserted(store, { reserved: 2_500 });
    expect(await store.ledger.credits('studio')).toEqual({ balance: 1_000_000, reserved: 2_500 });
  });

  it('shares one commit among all inserts of a turn, however they were asked for', async () => {
    const before = store.commits;
    await Promise.all(Array.from({ length: 50 }, () => inserted(store)));
    expect(store.commits - before).toBe(1);
  });

  it('inserts thousands in one transaction without holding the event loop', async () => {
    const before = store.commits;
    let turns = 0;
    const counting = setInterval(() => turns++, 0);
    const results = await store.generations.insert(
      Array.from({ length: 2_000 }, (_, i) => draft({ reserved: 1, metadata: { shot: i } })),
    );
    clearInterval(counting);
    expect(results.every((r) => r.outcome === 'inserted')).toBe(true);
    expect(store.commits - before).toBe(1);
    expect(turns).toBeGreaterThan(10);
  });

  it('refuses what the workspace cannot pay, naming need and rest, and writes nothing', async () => {
    await workspace(store, 'poor', 3_000);
    await inserted(store, { workspaceId: 'poor' });
    const key = { workspaceId: 'poor', idempotencyKey: 'k' };
    const result = await insertOne(store, draft({ ...key, reserved: 1_500 }));
    expect(result).toMatchObject({
      outcome: 'refused',
      failure: { code: 'insufficient_credits', message: 'This needs 1.5 credits; 1 are available.' },
    });
    expect(await insertOne(store, draft({ ...key, reserved: 1_000 })), 'the refusal used no key up').toMatchObject({
      outcome: 'inserted',
    });
  });

  it('lets parallel submits spend the last credit once', async () => {
    await workspace(store, 'poor', 10_000);
    const results = await Promise.all(
      Array.from({ length: 32 }, () => insertOne(store, draft({ workspaceId: 'poor' }))),
    );
    expect(results.filter((r) => r.outcome === 'inserted')).toHaveLength(5);
  });

  it('takes what costs nothing even without credits', async () => {
    await workspace(store, 'poor', 0);
    expect(await insertOne(store, draft({ workspaceId: 'poor', reserved: 0 }))).toMatchObject({ outcome: 'inserted' });
  });

  it('refuses beyond the queue limit until something leaves the queue', async () => {
    await workspace(store, 'small', 1_000_000, { queue: 2 });
    const first = await inserted(store, { workspaceId: 'small' });
    await inserted(store, { workspaceId: 'small' });
    expect(await insertOne(store, draft({ workspaceId: 'small' }))).toMatchObject({ failure: { code: 'queue_full' } });
    await appended(store, first, started());
    expect(await insertOne(store, draft({ workspaceId: 'small' }))).toMatchObject({ outcome: 'inserted' });
  });

  it('holds a key to its spend cap, and gives back what was released', async () => {
    const key = await store.accounts.createKey(newKey({ spendCap: 4_000 }), site.clock.now());
    const first = await inserted(store, { keyId: key.id });
    const second = await inserted(store, { keyId: key.id });
    await appended(store, first, started(), succeeded());
    expect(await insertOne(store, draft({ keyId: key.id })), 'charged stays spent').toMatchObject({
      failure: { code: 'budget_exceeded', message: 'This needs 2 credits; this key may still spend 0.' },
    });
    await appended(store, second, cancelled());
    expect(await insertOne(store, draft({ keyId: key.id }))).toMatchObject({ outcome: 'inserted' });
  });

  it('refuses a workspace that is not there', async () => {
    expect(await insertOne(store, draft({ workspaceId: 'nowhere' }))).toMatchObject({ failure: { code: 'not_found' } });
  });

  it('lets one broken draft fail alone', async () => {
    const taken = await inserted(store);
    const results = await Promise.allSettled([
      store.generations.insert([draft()]),
      store.generations.insert([draft({ id: taken.id })]),
      store.generations.insert([draft()]),
    ]);
    expect(results.map((r) => r.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  });

  it('inserts one of 32 parallel submits with one key and replays the others', async () => {
    const results = await Promise.all(
      Array.from({ length: 32 }, () => insertOne(store, draft({ idempotencyKey: 'k' }))),
    );
    expect(results.filter((r) => r.outcome === 'inserted')).toHaveLength(1);
    expect(results.filter((r) => r.outcome === 'replayed')).toHaveLength(31);
    expect(new Set(results.map((r) => 'generation' in r && r.generation.id)).size).toBe(1);
  });

  it('replays the generation as it is now, across a restart', async () => {
    const one = await inserted(store, { idempotencyKey: 'k' });
    const done = await appended(store, one, started(), succeeded());
    await store.close();
    store = await site.open();
    expect(await insertOne(store, draft({ idempotencyKey: 'k' }))).toEqual({ outcome: 'replayed', generation: done });
  });

  it('keeps keys of workspaces apart', async () => {
    await workspace(store, 'other');
    await inserted(store, { idempotencyKey: 'k' });
    expect(await insertOne(store, draft({ idempotencyKey: 'k', workspaceId: 'other' }))).toMatchObject({
      outcome: 'inserted',
    });
  });

  it('refuses another request under the same key, in one call and later', async () => {
    const [first, second] = await store.generations.insert([
      draft({ idempotencyKey: 'k', requestHash: 'one' }),
      draft({ idempotencyKey: 'k', requestHash: 'two' }),
    ]);
    expect(first).toMatchObject({ outcome: 'inserted' });
    expect(second).toMatchObject({ failure: { code: 'idempotency_conflict' } });
    expect(await insertOne(store, draft({ idempotencyKey: 'k', requestHash: 'two' }))).toMatchObject({
      failure: { code: 'idempotency_conflict' },
    });
  });

  it.each([
    ['failed', [started(), failed()]],
    ['cancelled', [cancelled()]],
  ])('starts anew after a %s generation and links back', async (_, events) => {
    const one = await inserted(store, { idempotencyKey: 'k' });
    await appended(store, one, ...events);
    const again = await insertOne(store, draft({ idempotencyKey: 'k' }));
    expect(again).toMatchObject({ outcome: 'inserted', generation: { previousId: one.id } });
    expect(await insertOne(store, draft({ idempotencyKey: 'k' }))).toMatchObject({
      outcome: 'replayed',
      generation: { id: 'generation' in again ? again.generation.id : '' },
    });
  });

  it('forgets a key 24 hours after it was used first', async () => {
    const one = await inserted(store, { idempotencyKey: 'k' });
    await site.clock.advance(24 * HOUR - 1);
    expect(await insertOne(store, draft({ idempotencyKey: 'k' }))).toMatchObject({ outcome: 'replayed' });
    await site.clock.advance(1);
    const again = await insertOne(store, draft({ idempotencyKey: 'k', requestHash: 'another' }));
    expect(again).toMatchObject({ outcome: 'inserted', generation: { previousId: null } });
    expect('generation' in again && again.generation.id).not.toBe(one.id);
  });

  it('refuses writes once closed', async () => {
    const other = await site.open();
    await other.close();
    await expect(other.generations.insert([draft()])).rejects.toMatchObject({ failure: { code: 'shutting_down' } });
  });
});

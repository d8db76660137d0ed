// Credits given, taken and summed up.

import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Generation } from '../../src/domain/generation.ts';
import type { Store } from '../../src/store/store.ts';
import {
  appended,
  cancelled,
  draft,
  inserted,
  insertOne,
  output,
  requeued,
  START,
  started,
  succeeded,
  workspace,
} from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

const DAY = 86_400_000;

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

  it('adds and takes credits, never below zero', async () => {
    expect(await store.ledger.grant('studio', 500, 'top-up', START)).toEqual({ balance: 1_000_500, reserved: 0 });
    expect(await store.ledger.grant('studio', -1_000_500, null, START)).toEqual({ balance: 0, reserved: 0 });
    await expect(store.ledger.grant('studio', -1, null, START)).rejects.toMatchObject({
      failure: { code: 'conflict' },
    });
    expect(await store.ledger.credits('studio')).toEqual({ balance: 0, reserved: 0 });
  });

  it('may take credits that are reserved; what is queued for them is the engine’s to cancel', async () => {
    const one = await inserted(store);
    expect(await store.ledger.grant('studio', -999_000, null, START)).toEqual({ balance: 1_000, reserved: 2_000 });
    await appended(store, one, cancelled());
    expect(await store.ledger.credits('studio')).toEqual({ balance: 1_000, reserved: 0 });
  });

  it('lets running work finish when its credits were taken, and owes them', async () => {
    const one = await appended(store, await inserted(store), started());
    await store.ledger.grant('studio', -999_000, null, START);
    await appended(store, one, succeeded());
    expect(await store.ledger.credits('studio')).toEqual({ balance: -1_000, reserved: 0 });
    expect(await insertOne(store, draft())).toMatchObject({
      failure: { code: 'insufficient_credits', message: 'This needs 2 credits; 0 are available.' },
    });
  });

  it('lets only as many parallel withdrawals through as the balance allows', async () => {
    const results = await Promise.allSettled(
      Array.from({ length: 10 }, () => store.ledger.grant('studio', -300_000, null, START)),
    );
    expect(results.filter((r) => r.status === 'fulfilled')).toHaveLength(3);
  });

  it('knows no credits of a workspace that is not there', async () => {
    await expect(store.ledger.credits('nowhere')).rejects.toMatchObject({ failure: { code: 'not_found' } });
    await expect(store.ledger.grant('nowhere', 1, null, START)).rejects.toMatchObject({
      failure: { code: 'not_found' },
    });
  });

  const served = async (over: Partial<Generation>, at: number, node = 'rack-1', outputs = 1) =>
    appended(
      store,
      await inserted(store, over),
      started(at - 4_000, node),
      succeeded(
        at,
        Array.from({ length: outputs }, (_, index) => output({ index })),
      ),
    );

  it('sums what was charged in a span, its end excluded', async () => {
    await served({}, START);
    await served({}, START + 1_000);
    await served({}, START + 2_000);
    await appended(store, await inserted(store), started(START), cancelled(START + 500));
    const { data, total } = await store.ledger.usage('studio', START, START + 2_000, null);
    expect(data).toEqual([]);
    expect(total).toEqual({ key: null, jobs: 2, outputs: 2, credits: 4_000, nodeSeconds: 8 });
  });

  it('groups by each thing, those without a value last', async () => {
    const quote = { perOutput: 2_000, perNodeSecond: 0, reserve: 4_000 };
    await served({ keyId: 'key_a', batchId: 'batch_1', metadata: { ticket: 'MKT-1', shot: 7 } }, START, 'rack-2');
    await served(
      { keyId: 'key_b', model: 'sdxl', metadata: { ticket: 'MKT-2' }, reserved: 4_000, quote },
      START + DAY,
      'rack-1',
      2,
    );
    await served({ keyId: 'key_b' }, START + DAY);
    const keys = async (group: Parameters<Store['ledger']['usage']>[3]) =>
      (await store.ledger.usage('studio', 0, START + 2 * DAY, group)).data.map((r) => [
        r.key,
        r.jobs,
        r.outputs,
        r.credits,
      ]);
    expect(await keys('day')).toEqual([
      ['2026-04-30', 1, 1, 2_000],
      ['2026-05-01', 2, 3, 6_000],
    ]);
    expect(await keys('model')).toEqual([
      ['flux-dev', 2, 2, 4_000],
      ['sdxl', 1, 2, 4_000],
    ]);
    expect(await keys('node')).toEqual([
      ['rack-1', 2, 3, 6_000],
      ['rack-2', 1, 1, 2_000],
    ]);
    expect(await keys('key')).toEqual([
      ['key_a', 1, 1, 2_000],
      ['key_b', 2, 3, 6_000],
    ]);
    expect(await keys('batch')).toEqual([
      ['batch_1', 1, 1, 2_000],
      [null, 2, 3, 6_000],
    ]);
    expect(await keys({ metadata: 'ticket' })).toEqual([
      ['MKT-1', 1, 1, 2_000],
      ['MKT-2', 1, 2, 4_000],
      [null, 1, 1, 2_000],
    ]);
    expect(await keys({ metadata: 'shot' })).toEqual([
      ['7', 1, 1, 2_000],
      [null, 2, 3, 6_000],
    ]);
    expect(await keys({ metadata: 'constructor' })).toEqual([[null, 3, 4, 8_000]]);
  });

  it('counts the seconds of every attempt', async () => {
    const one = await inserted(store);
    await appended(
      store,
      one,
      started(START),
      requeued(START + 3_000),
      started(START + 5_000, 'rack-2'),
      succeeded(START + 9_500),
    );
    const { data } = await store.ledger.usage('studio', START, START + DAY, 'node');
    expect(data).toEqual([{ key: 'rack-2', jobs: 1, outputs: 1, credits: 2_000, nodeSeconds: 7.5 }]);
  });

  it('sums more than it reads at a time', async () => {
    const made = await Promise.all(Array.from({ length: 1_100 }, () => inserted(store, { reserved: 1 })));
    await Promise.all(made.map((g, i) => appended(store, g, started(START), succeeded(START + (i % 5)))));
    expect((await store.ledger.usage('studio', START, START + DAY, null)).total).toMatchObject({
      jobs: 1_100,
      credits: 1_100,
    });
  });
});

// What meets at a bad moment: a retry with the clearing of a halt, a refusal with the room that comes free, a restart
// with an end that is committed and not yet told.

import { afterEach, describe, expect, it } from 'vitest';
import { FREE } from '../../src/domain/price.ts';
import type { Store } from '../../src/store/store.ts';
import type { Plan } from '../fleet/fake-backend.ts';
import { settle } from '../harness/manual-clock.ts';
import { codes, ended, itemsOf, make, now, shots, until } from './batch-stage.ts';
import { CREDIT, type House, openHouse } from './house.ts';

const NODES = ['rack-1', 'rack-2', 'rack-3', 'rack-4'];
let house: House;
const open = async (over: Parameters<typeof openHouse>[0] = {}) => {
  house = await openHouse({
    nodes: NODES,
    models: [{}, { id: 'cheap', price: { ...FREE, perOutput: CREDIT } }],
    ...over,
  });
};
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});
const plan = (p: Plan | ((prompt: string) => Plan)) => {
  for (const id of NODES) house.fakes.node(id).plan = typeof p === 'function' ? (job) => p(job.params.prompt) : p;
};
const desk = () => house.gateway.batches;
const bad: Plan = { fail: 'safety_filter', runMs: 100 };

/** The store with another way of one door of its batches. */
const through = (over: (batches: Store['batches']) => Partial<Store['batches']>) => (store: Store) => ({
  ...store,
  batches: { ...store.batches, ...over(store.batches) },
});

describe('a retry of a halted batch', () => {
  it('cancels none of its new items, however many there are and though something still runs', async () => {
    await open();
    plan((prompt) => (prompt === 'shot 0' ? { runMs: 60_000 } : bad));
    const breaker = { window_seconds: 60, min_finished: 4, threshold: 0.5, cooldown_seconds: 30, trips: 1 };
    const { batch } = await make(house, { items: shots(300), concurrency: 8, breaker });
    await until(house, batch.id, ({ tally }) => tally.counts.queued === 0 && tally.counts.running === 1, 50);
    plan({});
    await desk().retryFailed(house.admin, batch.id);
    const done = await ended(house, batch.id);
    expect(done).toMatchObject({ batch: { status: 'finished' }, tally: { counts: { succeeded: 300, cancelled: 0 } } });
  });
});

describe('a retry of thousands', () => {
  it('goes by slices, each whole, and may be begun again where it broke off', async () => {
    const slices: number[] = [];
    let breaks = true;
    await open({
      through: through(({ retry }) => ({
        retry: async (current, items, at) => {
          slices.push(items.length);
          if (breaks && slices.length === 2) throw new Error('the gateway died');
          return retry(current, items, at);
        },
      })),
    });
    const { batch } = await make(house, { items: shots(4500, { model: 'nope' }) });
    const before = await itemsOf(house, batch.id);
    await expect(desk().retryFailed(house.admin, batch.id)).rejects.toThrow('died');
    const half = await itemsOf(house, batch.id);
    expect(half.map((g, i) => g.id !== before[i]?.id).lastIndexOf(true)).toBe(1999);
    breaks = false;
    await desk().retryFailed(house.admin, batch.id);
    expect(Math.max(...slices)).toBe(2000);
    const after = await itemsOf(house, batch.id);
    expect(after.map((g) => g.previousId)).toEqual(half.map((g) => g.id));
    expect((await ended(house, batch.id)).tally.counts.failed).toBe(4500);
  }, 60_000);
});

describe('a new batch', () => {
  it('lets a small item through behind big ones, whatever their number', async () => {
    await open();
    plan({ runMs: 5000 });
    const items = [{ prompt: 'first' }, ...shots(126, { n: 2 }), { prompt: 'small', model: 'cheap' }];
    const { batch } = await make(house, { items, max_credits: 4 });
    const all = await itemsOf(house, batch.id);
    expect([all[0], all.at(-1)].map((g) => g?.reserved)).toEqual([2 * CREDIT, CREDIT]);
    await ended(house, batch.id);
  });
});

describe('a full queue', () => {
  it('that empties while it refuses is tried again', async () => {
    const refused = Promise.withResolvers<void>();
    await open({
      settings: { limits: { concurrency: 50, queue: 5, requestsPerMinute: null } },
      through: through(({ admit }) => ({
        admit: async (...asked) => {
          const answers = await admit(...asked);
          if (answers.some((one) => one.outcome === 'refused')) await refused.promise;
          return answers;
        },
      })),
    });
    plan({ runMs: 3000 });
    const singles = [];
    for (let i = 0; i < 4; i++) singles.push(await house.ask());
    await house.clock.advance(500);
    for (let i = 0; i < 5; i++) singles.push(await house.ask());
    const { batch } = await make(house, { items: shots(3) });
    for (const { id } of singles) await house.until(id, 'succeeded');
    refused.resolve();
    expect((await ended(house, batch.id)).tally.counts.succeeded).toBe(3);
  });
});

describe('items that belong to others', () => {
  const keyed = (n: number) => shots(n).map((s, i) => ({ ...s, idempotency_key: `key-${i}` }));

  it('do not keep a cancelled batch from its end', async () => {
    await open();
    plan({ hang: true });
    const other = await house.ask({ prompt: 'shot 0', seed: 0, idempotency_key: 'key-0' });
    await house.until(other.id, 'running');
    const { batch } = await make(house, { items: keyed(6) });
    await desk().cancel(house.admin, batch.id);
    await settle(50);
    const done = await now(house, batch.id);
    expect(done.batch.finishedAt).not.toBeNull();
    expect(done.tally.counts).toMatchObject({ running: 1, cancelled: 5 });
    await house.gateway.cancel(house.admin, other.id);
  });

  it('and were cancelled by them are asked for again by a retry, as this batch would ask', async () => {
    await open();
    plan({ hang: true });
    const theirs = {
      priority: 'interactive',
      metadata: { whose: 'theirs' },
      webhook_url: 'https://a.example/b',
    } as const;
    const single = await house.ask({ ...keyed(1)[0], ...theirs, max_credits: 2 });
    const first = await make(house, { items: keyed(3).map((s) => ({ ...s, ...theirs })) });
    const { batch } = await make(house, { items: keyed(3), metadata: { whose: 'ours' } });
    expect(batch.projected).toBe(0);
    await desk().cancel(house.admin, first.batch.id);
    await house.gateway.cancel(house.admin, single.id);
    await ended(house, first.batch.id);
    expect((await ended(house, batch.id)).tally.counts.cancelled).toBe(3);
    plan({});
    expect((await desk().retryFailed(house.admin, batch.id)).batch.projected).toBe(6 * CREDIT);
    expect((await ended(house, batch.id)).tally).toMatchObject({ counts: { succeeded: 3 }, charged: 6 * CREDIT });
    for (const [i, g] of (await itemsOf(house, batch.id)).entries()) {
      const ours = {
        priority: 'batch',
        metadata: { whose: 'ours' },
        webhookUrl: null,
        maxCredits: null,
        batchId: batch.id,
      };
      expect(g).toMatchObject({
        ...ours,
        item: i,
        idempotencyKey: `key-${i}`,
        params: { prompt: `shot ${i}`, seed: i },
      });
    }
  });

  it('are waited for without reading all of them at every end', async () => {
    let read = 0;
    await open({
      through: through(({ items }) => ({
        items: async (...asked) => {
          const page = await items(...asked);
          read += page.data.length;
          return page;
        },
      })),
    });
    plan({ runMs: 1000 });
    for (const one of keyed(120)) await house.ask(one);
    const { batch } = await make(house, { items: keyed(120) });
    expect(batch.projected).toBe(0);
    await ended(house, batch.id);
    expect(read).toBeGreaterThan(0);
    expect(read).toBeLessThanOrEqual(120);
  });
});

describe('a batch made twice with one key', () => {
  it('is made once, though the first takes what the second could not pay any more', async () => {
    let between: (() => Promise<unknown>) | null = null;
    await open({
      through: through(({ made }) => ({
        made: async (...asked) => {
          const answer = await made(...asked);
          const go = between;
          between = null;
          await go?.();
          return answer;
        },
      })),
    });
    plan({ runMs: 60_000 });
    await house.gateway.grant('studio', -980 * CREDIT, null);
    const asked = { items: shots(6), idempotency_key: 'once' };
    let first = '';
    between = async () => {
      first = (await make(house, asked)).batch.id;
    };
    const second = await make(house, asked);
    expect(second).toMatchObject({ replayed: true, batch: { id: first } });
    await desk().cancel(house.admin, first);
    await ended(house, first);
  });
});

describe('running dry', () => {
  it('takes what others of the workspace have reserved as spent', async () => {
    await open();
    plan((prompt) => (prompt === 'other' ? { hang: true } : {}));
    const { batch } = await make(house, { items: shots(3) });
    await desk().pause(house.admin, batch.id);
    await house.gateway.grant('studio', -992 * CREDIT, null);
    await desk().extend(house.admin, batch.id, shots(1));
    const other = await house.ask({ prompt: 'other' });
    await desk().resume(house.admin, batch.id);
    const done = await ended(house, batch.id);
    expect(done.tally.counts).toMatchObject({ succeeded: 3, cancelled: 1 });
    expect(codes(await itemsOf(house, batch.id)).at(-1)).toBe('insufficient_credits');
    expect((await house.gateway.cancel(house.admin, other.id)).state.status).toBe('cancelled');
  });
});

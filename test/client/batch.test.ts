// Following a batch: each item is told once when it has ended, whatever order they end in and whoever goes away meanwhile.

import { describe, expect, it } from 'vitest';
import { createClient } from '../../src/client/client.ts';
import { batchDouble } from './batch-double.ts';
import { cut, drop, failing, page, startRough } from './rough.ts';
import { errorOf } from './thrown.ts';
import { recordedSleep } from './waits.ts';

/** A client whose every wait is the next step of the story. */
function toldBy(url: string, steps: readonly (() => void)[]) {
  const { waits, sleep } = recordedSleep();
  const client = createClient({
    url,
    key: 'k',
    async sleep(ms, signal) {
      await sleep(ms, signal);
      steps[waits.length - 1]?.();
    },
  });
  return { client, waits };
}

describe('runBatch', () => {
  it('makes the batch under a key, follows it, and answers with the report', async () => {
    const batch = batchDouble(3);
    const { url, asked } = await startRough([batch.answer]);
    const { client } = toldBy(url, [
      () => batch.end(1, 'failed'),
      () => batch.set({ eta_seconds: 1 }),
      () => batch.end(0, 'succeeded'),
      () => end(2),
    ]);
    const end = (index: number) => {
      batch.end(index, 'succeeded');
      batch.finish();
    };
    const told: [number, string][] = [];
    const counts: number[] = [];
    const report = await client.runBatch(
      { items: [{ prompt: 'a' }, { prompt: 'b' }, { prompt: 'c' }] },
      { onItem: (i) => told.push([i.index, i.generation.status]), onUpdate: (b) => counts.push(b.counts.succeeded) },
    );
    expect(report).toMatchObject({ id: 'batch_1', failures: [] });
    expect(told).toEqual([
      [1, 'failed'],
      [0, 'succeeded'],
      [2, 'succeeded'],
    ]);
    expect(counts).toEqual([0, 0, 1, 2]);
    expect(asked.filter((a) => a.method === 'POST')).toHaveLength(1);
  });

  it('refuses a batch in which nothing would ever end', async () => {
    const { client } = toldBy('http://127.0.0.1:2', []);
    for (const request of [{}, { items: [] }]) {
      await expect(client.runBatch(request)).rejects.toMatchObject({ code: 'invalid_request' });
    }
  });

  it('sends a key of its own for each batch, and the one it is given', async () => {
    const batch = batchDouble(0);
    batch.finish();
    const { url, asked } = await startRough([batch.answer]);
    const { client } = toldBy(url, []);
    for (const more of [{}, {}, { idempotency_key: 'mine' }])
      await client.runBatch({ items: [{ prompt: 'a' }], ...more });
    const keys = asked.flatMap((a) =>
      a.body ? [(JSON.parse(a.body) as { idempotency_key: string }).idempotency_key] : [],
    );
    expect([new Set(keys).size, keys[2]]).toEqual([3, 'mine']);
    expect(keys[0]).toMatch(/^client-/);
  });

  it('takes up one by its id and tells what had ended before', async () => {
    const batch = batchDouble(2);
    batch.end(0, 'succeeded');
    const { url, asked } = await startRough([batch.answer]);
    const { client } = toldBy(url, [() => batch.end(1, 'timeout'), () => batch.finish()]);
    const told: number[] = [];
    await client.runBatch({ id: 'batch_1' }, { onItem: (i) => told.push(i.index) });
    expect(told).toEqual([0, 1]);
    expect(asked.every((a) => a.method === 'GET')).toBe(true);
  });

  it('answers at once for one that is over, with every item told', async () => {
    const batch = batchDouble(250);
    for (let i = 0; i < 250; i++) batch.end(i, i % 9 === 0 ? 'cancelled' : 'succeeded');
    batch.finish('cancelled');
    const { url } = await startRough([batch.answer]);
    const { client, waits } = toldBy(url, []);
    const told: number[] = [];
    const report = await client.runBatch({ id: 'batch_1' }, { onItem: (i) => told.push(i.index) });
    expect([report.status, waits, told]).toEqual(['cancelled', [], Array.from({ length: 250 }, (_, i) => i)]);
  });

  it('tells items of many pages once, in whatever order they end, and reads no page again that is done', async () => {
    const batch = batchDouble(500);
    const { url, asked } = await startRough([batch.answer]);
    const order = Array.from({ length: 500 }, (_, i) => (i * 137) % 500);
    const steps = Array.from({ length: 10 }, (_, step) => () => {
      for (const index of order.slice(step * 50, step * 50 + 50)) batch.end(index, 'succeeded');
      if (step === 9) batch.finish();
    });
    const { client } = toldBy(url, steps);
    const told: number[] = [];
    await client.runBatch({ id: 'batch_1' }, { onItem: (i) => told.push(i.index) });
    expect(told.length).toBe(500);
    expect(new Set(told).size).toBe(500);

    const inOrder = batchDouble(500);
    const other = await startRough([inOrder.answer]);
    const straight = Array.from({ length: 10 }, (_, step) => () => {
      for (let i = step * 50; i < step * 50 + 50; i++) inOrder.end(i, 'succeeded');
      if (step === 9) inOrder.finish();
    });
    await toldBy(other.url, straight).client.runBatch({ id: 'batch_1' }, { onItem: () => {} });
    const pages = (list: typeof asked) => list.filter((a) => a.path.includes('/items')).length;
    expect(pages(other.asked)).toBeLessThanOrEqual(20);
  });

  it.each([
    ['seen in between', true],
    ['ended again before anyone looked', false],
  ])('tells one that was put back once more, as another generation: %s', async (_, seen) => {
    const batch = batchDouble(150);
    for (let i = 0; i < 120; i++) batch.end(i, 'failed');
    const { url } = await startRough([batch.answer]);
    const told: string[] = [];
    const before: string[] = [];
    const again = () => batch.end(3, 'succeeded');
    const { client } = toldBy(url, [
      () => {
        batch.end(3, null);
        if (!seen) again();
      },
      ...(seen ? [again] : []),
      () => {
        before.push(...told);
        batch.finish();
      },
    ]);
    await client.runBatch({ id: 'batch_1' }, { onItem: (i) => told.push(i.generation.id) });
    expect(told).toHaveLength(121);
    expect(told.at(-1)).toBe('gen_3_2');
    expect(before.includes('gen_3_2')).toBe(seen);
  });

  it('asks as often as makes sense: a tenth of what is left, between one and eight seconds', async () => {
    const batch = batchDouble(1);
    const { url } = await startRough([batch.answer]);
    const closed = { state: 'closed' as const, trips: 0, resumes_at: null };
    const { client, waits } = toldBy(url, [
      () => batch.set({ eta_seconds: 4 }),
      () => batch.set({ eta_seconds: 35 }),
      () => batch.set({ eta_seconds: 3600 }),
      () => batch.set({ eta_seconds: 4, status: 'paused' }),
      () => batch.set({ status: 'running', breaker: { ...closed, state: 'paused' } }),
      () => batch.finish(),
    ]);
    await client.runBatch({ id: 'batch_1' });
    expect(waits).toEqual([2_000, 1_000, 3_500, 8_000, 8_000, 8_000]);
  });

  it('lives through a gateway that is away for a while, and makes no second batch', async () => {
    const batch = batchDouble(1);
    batch.end(0, 'succeeded');
    batch.finish();
    const busy = failing('shutting_down', 503, true, { 'retry-after': '9' });
    const { url, asked } = await startRough([drop, cut, batch.answer, busy, page(502), drop, batch.answer]);
    const { client, waits } = toldBy(url, []);
    const told: number[] = [];
    await client.runBatch({ items: [{ prompt: 'a' }] }, { onItem: (i) => told.push(i.index) });
    expect(told).toEqual([0]);
    const keys = asked.flatMap((a) => (a.method === 'POST' ? [JSON.parse(a.body) as { idempotency_key: string }] : []));
    expect(keys).toHaveLength(3);
    expect(new Set(keys.map((k) => k.idempotency_key)).size).toBe(1);
    expect(waits).toContain(9_000);
  });

  it('gives up when nobody comes back, and at once where asking again is of no use', async () => {
    const away = await startRough([drop]);
    expect(await errorOf(toldBy(away.url, []).client.runBatch({ id: 'batch_1' }))).toMatchObject({
      code: 'unreachable',
    });
    expect(away.asked).toHaveLength(40);
    const poor = await startRough([failing('insufficient_credits', 402, false)]);
    expect(await errorOf(toldBy(poor.url, []).client.runBatch({ items: [{ prompt: 'a' }] }))).toMatchObject({
      status: 402,
    });
    expect(poor.asked).toHaveLength(1);
  });

  it('stops with an abort, and leaves the batch to the gateway', async () => {
    const batch = batchDouble(1);
    const { url, asked } = await startRough([batch.answer]);
    const abort = new AbortController();
    const { client } = toldBy(url, [() => {}, () => abort.abort('enough')]);
    await expect(client.runBatch({ id: 'batch_1' }, { signal: abort.signal })).rejects.toBe('enough');
    expect(asked.every((a) => a.method === 'GET')).toBe(true);
  });
});

it('every call on a batch goes to its own door', async () => {
  const { url, asked } = await startRough([batchDouble(0).answer]);
  const { batches } = createClient({ url, key: 'k' });
  const calls = [
    batches.list({ limit: 3 }),
    batches.dryRun({ items: [] }),
    batches.append('b', [{ prompt: 'x' }]),
    batches.pause('b'),
    batches.resume('b'),
    batches.cancel('b'),
    batches.retryFailed('b'),
    batches.items('b', { status: 'failed' }),
  ];
  await Promise.allSettled(calls);
  expect(asked.map((a) => `${a.method} ${a.path} ${a.body}`).sort()).toEqual([
    'GET /v1/batches/b/items?status=failed ',
    'GET /v1/batches?limit=3 ',
    'POST /v1/batches {"items":[],"dry_run":true}',
    'POST /v1/batches/b/cancel ',
    'POST /v1/batches/b/items {"items":[{"prompt":"x"}]}',
    'POST /v1/batches/b/pause ',
    'POST /v1/batches/b/resume ',
    'POST /v1/batches/b/retry_failed ',
  ]);
});

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Caller } from '../../src/domain/caller.ts';
import { FREE } from '../../src/domain/price.ts';
import { batchHash } from '../../src/engine/batch-items.ts';
import { hashKey } from '../../src/engine/gateway.ts';
import type { Plan } from '../fleet/fake-backend.ts';
import { settle } from '../harness/manual-clock.ts';
import { codes, ended, itemsOf, make, now, request, shots, until } from './batch-stage.ts';
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
beforeEach(() => open());
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});
const plan = (p: Plan | ((prompt: string) => Plan)) => {
  for (const id of NODES) house.fakes.node(id).plan = typeof p === 'function' ? (job) => p(job.params.prompt) : p;
};
const desk = () => house.gateway.batches;

describe('a batch', () => {
  it('gives every item an id at once and works them off in order', async () => {
    const { batch, tally } = await desk().create(house.admin, request({ items: shots(12), name: 'overnight' }));
    expect(batch).toMatchObject({ name: 'overnight', status: 'running', total: 12, projected: 24 * CREDIT });
    expect(tally.counts.queued).toBe(12);
    const items = await itemsOf(house, batch.id);
    expect(items.map((g) => g.item)).toEqual(items.map((_, i) => i));
    expect(new Set(items.map((g) => g.id)).size).toBe(12);
    expect(items[0]).toMatchObject({ priority: 'batch', batchId: batch.id });
    const done = await ended(house, batch.id);
    expect(done.batch.status).toBe('finished');
    expect(done.tally).toMatchObject({ counts: { succeeded: 12, queued: 0 }, charged: 24 * CREDIT, reserved: 0 });
    expect(
      house.fakes.works
        .slice(0, 4)
        .map((w) => w.job.params.prompt)
        .sort(),
    ).toEqual(shots(4).map((s) => s.prompt));
    expect(await house.gateway.credits(house.admin)).toEqual({ balance: 976 * CREDIT, reserved: 0 });
  });

  it('has no more in work than its concurrency, and never more than the workspace', async () => {
    await house[Symbol.asyncDispose]();
    await open({ settings: { limits: { concurrency: 3, queue: 1000, requestsPerMinute: null } } });
    const { batch } = await make(house, { items: shots(9), concurrency: 2 });
    const wide = await make(house, { items: shots(9, { prompt: 'wide' }), concurrency: 50 });
    expect(wide.batch.concurrency).toBe(50);
    const most = [0, 0];
    for (let open = true; open; await house.clock.advance(250)) {
      const both = await Promise.all([now(house, batch.id), now(house, wide.batch.id)]);
      for (const [i, { tally }] of both.entries()) {
        most[i] = Math.max(most[i] ?? 0, tally.counts.queued - tally.held + tally.counts.running);
      }
      open = both.some((one) => one.batch.finishedAt === null);
      await settle(20);
    }
    expect(most).toEqual([2, 3]);
  });

  it('lets an item that cannot run fail alone, at once', async () => {
    const items = [
      { prompt: 'a', model: 'nobody-knows' },
      { prompt: 'b' },
      { prompt: 'c', init_image: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0' },
      { prompt: 'd', max_credits: 1 },
      { prompt: 'off the grid', width: 1001 },
      { prompt: 'e', from: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0' },
    ];
    const { batch } = await make(house, { items });
    expect(codes(await itemsOf(house, batch.id, 'failed'))).toEqual([
      'unknown_model',
      'invalid_request',
      'budget_exceeded',
      'invalid_request',
      'not_found',
    ]);
    const [first] = await itemsOf(house, batch.id);
    expect(first).toMatchObject({ model: 'nobody-knows', params: { prompt: 'a' } });
    const done = await ended(house, batch.id);
    expect(done.tally.counts).toMatchObject({ succeeded: 1, failed: 5 });
    expect(done.batch.projected).toBe(2 * CREDIT);
    const report = await desk().report(house.admin, batch.id);
    expect(report.failures.map((f) => f.index)).toEqual([0, 2, 3, 4, 5]);
    expect(report.nodeMs).toHaveLength(1);
  });

  it('ends at once when none of its items can run, and stays open while it is empty', async () => {
    const gone = await make(house, { items: [{ prompt: 'a', model: 'nope' }] });
    expect((await now(house, gone.batch.id)).batch.status).toBe('finished');
    const empty = await make(house, {});
    await house.clock.advance(10_000);
    expect((await now(house, empty.batch.id)).batch).toMatchObject({ status: 'running', finishedAt: null });
    await desk().extend(house.admin, empty.batch.id, shots(1));
    expect((await ended(house, empty.batch.id)).tally.counts.succeeded).toBe(1);
  });

  it('uses `from` and the fallback of the batch item by item', async () => {
    const base = await house.until((await house.ask({ prompt: 'base', seed: 77 })).id, 'succeeded');
    const { batch } = await make(house, { items: [{ from: base.id }, { prompt: 'own' }], fallback: 'none' });
    const items = await itemsOf(house, batch.id);
    expect(items.map((g) => [g.params.prompt, g.params.seed === 77])).toEqual([
      ['base', true],
      ['own', false],
    ]);
    await ended(house, batch.id);
  });

  it('does not count a label as an item', async () => {
    const { batch } = await make(house, { items: shots(6), concurrency: 1 });
    await desk().pause(house.admin, batch.id);
    const label = await house.ask({ batch_id: batch.id, priority: 'batch' });
    await house.until(label.id, 'succeeded');
    await desk().cancel(house.admin, batch.id);
    expect((await ended(house, batch.id)).batch.total).toBe(6);
  });

  it('is nobody else’s', async () => {
    const w = await house.gateway.createWorkspace({ name: 'other', credits: 0, limits: {} });
    const rights = {
      scopes: ['generate'] as const,
      models: null,
      expiresAt: null,
      requestsPerMinute: null,
      spendCap: null,
    };
    const { secret } = await house.gateway.createKey(w.id, { name: 'k', ...rights });
    const other = (await house.gateway.authenticate(hashKey(secret))) as Caller;
    const { batch } = await make(house, { items: shots(1) });
    const foreign = { failure: { code: 'not_found' } };
    await expect(desk().get(other, batch.id)).rejects.toMatchObject(foreign);
    await expect(desk().cancel(other, batch.id)).rejects.toMatchObject(foreign);
    await expect(desk().items(other, batch.id, null, 20)).rejects.toMatchObject(foreign);
    await expect(desk().report(other, batch.id)).rejects.toMatchObject(foreign);
    await expect(desk().extend(other, batch.id, [])).rejects.toMatchObject(foreign);
    expect((await desk().list(other, 20)).data).toEqual([]);
    expect((await desk().list(house.admin, 20)).data.map((one) => one.batch.id)).toEqual([batch.id]);
  });
});

describe('items that do not parse', () => {
  it('refuse all, every bad place named', async () => {
    const items: unknown[] = shots(80);
    items[7] = { prompt: 7, seed: -1 };
    items[64] = { prompt: 'x', colour: 'red' };
    items[70] = { prompt: 'x', batch_id: 'b' };
    items[71] = { prompt: 'x', wait: true };
    const refused = await desk()
      .create(house.admin, request({ items: items as [] }))
      .catch((error: { failure: { details: { path: string }[] } }) => error.failure.details.map((d) => d.path));
    expect(refused).toEqual([
      'items.7.prompt',
      'items.7.seed',
      'items.64.colour',
      'items.70.batch_id',
      'items.71.wait',
    ]);
    expect((await desk().list(house.admin, 20)).data).toEqual([]);
  });
  it('are those too that no model could make sense of', async () => {
    const items = [
      { prompt: 'a', size: '64x64', width: 64, height: 64 },
      { prompt: 'b', aspect_ratio: '1:1', height: 64 },
      { prompt: 'c', webhook_url: 'http://192.168.0.7/hook' },
      { prompt: 'd', size: '64x64', model: 'nope' },
    ];
    const places = (refused: Promise<unknown>) =>
      refused.catch((error: { failure: { details: { path: string }[] } }) => error.failure.details.map((d) => d.path));
    expect(await places(desk().create(house.admin, request({ items })))).toEqual([
      'items.0.size',
      'items.0.width',
      'items.1.aspect_ratio',
      'items.1.height',
      'items.2.webhook_url',
    ]);
    const bare = request({ items: [...shots(2), {}, { model: 'nope' }, { prompt: ' ' }] });
    for (const refused of [desk().create(house.admin, bare), desk().project(house.admin, bare)])
      expect(await places(refused)).toEqual(['items.2.prompt', 'items.4.prompt']);
    expect((await desk().list(house.admin, 20)).data).toEqual([]);
  });
  it('are told of fifty at a time', async () => {
    const failing = desk().create(house.admin, request({ items: Array.from({ length: 500 }, () => ({ n: 0 })) }));
    await expect(failing).rejects.toMatchObject({ failure: { code: 'invalid_request', details: { length: 50 } } });
  });
  it('may not share an idempotency key', async () => {
    const items = [{ prompt: 'a', idempotency_key: 'k' }, { prompt: 'b' }, { prompt: 'c', idempotency_key: 'k' }];
    await expect(desk().create(house.admin, request({ items }))).rejects.toMatchObject({
      failure: { details: [{ path: 'items.0.idempotency_key' }, { path: 'items.2.idempotency_key' }] },
    });
  });
});

describe('a projection', () => {
  it('tells what it would cost, and stores nothing', async () => {
    await house.ask({ prompt: 'known', idempotency_key: 'known' });
    const items = [
      ...shots(3),
      { prompt: 'c', model: 'cheap' },
      { prompt: 'x', model: 'nope' },
      { prompt: 'known', idempotency_key: 'known' },
      { prompt: 'another', idempotency_key: 'known2' },
    ];
    expect(await desk().project(house.admin, request({ items, max_credits: 5 }))).toMatchObject({
      items: 7,
      projected: 9 * CREDIT,
      available: 998 * CREDIT,
      maxCredits: 5 * CREDIT,
      byModel: new Map([
        ['flux-dev', { items: 4, credits: 8 * CREDIT }],
        ['cheap', { items: 1, credits: CREDIT }],
      ]),
      attached: 1,
      refused: [{ index: 4, code: 'unknown_model' }],
    });
    expect((await desk().list(house.admin, 20)).data).toEqual([]);
  });
  it('keeps no picture that came with it, unless something else needs it', async () => {
    const picture = (text: string) => `data:image/png;base64,${Buffer.from(text).toString('base64')}`;
    plan({ hang: true });
    const waits = await house.ask({ init_image: picture('needed') });
    const items = ['passing', 'needed'].map((text) => ({ prompt: text, init_image: picture(text) }));
    expect(await desk().project(house.admin, request({ items }))).toMatchObject({ projected: 4 * CREDIT });
    await house.clock.advance(61_000);
    expect(house.media.blobs.removed).toHaveLength(1);
    const needed = waits.params.initImage;
    expect(house.media.blobs.removed).not.toContain(needed?.kind === 'blob' ? needed.blob : '');
    await house.gateway.cancel(house.admin, waits.id);
  });
  it('above what there is refuses the batch, naming both, unless the cap keeps it within', async () => {
    await house.gateway.grant('studio', -990 * CREDIT, null);
    const refused = desk().create(house.admin, request({ items: shots(6) }));
    await expect(refused).rejects.toMatchObject({ failure: { code: 'insufficient_credits' } });
    await expect(refused).rejects.toThrow(/12 credits and 10 are/);
    await expect(desk().create(house.admin, request({ items: shots(6), max_credits: 11 }))).rejects.toThrow(
      /12 credits/,
    );
    const { batch } = await make(house, { items: shots(6), max_credits: 10 });
    const done = await ended(house, batch.id);
    expect(done.tally).toMatchObject({ counts: { succeeded: 5, cancelled: 1 }, charged: 10 * CREDIT });
    expect(codes(await itemsOf(house, batch.id, 'cancelled'))).toEqual(['budget_exceeded']);
    await expect(desk().extend(house.admin, batch.id, shots(1))).rejects.toMatchObject({
      failure: { code: 'conflict' },
    });
  });
  it('is made of what is appended too', async () => {
    await house.gateway.grant('studio', -990 * CREDIT, null);
    const { batch } = await make(house, {});
    await expect(desk().extend(house.admin, batch.id, shots(6))).rejects.toMatchObject({
      failure: { code: 'insufficient_credits' },
    });
    expect((await desk().extend(house.admin, batch.id, shots(5))).batch.total).toBe(5);
    await ended(house, batch.id);
  });
});

describe('a full queue', () => {
  it('is waited for', async () => {
    await house[Symbol.asyncDispose]();
    await open({ settings: { limits: { concurrency: 50, queue: 5, requestsPerMinute: null } } });
    plan({ runMs: 3000 });
    for (let i = 0; i < 4; i++) await house.ask();
    await house.clock.advance(500);
    for (let i = 0; i < 5; i++) await house.ask();
    const { batch } = await make(house, { items: shots(8) });
    expect((await now(house, batch.id)).tally.held).toBe(8);
    expect((await ended(house, batch.id)).tally.counts.succeeded).toBe(8);
  });
});

describe('keys', () => {
  it('whose generation succeeded attach it and cost nothing; one in work is waited for', async () => {
    const done = await house.until((await house.ask({ prompt: 'shot 0', idempotency_key: 'a' })).id, 'succeeded');
    plan({ runMs: 20_000 });
    const running = await house.ask({ prompt: 'shot 1', idempotency_key: 'b' });
    await house.clock.advance(100);
    const items = shots(3).map((s, i) => ({ ...s, idempotency_key: 'abc'[i] as string }));
    plan({ runMs: 500 });
    const { batch } = await make(house, { items });
    expect(batch.projected).toBe(2 * CREDIT);
    expect((await itemsOf(house, batch.id)).map((g) => g.id).slice(0, 2)).toEqual([done.id, running.id]);
    await until(house, batch.id, ({ tally }) => tally.counts.succeeded === 2);
    expect((await now(house, batch.id)).batch.finishedAt).toBeNull();
    const end = await ended(house, batch.id);
    expect(end).toMatchObject({
      batch: { status: 'finished' },
      tally: { charged: 2 * CREDIT, counts: { succeeded: 3 } },
    });
  });
  it('of the batch answer with the batch, also after a restart and without credits for another', async () => {
    const asked = { items: shots(4).map(({ seed: _, ...s }) => s), idempotency_key: 'night', max_credits: 8 };
    const first = await make(house, asked);
    await house.gateway.grant('studio', -995 * CREDIT, null);
    await house.crashAndRestart();
    const again = await desk().create(house.admin, request(asked));
    expect(again).toMatchObject({ replayed: true, batch: { id: first.batch.id } });
    const other = request({ ...asked, items: shots(1) });
    await expect(desk().create(house.admin, other)).rejects.toMatchObject({
      failure: { code: 'idempotency_conflict' },
    });
    expect((await desk().list(house.admin, 20)).data).toHaveLength(1);
    await ended(house, first.batch.id);
  });
  it('of batches tell apart what is asked of a workflow, whatever its inputs are called', async () => {
    const hash = (inputs: Record<string, number>, more = {}) => batchHash([{ prompt: 'a', inputs, ...more }], null);
    expect(await hash({ seed: 1 })).not.toBe(await hash({ seed: 2 }));
    expect(await hash({ seed: 1 }, { seed: 5 })).toBe(await hash({ seed: 1 }, { seed: 6 }));
  });
  it('of the batch answer with it however the same is said, and to nothing else', async () => {
    const said = [
      { prompt: 'a', width: 64, height: 64 },
      { prompt: 'b', model: 'nope', seed: 1 },
    ];
    const first = await make(house, { items: said, idempotency_key: 'said' });
    const again = [
      { prompt: 'a', size: '64x64', model: 'flux', n: 1 },
      { prompt: 'b', model: 'nope', metadata: { k: 1 } },
    ];
    const replayed = await desk().create(house.admin, request({ items: again, idempotency_key: 'said' }));
    expect(replayed).toMatchObject({ replayed: true, batch: { id: first.batch.id } });
    for (const items of [said.slice(1), [{ ...said[0], width: 128 }, said[1] ?? {}]])
      await expect(desk().create(house.admin, request({ items, idempotency_key: 'said' }))).rejects.toMatchObject({
        failure: { code: 'idempotency_conflict' },
      });
    await ended(house, first.batch.id);
  });
  it('make one batch of parallel requests', async () => {
    const asked = request({ items: shots(3), idempotency_key: 'once' });
    const all = await Promise.all(Array.from({ length: 8 }, () => desk().create(house.admin, asked)));
    expect(new Set(all.map((one) => one.batch.id)).size).toBe(1);
    expect(all.filter((one) => !one.replayed)).toHaveLength(1);
    await ended(house, all[0]?.batch.id as string);
  });
});

describe('two thousand items', () => {
  it('are all made, each once, each paid once', async () => {
    await house[Symbol.asyncDispose]();
    const many = Array.from({ length: 25 }, (_, i) => `rack-${i}`);
    await open({ nodes: many });
    await house.gateway.grant('studio', 9000 * CREDIT, null);
    const { batch } = await make(house, { items: shots(2000), breaker: false });
    const done = await until(house, batch.id, ({ batch: b }) => b.finishedAt !== null, 2000);
    expect(done.tally).toMatchObject({ counts: { succeeded: 2000 }, charged: 4000 * CREDIT, reserved: 0 });
    expect(new Set(house.fakes.works.map((w) => w.job.id)).size).toBe(2000);
    expect(house.fakes.works).toHaveLength(2000);
  }, 120_000);
});

describe('what waits', () => {
  it('knows its place and when it will be done', async () => {
    plan({ runMs: 10_000 });
    const { batch, etaSeconds } = await make(house, { items: shots(20), concurrency: 4 });
    expect(etaSeconds).toBe(50);
    await house.clock.advance(500);
    const last = (await itemsOf(house, batch.id)).at(-1);
    const view = last && house.gateway.view(last, '');
    expect(view?.queue).toEqual({ position: 16, reason: 'waiting_for_slot' });
    expect(view?.estimatedSeconds).toBeGreaterThan(30);
    await until(house, batch.id, ({ tally }) => tally.counts.succeeded >= 8);
    expect((await now(house, batch.id)).etaSeconds).toBeGreaterThan(20);
    expect((await now(house, batch.id)).etaSeconds).toBeLessThan(45);
    expect((await ended(house, batch.id)).etaSeconds).toBeNull();
  });
});

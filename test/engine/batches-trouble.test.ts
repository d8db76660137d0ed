import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Watched } from '../../src/engine/gateway.ts';
import type { Plan } from '../fleet/fake-backend.ts';
import { settle } from '../harness/manual-clock.ts';
import { codes, ended, itemsOf, make, now, shots, until } from './batch-stage.ts';
import { CREDIT, type House, openHouse } from './house.ts';

const NODES = ['rack-1', 'rack-2', 'rack-3', 'rack-4'];
let house: House;
beforeEach(async () => {
  house = await openHouse({ nodes: NODES, models: [{}, { id: 'gone' }] });
});
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});
const plan = (p: Plan | ((prompt: string) => Plan)) => {
  for (const id of NODES) house.fakes.node(id).plan = typeof p === 'function' ? (job) => p(job.params.prompt) : p;
};
const desk = () => house.gateway.batches;
const bad: Plan = { fail: 'safety_filter', runMs: 100 };
const breaker = { window_seconds: 60, min_finished: 4, threshold: 0.5, cooldown_seconds: 30, trips: 2 };

describe('the breaker of a batch', () => {
  it('by itself looks at sixty seconds, twenty ends and ten percent', async () => {
    plan(bad);
    const { batch } = await make(house, { items: shots(100), concurrency: 1 });
    const open = await until(house, batch.id, ({ batch: b }) => b.breaker.state === 'paused', 50);
    expect(open.tally.counts.failed).toBe(20);
    expect(open.batch).toMatchObject({ status: 'running', breaker: { trips: 1 } });
    expect((open.batch.breaker.resumesAt ?? 0) - open.batch.breaker.since).toBe(60_000);
    const halted = await until(house, batch.id, ({ batch: b }) => b.status === 'halted', 500);
    expect(halted.tally.counts.failed).toBe(40);
    const end = await ended(house, batch.id);
    expect(end.batch).toMatchObject({ status: 'halted', breaker: { state: 'halted', trips: 2 } });
    expect(end.tally.counts).toMatchObject({ failed: 40, cancelled: 60 });
    expect(new Set(codes(await itemsOf(house, batch.id, 'cancelled')))).toEqual(new Set(['batch_halted']));
  });

  it('pauses only what does not run, says why, and goes on by itself', async () => {
    plan(bad);
    const { batch } = await make(house, { items: shots(30), concurrency: 12, breaker });
    const open = await until(house, batch.id, ({ batch: b }) => b.breaker.state === 'paused', 50);
    plan({});
    expect(open.etaSeconds).toBeNull();
    await house.clock.advance(25_000);
    const { tally } = await now(house, batch.id);
    expect(tally.counts.running).toBe(0);
    expect(tally.counts.queued).toBeGreaterThan(14);
    for (const g of await itemsOf(house, batch.id, 'queued'))
      expect(house.gateway.view(g, '').queue?.reason).toBe('breaker_open');
    const single = await house.ask();
    await house.until(single.id, 'succeeded');
    const end = await ended(house, batch.id);
    expect(end.batch).toMatchObject({ status: 'finished', breaker: { state: 'closed', trips: 0 } });
  });

  it('is closed at once by a person, who does not forgive the trip', async () => {
    plan(bad);
    const { batch } = await make(house, { items: shots(30), concurrency: 2, breaker });
    await until(house, batch.id, ({ batch: b }) => b.breaker.state === 'paused', 50);
    const resumed = await desk().resume(house.admin, batch.id);
    expect(resumed.batch).toMatchObject({ status: 'running', breaker: { state: 'closed', trips: 1 } });
    const end = await ended(house, batch.id);
    expect(end.batch.status).toBe('halted');
    await expect(desk().resume(house.admin, batch.id)).rejects.toMatchObject({ failure: { code: 'conflict' } });
    await expect(desk().pause(house.admin, batch.id)).rejects.toMatchObject({ failure: { code: 'conflict' } });
    await expect(desk().extend(house.admin, batch.id, [])).rejects.toMatchObject({ failure: { code: 'conflict' } });
  });

  it('can be left out', async () => {
    plan(bad);
    const { batch } = await make(house, { items: shots(40), breaker: false });
    expect((await ended(house, batch.id)).tally.counts.failed).toBe(40);
  });

  it('counts timeouts, and neither cancelled items nor those refused at acceptance', async () => {
    plan({ hang: true });
    const items = [...shots(3, { model: 'nope' }), ...shots(3), ...shots(9, { run_within_seconds: 1 })];
    const { batch } = await make(house, { items, concurrency: 1, breaker });
    for (const g of (await itemsOf(house, batch.id)).slice(3, 6)) {
      await house.until(g.id, 'running');
      await house.gateway.cancel(house.admin, g.id);
      await settle(20);
    }
    const open = await until(house, batch.id, ({ batch: b }) => b.breaker.state === 'paused', 100);
    expect(open.tally.counts).toMatchObject({ failed: 3, cancelled: 3, timeout: 4 });
    await desk().cancel(house.admin, batch.id);
    await ended(house, batch.id);
  });

  it('remembers its window and its pause over a crash', async () => {
    plan(bad);
    const { batch } = await make(house, { items: shots(30), concurrency: 1, breaker });
    await until(house, batch.id, ({ tally }) => tally.counts.failed === 3, 50);
    await house.crashAndRestart();
    const open = await until(house, batch.id, ({ batch: b }) => b.breaker.state === 'paused', 50);
    expect(open.tally.counts.failed).toBe(4);
    await house.crashAndRestart();
    await house.clock.advance(25_000);
    expect((await now(house, batch.id)).tally.counts.failed).toBe(4);
    plan({});
    expect((await ended(house, batch.id)).tally.counts).toMatchObject({ failed: 4, succeeded: 26 });
  });

  it('lets what runs finish when it halts', async () => {
    plan((prompt) => (prompt === 'shot 0' ? { runMs: 9000 } : bad));
    const { batch } = await make(house, { items: shots(30), breaker: { ...breaker, trips: 1 } });
    const end = await ended(house, batch.id);
    expect(end.tally.counts.succeeded).toBe(1);
    expect(codes(await itemsOf(house, batch.id))[0]).toBe('succeeded');
    expect(end.batch.finishedAt).toBeGreaterThan(end.batch.breaker.since);
  });
});

describe('the ladder of an item', () => {
  it('softens a refused prompt once, and marks it where that does not help', async () => {
    plan((prompt) => (prompt === 'calm' ? {} : { fail: 'policy_block' }));
    const items = [
      { prompt: 'wild', softened_prompt: 'calm', seed: 5 },
      { prompt: 'wild', softened_prompt: 'still wild' },
      { prompt: 'wild' },
    ];
    const { batch } = await make(house, { items });
    await ended(house, batch.id);
    const [soft, hard, bare] = await itemsOf(house, batch.id);
    expect(soft).toMatchObject({ softened: true, params: { prompt: 'calm', seed: 5 }, attempts: { length: 2 } });
    expect(hard).toMatchObject({ state: { status: 'failed' }, attempts: { length: 2 } });
    expect(bare).toMatchObject({ state: { failure: { code: 'policy_block' } }, attempts: { length: 1 } });
  });
  it('tries what passes three times and what nobody can explain twice', async () => {
    plan((prompt) => ({ fail: prompt === 'shot 0' ? 'rate_limited' : 'internal', runMs: 100 }));
    const { batch } = await make(house, { items: shots(2) });
    await ended(house, batch.id);
    const report = await desk().report(house.admin, batch.id);
    expect(report.failures.map(({ generation: g }) => [codes([g])[0], g.attempts.length])).toEqual([
      ['rate_limited', 3],
      ['internal', 2],
    ]);
  });
  it('loses no item to a node that dies', async () => {
    plan({ runMs: 4000 });
    const { batch } = await make(house, { items: shots(12) });
    await house.clock.advance(1000);
    house.fakes.node('rack-1').crash();
    house.fakes.node('rack-2').restart();
    expect((await ended(house, batch.id)).tally).toMatchObject({ counts: { succeeded: 12 }, charged: 24 * CREDIT });
  });
});

describe('whoever watches a batch', () => {
  it('is told of its moves among those of its items, live and by replay', async () => {
    const latest = await house.store.events.latest();
    const { batch } = await make(house, { items: shots(3), concurrency: 1 });
    await desk().pause(house.admin, batch.id);
    await desk().resume(house.admin, batch.id);
    await ended(house, batch.id);
    const seen: Watched[] = [];
    const controller = new AbortController();
    const filter = { workspaceId: 'studio', batchId: batch.id, progress: false };
    const over = (async () => {
      for await (const one of house.gateway.watch(filter, latest, controller.signal)) seen.push(one);
    })().catch(() => {});
    await settle(20);
    const moves = seen.flatMap((w) => (w.type === 'batch' ? [w.stored.event.type] : []));
    expect(moves).toEqual(['running', 'paused', 'running', 'finished']);
    const last = seen.findLast((w) => w.type === 'batch');
    expect(last?.type === 'batch' && last.stored.tally.counts.succeeded).toBe(3);
    expect(seen.filter((w) => w.type === 'event' && w.stored.event.type === 'succeeded')).toHaveLength(3);
    controller.abort();
    await over;
  });
});

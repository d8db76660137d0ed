// What a batch promises about money and work: its cap, its pauses, its cancelling, its retries, and all of it over crashes.
// Held on both databases.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Caller } from '../../src/domain/caller.ts';
import { FREE } from '../../src/domain/price.ts';
import { hashKey } from '../../src/engine/gateway.ts';
import type { Plan } from '../fleet/fake-backend.ts';
import { onBothEngines } from '../store/engines.ts';
import { codes, ended, itemsOf, make, now, request, shots, until } from './batch-stage.ts';
import { CREDIT, type House, openHouse } from './house.ts';

const NODES = ['rack-1', 'rack-2', 'rack-3', 'rack-4'];
const bad: Plan = { fail: 'safety_filter', runMs: 100 };
const breaker = { window_seconds: 60, min_finished: 4, threshold: 0.5, cooldown_seconds: 30, trips: 2 };

onBothEngines((engine) => {
  let house: House;
  beforeEach(async () => {
    house = await openHouse({
      engine,
      nodes: NODES,
      models: [{}, { id: 'cheap', price: { ...FREE, perOutput: CREDIT } }],
    });
  });
  afterEach(async () => {
    await house[Symbol.asyncDispose]();
  });
  const plan = (p: Plan | ((prompt: string) => Plan)) => {
    for (const id of NODES) house.fakes.node(id).plan = typeof p === 'function' ? (job) => p(job.params.prompt) : p;
  };
  const desk = () => house.gateway.batches;

  describe('the cap', () => {
    it('is never crossed, however many are in work', async () => {
      plan({ runMs: 700 });
      const { batch } = await make(house, { items: shots(30), max_credits: 21, concurrency: 20 });
      const done = await until(
        house,
        batch.id,
        ({ batch: b, tally }) => {
          expect(tally.charged + tally.reserved).toBeLessThanOrEqual(21 * CREDIT);
          return b.finishedAt !== null;
        },
        100,
      );
      expect(done.tally).toMatchObject({ counts: { succeeded: 10, cancelled: 20 }, charged: 20 * CREDIT });
      expect(new Set(codes(await itemsOf(house, batch.id, 'cancelled')))).toEqual(new Set(['budget_exceeded']));
    });
    it('lets a smaller item behind a big one through, and what failed gives its share back', async () => {
      plan((prompt) => (prompt === 'bad' ? { fail: 'safety_filter' } : {}));
      const items = [
        { prompt: 'bad' },
        { prompt: 'big', n: 2 },
        { prompt: 'small', model: 'cheap' },
        { prompt: 'small too', model: 'cheap' },
      ];
      const { batch } = await make(house, { items, max_credits: 4, concurrency: 4 });
      const all = await itemsOf(house, batch.id);
      expect(all.map((g) => g.reserved / CREDIT)).toEqual([2, 0, 1, 1]);
      await ended(house, batch.id);
      expect(codes(await itemsOf(house, batch.id))).toEqual([
        'safety_filter',
        'budget_exceeded',
        'succeeded',
        'succeeded',
      ]);
    });
    it('makes an item wait for a reservation that may come back', async () => {
      plan((prompt) => (prompt === 'bad' ? { fail: 'safety_filter' } : {}));
      const { batch } = await make(house, { items: [{ prompt: 'bad' }, { prompt: 'good' }], max_credits: 2 });
      expect((await now(house, batch.id)).tally).toMatchObject({ held: 1, reserved: 2 * CREDIT });
      expect((await ended(house, batch.id)).tally.counts).toMatchObject({ failed: 1, succeeded: 1 });
    });
    it('that fits nothing cancels all', async () => {
      const { batch } = await make(house, { items: shots(120), max_credits: 1 });
      expect((await ended(house, batch.id)).tally.counts.cancelled).toBe(120);
      expect(house.fakes.works).toEqual([]);
    });
    it('of a key outlives neither the key nor its end', async () => {
      plan({ runMs: 2000 });
      const rights = { scopes: ['generate'] as const, models: null, requestsPerMinute: null };
      for (const expiresAt of [null, house.clock.now() + 3_500]) {
        const asked = { name: 'k', ...rights, expiresAt, spendCap: 10 * CREDIT };
        const { key, secret } = await house.gateway.createKey('studio', asked);
        const caller = (await house.gateway.authenticate(hashKey(secret))) as Caller;
        const { batch } = await desk().create(caller, request({ items: shots(20), concurrency: 2 }));
        await house.clock.advance(500);
        if (expiresAt === null) await house.gateway.deleteKey('studio', key.id);
        const done = await ended(house, batch.id);
        expect(done.batch.status).toBe('finished');
        expect(done.tally.counts.succeeded).toBeLessThanOrEqual(5);
        expect(done.tally.counts.succeeded + done.tally.counts.cancelled).toBe(20);
        const kept = await itemsOf(house, batch.id, 'cancelled');
        expect(new Set(codes(kept))).toEqual(new Set(['cancelled_by_admin']));
        expect(kept[0]?.state).toMatchObject({ failure: { message: expect.stringContaining(key.id) } });
      }
    });
    it('of what the workspace has left cancels the rest too', async () => {
      const { batch } = await make(house, { items: shots(8), concurrency: 2 });
      await house.gateway.grant('studio', -992 * CREDIT, null);
      const done = await ended(house, batch.id);
      expect(done.tally.counts).toMatchObject({ succeeded: 4, cancelled: 4 });
      expect(new Set(codes(await itemsOf(house, batch.id, 'cancelled')))).toEqual(new Set(['insufficient_credits']));
    });
  });

  describe('pausing', () => {
    it('starts nothing more, queued items of it included, and lets what runs finish', async () => {
      plan({ runMs: 2000 });
      const { batch } = await make(house, { items: shots(20), concurrency: 10 });
      await house.clock.advance(500);
      const paused = await desk().pause(house.admin, batch.id);
      expect(paused).toMatchObject({ batch: { status: 'paused' }, etaSeconds: null });
      await house.clock.advance(30_000);
      const { tally } = await now(house, batch.id);
      expect(tally.counts).toMatchObject({ succeeded: 4, queued: 16, running: 0 });
      const waiting = await itemsOf(house, batch.id, 'queued');
      for (const g of [waiting[0], waiting.at(-1)]) expect(g && house.gateway.view(g, '').queue?.reason).toBe('paused');
      expect((await desk().pause(house.admin, batch.id)).batch.seq).toBe(paused.batch.seq);
      await desk().extend(house.admin, batch.id, shots(2));
      await house.clock.advance(10_000);
      expect((await now(house, batch.id)).tally.counts.queued).toBe(18);
      expect((await desk().resume(house.admin, batch.id)).batch.status).toBe('running');
      expect((await ended(house, batch.id)).tally.counts.succeeded).toBe(22);
    });
    it('does not keep a batch open whose last items end meanwhile', async () => {
      const { batch } = await make(house, { items: shots(2) });
      await house.clock.advance(100);
      await desk().pause(house.admin, batch.id);
      expect((await ended(house, batch.id)).batch.status).toBe('finished');
    });
    it('holds over a crash', async () => {
      const { batch } = await make(house, { items: shots(10), concurrency: 6 });
      await desk().pause(house.admin, batch.id);
      await house.crashAndRestart();
      await house.clock.advance(60_000);
      expect((await now(house, batch.id)).tally.counts.queued).toBeGreaterThanOrEqual(6);
      await desk().resume(house.admin, batch.id);
      expect((await ended(house, batch.id)).tally).toMatchObject({ counts: { succeeded: 10 }, charged: 20 * CREDIT });
      expect(house.fakes.works).toHaveLength(10);
    });
  });

  describe('cancelling', () => {
    it('answers at once; what is queued, held or running follows', async () => {
      plan({ runMs: 60_000 });
      const { batch } = await make(house, { items: shots(300), concurrency: 20 });
      await house.clock.advance(500);
      const answer = await desk().cancel(house.admin, batch.id);
      expect(answer.batch).toMatchObject({ status: 'cancelled', finishedAt: null });
      expect((await desk().cancel(house.admin, batch.id)).batch.status).toBe('cancelled');
      const done = await ended(house, batch.id);
      expect(done).toMatchObject({
        batch: { status: 'cancelled' },
        tally: { counts: { cancelled: 300 }, reserved: 0 },
      });
      expect(new Set(codes(await itemsOf(house, batch.id)))).toEqual(new Set(['cancelled_by_caller']));
      expect(house.fakes.works.every((w) => w.state === 'cancelled')).toBe(true);
      for (const move of [desk().pause, desk().resume, desk().retryFailed])
        await expect(move(house.admin, batch.id)).rejects.toMatchObject({ failure: { code: 'conflict' } });
      expect(await house.gateway.credits(house.admin)).toEqual({ balance: 1000 * CREDIT, reserved: 0 });
    });
    it('goes on after a crash', async () => {
      plan({ runMs: 60_000 });
      const { batch } = await make(house, { items: shots(200), concurrency: 20 });
      await house.clock.advance(500);
      await desk().cancel(house.admin, batch.id);
      await house.crashAndRestart();
      expect((await ended(house, batch.id)).tally.counts.cancelled).toBe(200);
      await house.clock.advance(60_000);
      expect(house.fakes.works.filter((w) => w.state === 'done')).toEqual([]);
    });
    it('settles an empty batch, and leaves one alone that has ended', async () => {
      const empty = await make(house, {});
      await desk().cancel(house.admin, empty.batch.id);
      expect((await ended(house, empty.batch.id)).batch.status).toBe('cancelled');
      const { batch } = await make(house, { items: shots(1) });
      await ended(house, batch.id);
      expect((await desk().cancel(house.admin, batch.id)).batch.status).toBe('finished');
    });
    it('of one item is that item’s alone', async () => {
      const { batch } = await make(house, { items: shots(6), concurrency: 1 });
      const last = (await itemsOf(house, batch.id)).at(-1);
      await house.gateway.cancel(house.admin, last?.id as string);
      expect((await ended(house, batch.id)).tally.counts).toMatchObject({ succeeded: 5, cancelled: 1 });
    });
  });

  describe('retrying what failed', () => {
    it('asks the same again under the same key, and bills nothing that succeeded', async () => {
      plan((prompt) => (['shot 1', 'shot 3'].includes(prompt) ? { fail: 'policy_block' } : {}));
      const items = shots(5, { softened_prompt: 'shot 1' }).map((s, i) => ({ ...s, idempotency_key: `key-${i}` }));
      const { batch } = await make(house, { items, metadata: { night: 1 } });
      await ended(house, batch.id);
      const before = await itemsOf(house, batch.id);
      plan({});
      const retried = await desk().retryFailed(house.admin, batch.id);
      expect(retried).toMatchObject({ batch: { status: 'running', finishedAt: null, total: 5 } });
      expect(retried.tally.counts).toMatchObject({ queued: 2, succeeded: 3, failed: 0 });
      const done = await ended(house, batch.id);
      expect(done).toMatchObject({
        batch: { status: 'finished', projected: 10 * CREDIT },
        tally: { charged: 10 * CREDIT },
      });
      const after = await itemsOf(house, batch.id);
      for (const i of [1, 3]) {
        expect(after[i]).toMatchObject({
          previousId: before[i]?.id,
          idempotencyKey: `key-${i}`,
          params: { prompt: `shot ${i}`, seed: i },
          softened: false,
        });
      }
      expect(after.filter((g) => before.some((b) => b.id === g.id))).toHaveLength(3);
      const none = { failure: { code: 'conflict' } };
      await expect(desk().retryFailed(house.admin, batch.id)).rejects.toMatchObject(none);
    });

    it('takes timeouts and halted items, starts the trips anew, and can be done again and again', async () => {
      plan(bad);
      const { batch } = await make(house, { items: shots(20), concurrency: 2, breaker: { ...breaker, trips: 1 } });
      for (let round = 0; round < 2; round++) {
        const halted = await ended(house, batch.id);
        expect(halted.batch.status).toBe('halted');
        const again = await desk().retryFailed(house.admin, batch.id);
        expect(again.batch).toMatchObject({ status: 'running', breaker: { state: 'closed', trips: 0 } });
        expect(again.tally.counts.queued).toBe(20);
      }
      plan({});
      await ended(house, batch.id);
      const settled = await now(house, batch.id);
      if (settled.batch.status === 'halted') await desk().retryFailed(house.admin, batch.id);
      expect((await ended(house, batch.id)).tally).toMatchObject({ counts: { succeeded: 20 }, charged: 40 * CREDIT });
    });

    it('leaves what a cap or a person stopped', async () => {
      plan((prompt) => (prompt === 'shot 0' ? bad : { runMs: 3000 }));
      const { batch } = await make(house, { items: shots(4), max_credits: 4 });
      const items = await itemsOf(house, batch.id);
      await house.gateway.cancel(house.admin, items[1]?.id as string);
      await ended(house, batch.id);
      const before = codes(await itemsOf(house, batch.id));
      expect(before).toContain('cancelled_by_caller');
      await desk().retryFailed(house.admin, batch.id);
      await ended(house, batch.id);
      const after = await itemsOf(house, batch.id);
      expect(after.slice(1).map((g) => g.id)).toEqual(items.slice(1).map((g) => g.id));
      expect(after[0]?.previousId).toBe(items[0]?.id);
    });

    it('asks again for what was refused at acceptance, as it was asked', async () => {
      plan({ runMs: 20_000 });
      const base = await house.ask({ prompt: 'base', seed: 9 });
      await house.clock.advance(100);
      plan({});
      const early = { from: base.id, aspect_ratio: '2:1', steps: 7, metadata: { k: 'v' }, seed: 3 };
      const { batch } = await make(house, { items: [early, { prompt: 'b', model: 'nope' }] });
      expect(codes(await itemsOf(house, batch.id, 'failed'))).toEqual(['conflict', 'unknown_model']);
      await house.until(base.id, 'succeeded');
      const retried = await desk().retryFailed(house.admin, batch.id);
      expect(retried.batch).toMatchObject({ total: 2, projected: 2 * CREDIT });
      await ended(house, batch.id);
      const [made, still] = await itemsOf(house, batch.id);
      expect(made).toMatchObject({
        metadata: { k: 'v' },
        params: { prompt: 'base', steps: 7, seed: 3, inputs: {} },
        state: { status: 'succeeded' },
      });
      expect((made?.params.width ?? 0) / (made?.params.height ?? 1)).toBeCloseTo(2, 1);
      expect(still?.state).toMatchObject({ failure: { code: 'unknown_model' } });
    });

    it('refuses at once what was asked with a picture that was swept since, and never makes it without', async () => {
      plan(bad);
      const init_image = `data:image/png;base64,${Buffer.from('a picture').toString('base64')}`;
      const { batch } = await make(house, { items: [{ prompt: 'a', init_image }, ...shots(1)] });
      await ended(house, batch.id);
      const [first] = await itemsOf(house, batch.id);
      const picture = first?.params.initImage;
      await house.media.blobs.remove(picture?.kind === 'blob' ? picture.blob : '');
      const works = house.fakes.works.length;
      for (let round = 0; round < 2; round++) {
        const retried = await desk().retryFailed(house.admin, batch.id);
        expect(retried.tally.counts.failed).toBe(1);
        await ended(house, batch.id);
        const [swept] = await itemsOf(house, batch.id);
        expect(swept?.state).toMatchObject({
          failure: { code: 'not_found', message: expect.stringContaining('again') },
        });
      }
      expect(house.fakes.works.slice(works).map((w) => w.job.params.prompt)).toEqual(['shot 0', 'shot 0']);
    });

    it('leaves a batch paused that a person paused', async () => {
      plan(bad);
      const { batch } = await make(house, { items: shots(6), concurrency: 1, breaker: false });
      await until(house, batch.id, ({ tally }) => tally.counts.failed === 2, 50);
      await desk().pause(house.admin, batch.id);
      await house.clock.advance(5_000);
      plan({});
      const works = house.fakes.works.length;
      expect((await desk().retryFailed(house.admin, batch.id)).batch.status).toBe('paused');
      await house.clock.advance(60_000);
      expect(house.fakes.works).toHaveLength(works);
      await desk().resume(house.admin, batch.id);
      expect((await ended(house, batch.id)).tally.counts.succeeded).toBe(6);
    });

    it('keeps all that was asked, though it is refused once in between', async () => {
      plan(bad);
      const init_image = `data:image/png;base64,${Buffer.from('a picture').toString('base64')}`;
      const items = [
        { prompt: 'a', init_image, strength: 0.25 },
        { prompt: 'b', model: 'flux' },
      ];
      const { batch } = await make(house, { items });
      await ended(house, batch.id);
      const rights = { scopes: ['generate'] as const, expiresAt: null, requestsPerMinute: null, spendCap: null };
      const { secret } = await house.gateway.createKey('studio', { name: 'k', ...rights, models: ['cheap'] });
      await desk().retryFailed((await house.gateway.authenticate(hashKey(secret))) as Caller, batch.id);
      await ended(house, batch.id);
      expect(codes(await itemsOf(house, batch.id))).toEqual(['forbidden', 'forbidden']);
      plan({});
      await desk().retryFailed(house.admin, batch.id);
      await ended(house, batch.id);
      expect(await itemsOf(house, batch.id)).toMatchObject([
        { params: { strength: 0.25, initImage: { kind: 'blob' } }, state: { status: 'succeeded' } },
        { requestedModel: 'flux', state: { status: 'succeeded' } },
      ]);
    });

    it('survives a crash right after', async () => {
      plan(bad);
      const { batch } = await make(house, { items: shots(6), breaker: false });
      await ended(house, batch.id);
      plan({});
      await desk().retryFailed(house.admin, batch.id);
      await house.crashAndRestart();
      expect((await ended(house, batch.id)).tally).toMatchObject({ counts: { succeeded: 6 }, charged: 12 * CREDIT });
    });
  });

  describe('a crash', () => {
    it('between acceptance and the first hand-over loses nothing', async () => {
      const { batch } = await desk().create(house.admin, request({ items: shots(10) }));
      await house.crashAndRestart();
      expect((await ended(house, batch.id)).tally).toMatchObject({ counts: { succeeded: 10 }, charged: 20 * CREDIT });
      expect(house.fakes.works).toHaveLength(10);
    });
    it('again and again renders nothing twice and bills nothing twice', async () => {
      plan({ runMs: 3000 });
      const { batch } = await make(house, { items: shots(24), max_credits: 40, concurrency: 7 });
      for (let crash = 0; crash < 5; crash++) {
        await house.clock.advance(700 + crash * 900);
        await house.clock.settle(crash * 7);
        await house.crashAndRestart();
        const { tally } = await now(house, batch.id);
        expect(tally.charged + tally.reserved).toBeLessThanOrEqual(40 * CREDIT);
      }
      expect((await ended(house, batch.id)).tally).toMatchObject({
        counts: { succeeded: 20, cancelled: 4 },
        charged: 40 * CREDIT,
        reserved: 0,
      });
      expect(house.fakes.works).toHaveLength(20);
      expect(await house.gateway.credits(house.admin)).toEqual({ balance: 960 * CREDIT, reserved: 0 });
    });
  });
});

// Crashes and stops: nothing that was committed goes untold, and what is told twice is told under one id.

import { describe, expect, it } from 'vitest';
import { HOOK_EVENTS } from '../../src/domain/delivery.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { onBothEngines } from '../store/engines.ts';
import { type Hooked, hooked } from './hooked.ts';
import type { HouseOptions } from './house.ts';

const DAY = 24 * 3_600_000;
const create = async ({ house }: Hooked, url: string) =>
  (await house.gateway.webhooks.create(house.admin, { url, events: HOOK_EVENTS, description: null })).webhook;

onBothEngines((engine) => {
  const open = (options: HouseOptions = {}) => hooked({ engine, ...options });

  describe('a crash', () => {
    it('between the end of a generation and the sending loses nothing', async () => {
      const address = Promise.withResolvers<string>();
      const h = await open({ settings: { baseUrl: address.promise } });
      const r = await h.receiver();
      await create(h, r.url);
      const g = await h.finish();
      expect(await h.deliveries()).toMatchObject([{ state: 'pending', generationId: g.id, attempts: [] }]);
      expect(r.calls).toEqual([]);
      await h.house.crashAndRestart();
      address.resolve('http://darkroom.test');
      expect((await h.calls(r, 1)).json()).toMatchObject({ event: 'generation.succeeded', id: g.id });
      expect(await h.noted(1)).toMatchObject({ state: 'delivered' });
    });

    it('between the sending and the noting sends again: same id, same body', async () => {
      const h = await open();
      const r = await h.receiver('hang');
      await create(h, r.url);
      await h.finish();
      const first = await h.calls(r, 1);
      r.behave(200);
      await h.house.crashAndRestart();
      const second = await h.calls(r, 2);
      expect([second.id, second.body]).toEqual([first.id, first.body]);
      expect(await h.noted(1)).toMatchObject({ state: 'delivered', attempts: [{ statusCode: 200 }] });
    });

    it('makes what was to be tried later due at once, and goes on counting', async () => {
      const h = await open();
      const r = await h.receiver(500);
      await create(h, r.url);
      await h.finish();
      await h.noted(1);
      await h.house.crashAndRestart();
      await h.calls(r, 2);
      const { nextAttemptAt, attempts } = await h.noted(2);
      const wait = (nextAttemptAt ?? 0) - (attempts[1]?.at ?? 0);
      expect([wait >= 8_925, wait <= 12_075]).toEqual([true, true]);
    });
  });

  describe('a stop', () => {
    it('does not wait for a receiver that does not answer, and the next start sends again', async () => {
      const h = await open();
      const r = await h.receiver('hang');
      await create(h, r.url);
      await h.finish();
      const first = await h.calls(r, 1);
      const before = h.house.clock.now();
      await h.house.gateway.stop();
      expect(h.house.clock.now()).toBe(before);
      await until(() => r.open === 0, 'the connection to be dropped');
      expect(await h.deliveries()).toMatchObject([{ state: 'pending', attempts: [] }]);
      r.behave(200);
      await h.house.restart();
      expect((await h.calls(r, 2)).id).toBe(first.id);
    });

    it('comes to an end although the doors never opened', async () => {
      const h = await open({ settings: { baseUrl: new Promise<string>(() => {}) } });
      await create(h, 'https://a.example/');
      await h.finish();
      await h.house.gateway.stop();
      expect(await h.deliveries()).toMatchObject([{ state: 'pending', attempts: [] }]);
    });
  });

  describe('the log', () => {
    it('forgets what ended a month ago, and nothing else', async () => {
      const h = await open();
      const [good, bad] = [await h.receiver(), await h.receiver('hang')];
      await create(h, good.url);
      await h.finish();
      await h.noted(1);
      await create(h, bad.url);
      h.house.clock.set(31 * DAY);
      const { id } = await h.finish();
      const kept = await until(async () => {
        const rows = await h.deliveries();
        return rows.length === 2 && rows.some((d) => d.state === 'delivered') ? rows : null;
      }, 'two to be left');
      expect(kept.map((d) => [d.generationId, d.state]).sort()).toEqual([
        [id, 'delivered'],
        [id, 'pending'],
      ]);
    });

    it('says of a generation that is gone that there is nothing to send', async () => {
      const h = await open();
      const r = await h.receiver();
      const { id } = await create(h, r.url);
      const at = h.house.clock.now();
      await h.house.store.deliveries.add({
        id: 'msg_00000000000000000000000000',
        workspaceId: 'studio',
        webhookId: id,
        url: r.url,
        event: 'generation.succeeded',
        generationId: 'gen_00000000000000000000000000',
        batchId: null,
        createdAt: at,
        since: at,
        state: 'pending',
        nextAttemptAt: at,
        body: null,
        attempts: [],
      });
      await h.finish();
      await h.calls(r, 1);
      const dead = await until(async () => (await h.deliveries({ state: 'dead' }))[0], 'its end');
      expect(dead.attempts).toMatchObject([{ statusCode: null, error: 'what it tells of is gone' }]);
      await settle();
      expect(r.calls).toHaveLength(1);
    });

    it('and the counts agree on what died with its webhook while it was being sent', async () => {
      const h = await open();
      const r = await h.receiver('drip');
      const { id } = await create(h, r.url);
      await h.finish();
      await h.calls(r, 1);
      await h.house.gateway.webhooks.delete(h.house.admin, id);
      await until(() => r.dripped > 0, 'the answer to begin');
      await h.house.clock.advance(10_000);
      const counts = () => h.house.gateway.stats().webhooks;
      await until(() => counts().tries.arrived === 1, 'the try to end');
      await settle(50);
      expect(await h.deliveries()).toMatchObject([{ state: 'dead', attempts: [] }]);
      expect(counts()).toMatchObject({ delivered: 0, dead: 0 });
    });

    it('that cannot be written keeps the sender from repeating itself at once', async () => {
      const h = await open();
      const r = await h.receiver();
      const { id } = await create(h, r.url);
      h.house.full(true);
      const ping = await h.house.gateway.webhooks.ping(h.house.admin, id);
      await h.calls(r, 1);
      await settle(50);
      expect(r.calls).toHaveLength(1);
      h.house.full(false);
      await h.house.clock.advance(5_000);
      expect((await h.calls(r, 2)).id).toBe(ping.id);
      expect(await h.noted(1)).toMatchObject({ state: 'delivered' });
      expect(r.calls).toHaveLength(2);
    });
  });
});

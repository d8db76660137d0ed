// How the sender tries: its schedule, its bounds, and that no receiver costs another anything.

import { describe, expect, it } from 'vitest';
import { type Delivery, HOOK_EVENTS } from '../../src/domain/delivery.ts';
import { createHttp } from '../../src/system/http.ts';
import type { Log } from '../../src/system/system.ts';
import type { HookReceiver } from '../doubles/receiver.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { type Hooked, hooked } from './hooked.ts';

const HOUR = 3_600_000;
/** Nobody renders here. */
const IDLE = { nodes: [] } as const;

const create = async ({ house }: Hooked, url: string) =>
  (await house.gateway.webhooks.create(house.admin, { url, events: HOOK_EVENTS, description: null })).webhook;
const ping = ({ house }: Hooked, id: string) => house.gateway.webhooks.ping(house.admin, id);
const pings = (h: Hooked, id: string, count: number) => Promise.all(Array.from({ length: count }, () => ping(h, id)));
/** One that waits for a URL of its own. */
const direct = ({ house }: Hooked, n: number, url: string, over: Partial<Delivery> = {}): Delivery => ({
  id: `msg_${String(n).padStart(26, '0')}`,
  workspaceId: house.admin.workspace.id,
  webhookId: null,
  url,
  event: 'ping',
  generationId: null,
  batchId: null,
  createdAt: house.clock.now(),
  since: house.clock.now(),
  state: 'pending',
  nextAttemptAt: house.clock.now(),
  body: '{}',
  attempts: [],
  ...over,
});
const state = async ({ house }: Hooked, id: string) => (await house.gateway.webhooks.get(house.admin, id)).health;

/** Nothing is due and nothing is under way. */
const quiet = ({ house }: Hooked, ...receivers: readonly HookReceiver[]) =>
  until(async () => {
    if (receivers.some((r) => r.open > 0)) return false;
    return (await house.store.deliveries.receivers(house.clock.now(), 1)).length === 0;
  }, 'a quiet moment');

/** From one due time to the next, until nothing waits. How long that took by the clock. */
async function drive(h: Hooked, ...receivers: readonly HookReceiver[]): Promise<number> {
  const { clock } = h.house;
  const start = clock.now();
  for (;;) {
    await quiet(h, ...receivers);
    const next = await h.house.store.deliveries.next(clock.now());
    if (next === null) return clock.now() - start;
    await clock.advance(next - clock.now());
  }
}

describe('what is no 2xx', () => {
  it.each([
    ['an error', 500, 500, 'answered 500'],
    ['a refusal', 404, 404, 'answered 404'],
    ['a redirect, which is not followed', { status: 302, headers: { location: '/elsewhere' } }, 302, /redirect/],
    ['a hang-up', 'close', null, /connection broke/],
  ] as const)('%s is noted and tried again', async (_name, how, statusCode, error) => {
    const h = await hooked(IDLE);
    const r = await h.receiver(how);
    await ping(h, (await create(h, r.url)).id);
    const first = await h.noted(1);
    expect(first).toMatchObject({ state: 'pending', attempts: [{ statusCode }] });
    expect(first.attempts[0]?.error).toMatch(error);
    const wait = (first.nextAttemptAt ?? 0) - h.house.clock.now();
    expect([wait >= 2_000, wait <= 5_000]).toEqual([true, true]);
    r.behave(200);
    await h.house.clock.advance(wait);
    expect(await h.noted(2)).toMatchObject({ state: 'delivered', nextAttemptAt: null });
    expect([r.calls.length, r.calls[1]?.id, r.calls[1]?.body]).toEqual([2, first.id, r.calls[0]?.body]);
    expect(r.calls.every((call) => call.path === '/hook')).toBe(true);
  });

  it('no answer is given up after ten seconds', async () => {
    const h = await hooked(IDLE);
    const r = await h.receiver('hang');
    await ping(h, (await create(h, r.url)).id);
    await h.calls(r, 1);
    await h.house.clock.advance(9_999);
    expect((await h.deliveries())[0]?.attempts).toEqual([]);
    await h.house.clock.advance(1);
    expect(await h.noted(1)).toMatchObject({ attempts: [{ statusCode: null, ms: 10_000 }] });
    await until(() => r.open === 0, 'the connection to be dropped');
  });

  it('is dead after a day, with every try in the log', async () => {
    const h = await hooked(IDLE);
    const r = await h.receiver(500);
    await ping(h, (await create(h, r.url)).id);
    const took = await drive(h, r);
    const [dead] = await h.deliveries();
    expect(dead).toMatchObject({ state: 'dead', nextAttemptAt: null });
    expect(dead?.attempts).toHaveLength(r.calls.length);
    const gaps = dead?.attempts.map((a, i) => a.at - (dead.attempts[i - 1]?.at ?? a.at)).slice(1) ?? [];
    expect(gaps.every((gap) => gap <= HOUR)).toBe(true);
    expect([took > 23 * HOUR - 1, took <= 24 * HOUR]).toEqual([true, true]);
    await h.house.clock.advance(2 * HOUR);
    expect(r.calls).toHaveLength(dead?.attempts.length ?? 0);
  });

  it('Retry-After keeps everything from that receiver for as long', async () => {
    const h = await hooked(IDLE);
    const r = await h.receiver({ status: 429, headers: { 'retry-after': '60' } });
    const { id } = await create(h, r.url);
    await ping(h, id);
    const first = await h.noted(1);
    expect(first.nextAttemptAt).toBe(h.house.clock.now() + 60_000);
    r.behave(200);
    await ping(h, id);
    await h.house.clock.advance(59_999);
    expect(r.calls).toHaveLength(1);
    await h.house.clock.advance(1);
    await h.calls(r, 3);
  });
});

describe('an answer', () => {
  it.each(['drip', 'huge'] as const)('that is a %s counts by its status, and is not read to its end', async (how) => {
    const h = await hooked(IDLE);
    const r = await h.receiver(how);
    await ping(h, (await create(h, r.url)).id);
    await h.calls(r, 1);
    if (how === 'drip') await until(() => r.dripped >= 5, 'some drops');
    await h.house.clock.advance(10_000);
    expect(await h.noted(1)).toMatchObject({ state: 'delivered', attempts: [{ statusCode: 200 }] });
    await until(() => r.open === 0, 'the connection to be dropped');
  });
});

describe('addresses', () => {
  const strict = { ...IDLE, system: { http: createHttp({ allowPrivate: [] }) } };

  it('that are private are refused at the connection, named by number or by name', async () => {
    const { hostname } = await import('node:os');
    const h = await hooked(strict);
    const r = await h.receiver();
    for (const host of ['127.0.0.1', hostname()]) {
      const { id } = await ping(h, (await create(h, `http://${host}:${r.port}/hook`)).id);
      const tried = await h.noted(1, id);
      expect(tried.attempts[0]).toMatchObject({ statusCode: null, error: expect.stringContaining('address') });
    }
    expect(r.calls).toEqual([]);
  });
});

describe('a receiver', () => {
  it('gets four at a time', async () => {
    const h = await hooked(IDLE);
    const r = await h.receiver('hang');
    await pings(h, (await create(h, r.url)).id, 20);
    await h.calls(r, 4);
    await settle(20);
    expect([r.calls.length, r.most]).toEqual([4, 4]);
  });

  it('that never answers does not delay another, nor do many such on one host', async () => {
    const h = await hooked(IDLE);
    const [deaf, good] = [await h.receiver('hang'), await h.receiver()];
    for (let i = 0; i < 12; i++) await pings(h, (await create(h, `${deaf.url}/${i}`)).id, 20);
    await h.calls(deaf, 8);
    await ping(h, (await create(h, good.url)).id);
    await h.calls(good, 1);
    expect([deaf.calls.length, deaf.most]).toEqual([8, 8]);
  });

  it('that never answers is not in the way of others, however many of its URLs wait', async () => {
    const h = await hooked(IDLE);
    const [deaf, near, far] = [await h.receiver('hang'), await h.receiver(), await h.receiver()];
    const { id } = await h.house.gateway.createWorkspace({ name: 'theirs', credits: 0, limits: {} });
    const { deliveries } = h.house.store;
    await Promise.all(Array.from({ length: 2_100 }, (_, n) => deliveries.add(direct(h, n, `${deaf.url}/${n}`))));
    const due = { nextAttemptAt: h.house.clock.now() + 1 };
    await deliveries.add(direct(h, 2_100, near.url, due));
    await deliveries.add(direct(h, 2_101, far.url, { ...due, workspaceId: id }));
    await h.house.clock.advance(1);
    await pings(h, (await create(h, deaf.url)).id, 1);
    await h.calls(near, 1);
    await h.calls(far, 1);
    await h.calls(deaf, 8);
    await settle(20);
    expect(deaf.most).toBe(8);
  });

  it('with many URLs gets all of them, and those that wait their turn are not read again after each', async () => {
    const h = await hooked(IDLE);
    const [r, first] = [await h.receiver(), await h.receiver()];
    const { deliveries } = h.house.store;
    let reads = 0;
    const receivers = deliveries.receivers;
    Object.assign(deliveries, {
      receivers(now: number, limit: number) {
        reads++;
        return receivers(now, limit);
      },
    });
    await Promise.all(Array.from({ length: 2_100 }, (_, n) => deliveries.add(direct(h, n, `${r.url}/${n}`))));
    await ping(h, (await create(h, first.url)).id);
    await h.calls(r, 2_100);
    expect(r.most).toBeLessThanOrEqual(8);
    expect([new Set(r.calls.map((call) => call.id)).size, r.calls.length]).toEqual([2_100, 2_100]);
    expect(reads).toBeLessThan(20);
  });

  it('that never answers keeps nobody busy, and others are tried at their time', async () => {
    const h = await hooked(IDLE);
    const [deaf, bad] = [await h.receiver('hang'), await h.receiver(500)];
    await ping(h, (await create(h, deaf.url)).id);
    await h.calls(deaf, 1);
    await ping(h, (await create(h, bad.url)).id);
    await h.noted(1);
    const { clock } = h.house;
    const timer = clock.timer;
    let timers = 0;
    clock.timer = (ms, fn) => {
      timers++;
      return timer(ms, fn);
    };
    await clock.advance(5_000);
    await h.calls(bad, 2);
    expect(timers).toBeLessThan(50);
  });

  it('that fails is tried one at a time, until one arrives; then the rest flows', async () => {
    const lines = recorded();
    const h = await hooked({ ...IDLE, system: { log: lines.log } });
    const r = await h.receiver(500);
    const { id } = await create(h, r.url);
    await pings(h, id, 5);
    await quiet(h, r);
    expect(await state(h, id)).toMatchObject({ failing: true, failures: 5, lastError: 'answered 500', waiting: 5 });
    expect(lines.warnings).toMatchObject([{ webhook: id, host: `127.0.0.1:${r.port}` }]);
    r.behave('hang');
    const before = r.calls.length;
    await pings(h, id, 40);
    await h.calls(r, before + 1);
    await h.house.clock.advance(5_000);
    expect(r.calls).toHaveLength(before + 1);
    r.behave(200);
    await h.house.clock.advance(5_000);
    await until(async () => (await state(h, id)).waiting === 0, 'the rest to flow');
    expect(await state(h, id)).toMatchObject({ failing: false, failures: 0, since: null, lastError: null });
    expect([lines.warnings.length, lines.infos.filter((line) => line.webhook === id).length]).toEqual([1, 1]);
    await until(() => h.house.gateway.stats().webhooks.delivered === 45, 'the count');
    expect(h.house.gateway.stats().webhooks).toMatchObject({ dead: 0, failingReceivers: 0 });
  });

  it('that goes on failing rests after each try, longer each time, and nothing rests once one arrives', async () => {
    const h = await hooked(IDLE);
    const r = await h.receiver(500);
    const { id } = await create(h, r.url);
    await pings(h, id, 60);
    await h.calls(r, 10);
    await settle(20);
    expect(r.calls).toHaveLength(10);
    for (const [n, rest] of [1_000, 2_000, 4_000].entries()) {
      await h.house.clock.advance(rest - 1);
      expect(r.calls).toHaveLength(10 + n);
      await h.house.clock.advance(1);
      await h.calls(r, 11 + n);
    }
    r.behave(200);
    await h.house.clock.advance(8_000);
    await until(async () => (await state(h, id)).waiting === 0, 'the rest to flow');
  });

  it('that fails every second time gets a thousand in two thousand tries, none of them late by hours', async () => {
    const h = await hooked(IDLE);
    const r = await h.receiver(({ n }) => (n % 2 === 0 ? 500 : 200));
    await pings(h, (await create(h, r.url)).id, 1_000);
    await quiet(h, r);
    expect(r.calls).toHaveLength(1_000);
    const took = await drive(h, r);
    expect(await h.deliveries({ state: 'delivered' })).toHaveLength(1_000);
    expect(new Set(r.calls.map((call) => call.id)).size).toBe(1_000);
    expect(r.calls.length).toBeLessThanOrEqual(2_001);
    expect(took).toBeLessThan(HOUR);
  });

  it('that fails all day buries what is older than its day without a try', async () => {
    const h = await hooked(IDLE);
    const r = await h.receiver(500);
    const { id } = await create(h, r.url);
    await pings(h, id, 6);
    await quiet(h, r);
    h.house.clock.set(25 * HOUR);
    const before = r.calls.length;
    await ping(h, id);
    await until(async () => (await h.deliveries({ state: 'dead' })).length === 6, 'their end');
    await h.calls(r, before + 1);
    await settle();
    expect(r.calls).toHaveLength(before + 1);
    expect((await h.deliveries({ state: 'dead' }))[0]?.attempts.at(-1)?.error).toContain('its day is over');
  });
});

function recorded() {
  const warnings: Record<string, unknown>[] = [];
  const infos: Record<string, unknown>[] = [];
  const into = (list: Record<string, unknown>[]) => (fields: unknown) => void list.push(fields as (typeof list)[0]);
  const log = { debug() {}, info: into(infos), warn: into(warnings), error() {}, child: () => log } as unknown as Log;
  return { log, warnings, infos };
}

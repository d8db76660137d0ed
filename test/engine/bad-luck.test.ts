import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { laneOf } from '../../src/domain/lane.ts';
import { FREE } from '../../src/domain/price.ts';
import { createBacklog } from '../../src/engine/backlog.ts';
import { generation } from '../domain/given.ts';
import type { Plan } from '../fleet/fake-backend.ts';
import { type House, openHouse } from './house.ts';

const BOTH = ['rack-1', 'rack-2'];
let house: House;
beforeEach(async () => {
  house = await openHouse({
    models: [{}, { id: 'free', price: FREE }, { id: 'timed', price: { ...FREE, perNodeSecond: 100 } }],
  });
});
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});
const plan = (p: Plan) => {
  for (const id of BOTH) house.fakes.node(id).plan = p;
};

describe('a full disk', () => {
  it('delays outcomes and starts, and loses none', async () => {
    const ids = [];
    for (let i = 0; i < 5; i++) ids.push((await house.ask()).id);
    await house.clock.advance(500);
    house.full(true);
    await house.clock.advance(20_000);
    await expect(house.ask()).rejects.toThrow(/no space/);
    house.full(false);
    for (const id of ids) expect((await house.until(id, 'succeeded')).attempts).toHaveLength(1);
    expect(house.fakes.works).toHaveLength(5);
    expect(await house.gateway.credits(house.admin)).toEqual({ balance: 1_000_000 - 5 * 2000, reserved: 0 });
  });
});

describe('a wall clock set back an hour', () => {
  it('stops neither the queue nor a retry, and bills no negative time', async () => {
    plan({ runMs: 4000 });
    const timed = await house.ask({ model: 'timed' });
    const queued = [];
    for (let i = 0; i < 4; i++) queued.push(await house.ask());
    await house.clock.advance(1000);
    house.clock.set(-3_600_000);
    const done = await house.until(timed.id, 'succeeded');
    expect(done.charged).toBe(400);
    for (const g of queued) await house.until(g.id, 'succeeded');
    const { total } = await house.gateway.usage(house.admin, 0, Number.MAX_SAFE_INTEGER, null);
    expect(total.nodeSeconds).toBeGreaterThanOrEqual(0);
    expect((await house.gateway.credits(house.admin)).reserved).toBe(0);
  });
});

describe('deadlines', () => {
  it('hold for a retry too', async () => {
    plan({ fail: 'node_lost', runMs: 1000 });
    house.fakes.node('rack-2').crash();
    await house.clock.advance(20_000);
    const g = await house.until((await house.ask({ start_within_seconds: 2 })).id, 'timeout');
    expect(g.state).toMatchObject({ failure: { code: 'start_timeout' } });
    expect((g.state as { finishedAt: number }).finishedAt - g.createdAt).toBeLessThan(4000);
  });
});

describe('credits withdrawn', () => {
  it('leave free work alone and come to an end, however much of it waits', async () => {
    plan({ runMs: 60_000 });
    await house.ask();
    await house.ask();
    for (let i = 0; i < 250; i++) await house.ask({ model: 'free' });
    const after = await house.gateway.grant('studio', -999_000, 'all but one');
    expect(after).toEqual({ balance: 1000, reserved: 4000 });
  });
});

describe('an input picture', () => {
  it('sent with its request has an owner, and is swept a day after its last use', async () => {
    const { store, media } = { store: house.store, media: house.media };
    const g = await house.ask({ init_image: 'data:image/png;base64,iVBORw0KGgo=' });
    const blob = (g.params.initImage as { blob: string }).blob;
    await house.until(g.id, 'succeeded');
    await house.clock.advance(23 * 3_600_000);
    expect(media.blobs.removed).not.toContain(blob);
    await house.clock.advance(2 * 3_600_000);
    expect(media.blobs.removed).toContain(blob);
    expect(await store.files.sweepUploads(house.clock.now())).toEqual([]);
  });
});

describe('a node that lies', () => {
  it('cannot requeue for ever by claiming a shutdown', async () => {
    plan({ fail: 'shutting_down' });
    const g = await house.until((await house.ask()).id, 'failed');
    expect(g.attempts).toHaveLength(3);
  });
  it('cannot deliver more files than may be asked for', async () => {
    plan({ files: Array.from({ length: 40 }, (_, i) => Buffer.from([i])) });
    const g = await house.until((await house.ask()).id, 'succeeded');
    expect(g.state).toMatchObject({ outputs: { length: 8 } });
    expect(g.warnings).toEqual(['The node made more than 8 files; the rest was left there.']);
  });
});

describe('the backlog', () => {
  const stub = (n: number) => ({ id: `gen_${String(n).padStart(26, '0')}`, createdAt: n, notBefore: 0, startBy: null });
  it('forgets nothing that is queued while it reads', async () => {
    const rows = [stub(1), stub(2)];
    const reading = Promise.withResolvers<void>();
    const go = Promise.withResolvers<void>();
    const g = (n: number) => generation({ ...stub(n) });
    const lane = laneOf(g(1)).key;
    const backlog = createBacklog({
      lanes: async () => [{ lane, queued: 2 }],
      async window(_lane, _limit, after = '') {
        const seen = rows.filter((r) => r.id > after);
        reading.resolve();
        await go.promise;
        return seen;
      },
    });
    await backlog.load();
    const filling = backlog.refill(10, new Set());
    await reading.promise;
    rows.push(stub(3));
    backlog.added(g(3));
    go.resolve();
    await filling;
    const taken: string[] = [];
    for (let i = 0; i < 3; i++) {
      await backlog.refill(10, new Set(taken));
      taken.push(backlog.heads(10, new Set(taken))[0]?.head.id ?? 'nothing');
    }
    expect(taken).toEqual([1, 2, 3].map((n) => stub(n).id));
  });
  it('does not offer a stub again that was dropped', async () => {
    const g = generation(stub(1));
    const lane = laneOf(g);
    const backlog = createBacklog({ lanes: async () => [], window: async () => [] });
    backlog.added(g);
    expect(backlog.heads(10, new Set())).toHaveLength(1);
    backlog.drop(lane, g.id);
    await backlog.refill(10, new Set());
    expect(backlog.heads(10, new Set())).toEqual([]);
  });
});

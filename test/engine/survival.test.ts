import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type House, openHouse } from './house.ts';

let house: House;
beforeEach(async () => {
  house = await openHouse({ settings: { drainMs: 500 } });
});
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});

describe('a crash of the gateway', () => {
  it('loses nothing accepted, renders nothing twice, charges nothing twice', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { runMs: 4000 };
    const ids = [];
    for (let i = 0; i < 8; i++) ids.push((await house.ask()).id);
    for (let crash = 0; crash < 4; crash++) {
      await house.clock.advance(1500 + crash * 700);
      await house.crashAndRestart();
    }
    for (const id of ids) expect((await house.until(id, 'succeeded')).charged).toBe(2000);
    const rendered = house.fakes.works.map((w) => w.job.id);
    expect(new Set(rendered).size).toBe(8);
    expect(rendered).toHaveLength(8);
    expect(house.fakes.works.some((w) => w.resumes > 0)).toBe(true);
    expect(await house.gateway.credits(house.admin)).toEqual({ balance: 1_000_000 - 8 * 2000, reserved: 0 });
  });
  it('adopts a render that finished meanwhile', async () => {
    const asked = await house.ask();
    await house.clock.advance(500);
    const node = house.fakes.works[0]?.node as string;
    await house.crashAndRestart();
    const done = await house.until(asked.id, 'succeeded');
    expect(done.attempts).toHaveLength(1);
    expect(done.attempts[0]?.node).toBe(node);
  });
  it('runs again what its node cannot have kept, with the same attempt number', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).resumable = false;
    const asked = await house.ask();
    await house.clock.advance(500);
    await house.crashAndRestart();
    const done = await house.until(asked.id, 'succeeded');
    expect(done.attempts.map((a) => [a.n, a.outcome])).toEqual([
      [1, 'handed_over'],
      [1, 'succeeded'],
    ]);
  });
});

describe('a node that goes away', () => {
  it('costs a retry elsewhere when it crashes in the middle', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { runMs: 10_000 };
    const asked = await house.ask();
    await house.clock.advance(2000);
    house.fakes.node(house.fakes.works[0]?.node as string).crash();
    const done = await house.until(asked.id, 'succeeded');
    expect(done.attempts.map((a) => a.outcome)).toEqual(['node_lost', 'succeeded']);
    expect(new Set(done.attempts.map((a) => a.node)).size).toBe(2);
  });
  it('keeps work queued while every node is down, and says so', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).crash();
    await house.clock.advance(60_000);
    const asked = await house.ask();
    expect(house.gateway.view(asked, '').queue).toEqual({ position: 1, reason: 'no_node_online' });
    house.fakes.node('rack-2').mend();
    expect((await house.until(asked.id, 'succeeded')).attempts).toHaveLength(1);
  });
});

describe('a refused job', () => {
  it('waits for the other node when that is only down for a while', async () => {
    house.fakes.node('rack-1').plan = { refuse: 'model_error' };
    house.fakes.node('rack-2').crash();
    await house.clock.advance(60_000);
    const asked = await house.ask();
    await house.clock.advance(100);
    house.fakes.node('rack-2').mend();
    const done = await house.until(asked.id, 'succeeded');
    expect(done.attempts.at(-1)?.node).toBe('rack-2');
  });
});

describe('a polite stop', () => {
  it('starts nothing behind itself and leaves no sleeper', async () => {
    for (let i = 0; i < 6; i++) await house.ask();
    const stopped = house.gateway.stop();
    await house.clock.advance(2_000);
    await stopped;
    const begun = house.fakes.works.length;
    await house.clock.advance(60_000);
    expect(house.fakes.works).toHaveLength(begun);
  });

  it('lets short work finish and hands long work over', async () => {
    for (const id of ['rack-1', 'rack-2'])
      house.fakes.node(id).plan = (job) => ({ runMs: job.params.seed === 1 ? 800 : 20_000 });
    const short = await house.ask({ seed: 1 });
    const long = await house.ask({ seed: 2 });
    await house.clock.advance(500);
    await house.restart();
    expect((await house.state(short.id)).state.status).toBe('succeeded');
    const done = await house.until(long.id, 'succeeded');
    expect(done.attempts).toHaveLength(1);
    expect(house.fakes.works).toHaveLength(2);
  });
});

describe('idempotency keys', () => {
  it('make one generation of 32 parallel submits, and hold over a restart', async () => {
    const all = await Promise.all(Array.from({ length: 32 }, (_, i) => house.ask({ idempotency_key: 'k', seed: i })));
    expect(new Set(all.map((g) => g.id)).size).toBe(1);
    await house.crashAndRestart();
    const again = await house.gateway.submit(house.admin, {
      prompt: 'a lighthouse',
      idempotency_key: 'k',
      metadata: { try: 2 },
    });
    expect(again).toMatchObject({ replayed: true, generation: { id: all[0]?.id } });
    await expect(house.ask({ idempotency_key: 'k', prompt: 'another' })).rejects.toMatchObject({
      failure: { code: 'idempotency_conflict' },
    });
  });
  it('start anew after a failure that cost nothing', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).next({ fail: 'model_error' });
    const first = await house.until((await house.ask({ idempotency_key: 'k' })).id, 'failed');
    const second = await house.ask({ idempotency_key: 'k' });
    expect(second).toMatchObject({ previousId: first.id });
    expect(second.id).not.toBe(first.id);
    await house.gateway.cancel(house.admin, second.id);
    const softer = await house.ask({ idempotency_key: 'k', prompt: 'a calm lighthouse' });
    expect(softer).toMatchObject({ previousId: second.id });
  });
});

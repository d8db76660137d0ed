import { afterEach, describe, expect, it } from 'vitest';
import { type Loop, silentLog, startLoop } from '../../src/system/system.ts';
import { ManualClock, settle } from '../harness/manual-clock.ts';

let loop: Loop;
afterEach(() => loop.stop());

const start = (clock: ManualClock, tick: (signal: AbortSignal) => Promise<number | null>) => {
  loop = startLoop({ name: 'test', clock, log: silentLog, tick, backoffMs: 100 });
};

describe('a loop', () => {
  it('makes one more tick of many wakes, and never two at once', async () => {
    const clock = new ManualClock();
    let ticks = 0;
    let go = Promise.withResolvers<void>();
    start(clock, async () => {
      ticks++;
      await go.promise;
      return null;
    });
    await settle();
    for (let i = 0; i < 5; i++) loop.wake();
    await settle();
    expect(ticks).toBe(1);
    const first = go;
    go = Promise.withResolvers();
    first.resolve();
    await settle();
    expect(ticks).toBe(2);
    go.resolve();
  });
  it('ticks again after the time a tick asked for', async () => {
    const clock = new ManualClock();
    let ticks = 0;
    start(clock, async () => (++ticks < 3 ? 1000 : null));
    await clock.advance(999);
    expect(ticks).toBe(1);
    await clock.advance(10_000);
    expect(ticks).toBe(3);
  });
  it('backs off after an error, however often it is woken, and recovers', async () => {
    const clock = new ManualClock();
    let ticks = 0;
    start(clock, async () => {
      if (++ticks <= 3) throw new Error('not yet');
      return null;
    });
    for (let i = 0; i < 50; i++) {
      loop.wake();
      await settle(1);
    }
    expect(ticks).toBe(1);
    await clock.advance(100);
    expect(ticks).toBe(2);
    await clock.advance(200);
    expect(ticks).toBe(3);
    await clock.advance(400);
    expect(ticks).toBe(4);
    loop.wake();
    await settle();
    expect(ticks).toBe(5);
  });
  it('stops after the tick under way, whose signal is aborted, and leaves no timer', async () => {
    const clock = new ManualClock();
    let seen: AbortSignal | null = null;
    start(clock, async (signal) => {
      seen = signal;
      return 1000;
    });
    await settle();
    await loop.stop();
    expect(seen).toMatchObject({ aborted: true });
    expect(clock.pending).toBe(0);
  });
});

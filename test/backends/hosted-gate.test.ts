// What one submit of an account is told holds for the others: while it takes no more, nobody knocks, and then they come back
// one after the other. What waits has asked for nothing, and can be cancelled at once.

import { describe, expect, it } from 'vitest';
import { Refusal, wasAsked } from '../../src/backends/backend.ts';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { createGate } from '../../src/backends/hosted/gate.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { ManualClock, settle } from '../harness/manual-clock.ts';
import { realSystem } from '../harness/system.ts';
import { forever, openAccount } from './hosted-account.ts';

const open = () => openAccount(bfl, 'flux-pro-1.1');
const never = (seconds: number) => new Refusal('rate_limited', 'Later.', { retryAfterSeconds: seconds });

describe('an account that takes no more', () => {
  it('is left alone by its other jobs too, for as long as it asked one of them', async () => {
    const stage = await open();
    stage.double.faults.next('rate_limited', { ms: 20_000 });
    await stage.killedAfter(stage.job(), 'intent', 2);
    expect(stage.clock.slept).toEqual([]);
    const ran = await stage.run(stage.job());
    expect(ran.failure).toBeNull();
    expect(stage.clock.slept[0]).toBeGreaterThanOrEqual(20_000);
    expect(stage.requests('POST')).toHaveLength(2);
  });

  it('is not waited for where it asks for more than half a minute', async () => {
    const stage = await open();
    stage.double.faults.next('rate_limited', { ms: 90_000 });
    await stage.run(stage.job());
    const ran = await stage.run(stage.job());
    expect(ran).toMatchObject({ refused: true, failure: { code: 'rate_limited', retryAfterSeconds: 90 } });
    expect(ran.events).toEqual([]);
    expect(stage.requests('POST')).toHaveLength(1);
  });

  it('leaves what waits cancellable at once, with nothing asked', async () => {
    const stage = await open();
    stage.double.faults.next('rate_limited', { ms: 20_000 });
    const remote = await stage.killedAfter(stage.job(), 'intent', 2);
    expect(wasAsked(remote)).toBe(false);
    const stop = new AbortController();
    stop.abort(new GatewayError('cancelled_by_caller'));
    const ran = await stage.run(stage.job(), stop.signal);
    expect(ran).toMatchObject({ failure: { code: 'cancelled_by_caller' }, events: [] });
    expect(stage.requests('POST')).toHaveLength(1);
  });
});

describe('the gate', () => {
  const gates = (...fractions: number[]) => {
    const clock = new ManualClock();
    const system = realSystem(clock);
    const random = { ...system.random, fraction: () => fractions.shift() ?? 0 };
    return { clock, gate: createGate({ clock, random }) };
  };

  it('lets those who wait in one after the other', async () => {
    const { clock, gate } = gates(0, 0.5, 1);
    gate.close(10_000, 4_000, never);
    const passed: number[] = [];
    for (const nth of [1, 2, 3]) void gate.pass(0, forever).then(() => passed.push(nth));
    await settle();
    for (const [ms, those] of [
      [9_999, []],
      [1, [1]],
      [1_999, [1]],
      [1, [1, 2]],
      [2_000, [1, 2, 3]],
    ] as const) {
      await clock.advance(ms);
      expect(passed).toEqual(those);
    }
  });

  it('holds those who wait back when it is closed again meanwhile, and never opens sooner for it', async () => {
    const { clock, gate } = gates();
    gate.close(10_000, 0, never);
    let passed = 0;
    void gate.pass(0, forever).then((waited) => {
      passed = waited;
    });
    await clock.advance(5_000);
    gate.close(1_000, 0, never);
    await clock.advance(4_000);
    gate.close(20_000, 0, never);
    await clock.advance(19_000);
    expect(passed).toBe(0);
    await clock.advance(1_000);
    expect(passed).toBe(2);
  });

  it('is tried again after ten minutes, however long it was asked to stay closed', async () => {
    const { clock, gate } = gates();
    gate.close(86_400_000, 21_600_000, never);
    await clock.advance(569_999);
    await expect(gate.pass(0, forever)).rejects.toThrow('Later.');
    await clock.advance(30_001);
    expect(await gate.pass(0, forever)).toBe(0);
  });

  it('is given up where it closes again and again', async () => {
    const { gate } = gates();
    gate.close(10_000, 0, never);
    await expect(gate.pass(5, forever)).rejects.toMatchObject({ failure: { retryAfterSeconds: 10 } });
  });

  it('is left at once by who is told to stop', async () => {
    const { gate } = gates();
    gate.close(10_000, 0, never);
    const stop = new AbortController();
    const waiting = gate.pass(0, stop.signal);
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
  });
});

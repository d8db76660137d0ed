// A System for tests: real HTTP, silent log, chosen clock, repeatable chance.

import { systemClock } from '../../src/system/clock.ts';
import type { Clock, System } from '../../src/system/system.ts';
import { createSystem, sleepOn } from '../../src/system/system.ts';
import { ManualClock } from './manual-clock.ts';

export interface TestSystem extends System {
  readonly clock: ManualClock;
}

/** Loopback is allowed for `public` requests, since that is where tests listen. */
export function testSystem(): TestSystem {
  return { ...realSystem(), clock: new ManualClock() };
}

export function realSystem(clock?: Clock): System {
  const system = createSystem({ level: 'silent', allowPrivate: ['127.0.0.0/8'] });
  return clock ? { ...system, clock } : system;
}

/** Real time, only faster: for tests of the whole house, where what waits must still wait in the right order. */
export function fastClock(times: number): Clock {
  const start = systemClock.now();
  const began = systemClock.monotonic();
  const monotonic = () => (systemClock.monotonic() - began) * times;
  const timer: Clock['timer'] = (ms, fn) => systemClock.timer(ms / times, fn);
  return {
    now: () => start + Math.floor(monotonic()),
    monotonic,
    timer,
    sleep: (ms, signal) => sleepOn({ timer }, ms, signal),
  };
}

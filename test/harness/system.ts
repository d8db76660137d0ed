// A System for tests: real HTTP, silent log, chosen clock, repeatable chance.

import type { Clock, System } from '../../src/system/system.ts';
import { createSystem } from '../../src/system/system.ts';
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

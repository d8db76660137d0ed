// What a node is to the rest of the house right now: its status, why, and how many attempts may start. Pure, and
// computed from the parts each time, never stored, so that the three cannot disagree.

import type { NodeStatus } from '../domain/node.ts';
import type { Breaker } from './breaker.ts';
import type { Health } from './health.ts';
import type { Slots } from './slots.ts';

export interface Posture {
  readonly status: NodeStatus;
  /** Null while online. */
  readonly why: string | null;
  readonly free: number;
  /** It said that it takes no more for a while. */
  readonly limited: boolean;
}

export interface Parts {
  /** The operator's word. */
  readonly draining: boolean;
  readonly health: Health;
  readonly wedged: string | null;
  readonly breaker: Pick<Breaker, 'state' | 'why'>;
  readonly slots: Pick<Slots, 'free' | 'running'>;
  readonly limited: boolean;
}

export function postureOf({ draining, health, wedged, breaker, slots, limited }: Parts): Posture {
  if (draining) return { status: 'draining', why: 'drained by an operator', free: 0, limited };
  if (health.state === 'unknown') return { status: 'offline', why: 'not probed yet', free: 0, limited };
  if (health.state === 'down') return { status: 'offline', why: health.why, free: 0, limited };
  if (wedged !== null) return { status: 'wedged', why: wedged, free: 0, limited };
  if (breaker.why !== null) return { status: 'offline', why: breaker.why, free: 0, limited };
  const trial = breaker.state === 'half_open';
  const free = trial ? Number(slots.running === 0) : slots.free;
  return { status: 'online', why: null, free: limited || health.misses > 0 ? 0 : free, limited };
}

/** Is this worth waking others for? A slot taken is not: whoever took it knows. */
export function isNews(before: Posture, now: Posture): boolean {
  return now.status !== before.status || now.why !== before.why || now.free > before.free;
}

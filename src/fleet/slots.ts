// Permission to render on one node: who holds it, and when it should come free. A slot is given back twice: `release`
// when the render ends (the next one may start while files are fetched), disposal when the attempt is over.

import type { Millis, NodeId } from '../domain/units.ts';

/** Permission to render one attempt on one node. Disposing gives it back (idempotent). */
export interface Slot extends Disposable {
  readonly node: NodeId;
  /** The render ended: the slot is free for the next one although files are still being fetched. Idempotent. */
  release(): void;
}

export interface Work {
  readonly residency: string;
  readonly expectMs: Millis;
}

interface Hold extends Work {
  readonly startedAt: Millis;
}

export interface SlotsOptions {
  readonly node: NodeId;
  readonly capacity: number;
  /** Monotonic milliseconds. */
  readonly now: () => Millis;
  /** A render ended well: its model is in memory. */
  readonly onRendered: (residency: string) => void;
  /** Something was given back. */
  readonly onFreed: () => void;
}

export interface Slots {
  /** Takes a slot without asking whether one is free. */
  take(work: Work): Slot;
  /** Attempts rendering. */
  readonly running: number;
  /** Attempts not over yet: rendering or fetching files. */
  readonly held: number;
  /** At least 0, also while adopted work fills more than there is. */
  readonly free: number;
  /** Until one comes free, as far as is known; 0 while one is. */
  remainingMs(): Millis;
  /** Residency keys of what is rendering, in order of start. */
  rendering(): readonly string[];
  /** Has (or had) the newest attempt with this residency taken more than twice what was expected of it? */
  overdue(residency: string): boolean;
}

/** What is left of an attempt that takes longer than expected: never nothing, lest the node look free. */
const OVERDUE_SHARE = 0.1;

export function createSlots({ node, capacity, now, onRendered, onFreed }: SlotsOptions): Slots {
  const rendering = new Set<Hold>();
  const held = new Set<Hold>();
  const newest = new Map<string, Hold>();
  const left = ({ startedAt, expectMs }: Hold) => Math.max(startedAt + expectMs - now(), OVERDUE_SHARE * expectMs);
  return {
    take(work) {
      const hold: Hold = { ...work, startedAt: now() };
      rendering.add(hold);
      held.add(hold);
      newest.set(work.residency, hold);
      return {
        node,
        release() {
          if (!rendering.delete(hold)) return;
          onRendered(work.residency);
          onFreed();
        },
        [Symbol.dispose]() {
          held.delete(hold);
          rendering.delete(hold);
          onFreed();
        },
      };
    },
    get running() {
      return rendering.size;
    },
    get held() {
      return held.size;
    },
    get free() {
      return Math.max(0, capacity - rendering.size);
    },
    remainingMs: () => (rendering.size < capacity ? 0 : Math.min(...[...rendering].map(left))),
    rendering: () => [...rendering].map((hold) => hold.residency),
    overdue(residency) {
      const hold = newest.get(residency);
      return hold !== undefined && now() - hold.startedAt > 2 * hold.expectMs;
    },
  };
}

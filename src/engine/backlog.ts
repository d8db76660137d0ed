// The backlog as the scheduler sees it: per lane a count and a small window of its oldest stubs; the rest stays in the
// store. Memory and the cost of a decision depend on lanes, never on how much waits.

import type { Generation } from '../domain/generation.ts';
import { isDue, type Lane, laneOf, parseLane, type QueuedStub } from '../domain/lane.ts';
import type { GenerationId, Millis } from '../domain/units.ts';
import type { Generations } from '../store/store.ts';

/** Stubs fetched at a time, and kept at most before a lane forgets its tail. */
const FETCH = 64;
const KEEP = 128;
/** Postponed stubs that are looked past in one lane; beyond them it waits for the first to come due. */
const LOOK_AHEAD = 1_024;

interface Waiting {
  readonly lane: Lane;
  queued: number;
  /** Oldest first. */
  window: QueuedStub[];
  /** The window holds everything there is. */
  whole: boolean;
  /** Something was added that the window does not hold. */
  missed: boolean;
  lastServedAt: Millis | null;
}

export interface Head {
  readonly lane: Lane;
  readonly head: QueuedStub;
  readonly queued: number;
  readonly lastServedAt: Millis | null;
}

export interface Backlog {
  load(): Promise<void>;
  added(g: Generation): void;
  /** It left the queue (started, cancelled, failed …). `served`: it was started. */
  removed(g: Generation, served: Millis | null): void;
  /** Forgets a stub whose generation turned out not to be queued. */
  drop(lane: Lane, id: GenerationId): void;
  /** Fetches windows that ran empty. Call before `heads`. */
  refill(now: Millis, claimed: ReadonlySet<GenerationId>): Promise<void>;
  /** The oldest due stub of each lane that is not being started already. */
  heads(now: Millis, claimed: ReadonlySet<GenerationId>): readonly Head[];
  /** The next moment a postponed stub becomes due; null when none is known. */
  nextDue(now: Millis): Millis | null;
  /** 1 for the next one of its lane; the lane's length when it is further back than the window reaches. */
  position(g: Generation): number | null;
  queued(): number;
}

const stubOf = (g: Generation): QueuedStub => ({
  id: g.id,
  createdAt: g.createdAt,
  notBefore: g.state.status === 'queued' ? g.state.notBefore : 0,
  startBy: g.startBy,
});

export function createBacklog(store: Pick<Generations, 'lanes' | 'window'>): Backlog {
  const lanes = new Map<string, Waiting>();
  let total = 0;

  const count = (lane: Waiting, by: number) => {
    lane.queued += by;
    total += by;
    if (lane.queued <= 0) lanes.delete(lane.lane.key);
  };

  /** Reads on behind the window. Whatever was added meanwhile may not be in the answer, so it is read again. */
  const fetch = async (waiting: Waiting) => {
    do {
      waiting.missed = false;
      const more = await store.window(waiting.lane.key, FETCH, waiting.window.at(-1)?.id);
      for (const stub of more) insertSorted(waiting.window, stub);
      waiting.whole = more.length < FETCH;
    } while (waiting.missed && waiting.whole);
  };

  return {
    async load() {
      for (const { lane, queued } of await store.lanes()) {
        const waiting: Waiting = {
          lane: parseLane(lane),
          queued: 0,
          window: [],
          whole: false,
          missed: false,
          lastServedAt: null,
        };
        lanes.set(lane, waiting);
        count(waiting, queued);
      }
    },
    added(g) {
      const lane = laneOf(g);
      let waiting = lanes.get(lane.key);
      if (waiting === undefined) {
        waiting = { lane, queued: 0, window: [], whole: true, missed: false, lastServedAt: null };
        lanes.set(lane.key, waiting);
      }
      count(waiting, 1);
      const last = waiting.window.at(-1);
      if (waiting.whole || (last !== undefined && g.id < last.id)) insertSorted(waiting.window, stubOf(g));
      else waiting.missed = true;
      if (waiting.window.length > KEEP) {
        waiting.window.length = FETCH;
        waiting.whole = false;
      }
    },
    removed(g, served) {
      const waiting = lanes.get(laneOf(g).key);
      if (waiting === undefined) return;
      const at = waiting.window.findIndex((s) => s.id === g.id);
      if (at >= 0) waiting.window.splice(at, 1);
      if (served !== null) waiting.lastServedAt = served;
      count(waiting, -1);
    },
    drop(lane, id) {
      const waiting = lanes.get(lane.key);
      if (waiting) waiting.window = waiting.window.filter((s) => s.id !== id);
    },
    async refill(now, claimed) {
      for (const waiting of lanes.values()) {
        const startable = () => waiting.window.some((s) => isDue(s, now) && !claimed.has(s.id));
        while (!waiting.whole && waiting.window.length < LOOK_AHEAD && !startable()) await fetch(waiting);
      }
    },
    heads(now, claimed) {
      const heads: Head[] = [];
      for (const { lane, window, queued, lastServedAt } of lanes.values()) {
        const head = window.find((s) => isDue(s, now) && !claimed.has(s.id));
        if (head !== undefined) heads.push({ lane, head, queued, lastServedAt });
      }
      return heads;
    },
    nextDue(now) {
      let next: Millis | null = null;
      for (const { window } of lanes.values()) {
        for (const { notBefore } of window)
          if (notBefore > now && (next === null || notBefore < next)) next = notBefore;
      }
      return next;
    },
    position(g) {
      const waiting = lanes.get(laneOf(g).key);
      if (waiting === undefined) return null;
      const at = waiting.window.findIndex((s) => s.id === g.id);
      return at >= 0 ? at + 1 : Math.max(1, waiting.queued);
    },
    queued: () => total,
  };
}

function insertSorted(window: QueuedStub[], stub: QueuedStub): void {
  let at = window.length;
  while (at > 0 && (window[at - 1] as QueuedStub).id > stub.id) at--;
  if (window[at - 1]?.id !== stub.id) window.splice(at, 0, stub);
}

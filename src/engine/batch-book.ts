// What the runner knows by heart of each batch that has not come to its end: its newest state, what of it is in work and
// how its last items ended. Kept in step by what the store commits; read anew from the store after a restart, which may
// show what is told only afterwards: so an end counts for what was known to be in work. Only a batch's own items count
// here: generations that were attached to it belong to others.

import { setImmediate as turn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { type Batch, type BatchId, clearing, holdOf, outcomeOf, type Tally } from '../domain/batch.ts';
import type { Outcome } from '../domain/breaker.ts';
import { type Generation, isFinal, isHeld, type Status } from '../domain/generation.ts';
import type { GenerationId, Millicredits, Millis } from '../domain/units.ts';
import type { Moved, Recorded, Store } from '../store/store.ts';
import type { Recorder } from './record.ts';

const PAGE = 100;
/** Ends that tell the pace: many times what ends together. */
const PACE = 200;

/** A batch that has not come to its end. */
export interface Work {
  batch: Batch;
  /** Own items handed over and not final, and what each has reserved. */
  inWork: Map<GenerationId, Millicredits>;
  charged: Millicredits;
  /** Of the breaker's window, oldest first. */
  outcomes: Outcome[];
  /** When its last items ended, behind the moment from which they are counted. */
  ends: Millis[];
  /** There may be items that were not handed over. */
  mayHold: boolean;
  /** Held items cost this or more. */
  least: Millicredits;
  /** Place of the first held item, as far as it is known. */
  next: number;
  /** One of its items, for estimates. */
  sample: Generation | null;
  /** The workspace's queue is full, or may be found so right now: whatever leaves it is news. */
  crowded: boolean;
  /** Something happened that it should be looked at for. */
  stirred: boolean;
  /** What it knows is complete. */
  loaded: boolean;
}

export interface Book {
  readonly works: ReadonlyMap<BatchId, Work>;
  /** Batches found open at start. */
  open(batches: readonly Batch[]): void;
  /** Reads what a former process left of it. */
  load(work: Work): Promise<void>;
  /** Looks at this batch again once this one, which is not its own, has ended. */
  await(work: Work, id: GenerationId): void;
}

/** `stir` is called when a batch wants to be looked at. */
export function createBook(store: Store, recorder: Pick<Recorder, 'onMove'>, stir: () => void): Book {
  const works = new Map<BatchId, Work>();
  const awaited = new Map<GenerationId, Set<Work>>();

  const stirred = (work: Work) => {
    work.stirred = true;
    stir();
  };

  const batchMoved = (batch: Batch, at: Millis) => {
    const known = works.get(batch.id);
    if (batch.finishedAt !== null) return void works.delete(batch.id);
    const work = known ?? newWork(batch);
    works.set(batch.id, work);
    if (holdOf(work.batch) !== holdOf(batch)) work.ends = [at];
    work.batch = batch;
    stirred(work);
  };

  const itemMoved = (work: Work, g: Generation) => {
    work.sample = g;
    if (isHeld(g)) held(work, g);
    else if (isFinal(g)) ended(work, g);
    else work.inWork.set(g.id, g.reserved);
    if (isHeld(g) || isFinal(g) || clearing(work.batch) !== null) stirred(work);
  };

  const moved = ({ generation: g, before, stored }: Moved) => {
    const own = g.batchId !== null && g.item !== null ? works.get(g.batchId) : undefined;
    if (own && stored.event.type !== 'submitted_to_node') itemMoved(own, g);
    if (isFinal(g)) {
      for (const work of awaited.get(g.id) ?? []) stirred(work);
      awaited.delete(g.id);
    }
    if (before?.state.status === 'queued' && !isHeld(before)) makeRoom(g.workspaceId);
  };
  const makeRoom = (workspaceId: string) => {
    for (const work of works.values()) if (work.crowded && work.batch.workspaceId === workspaceId) stirred(work);
  };

  recorder.onMove((recorded: readonly Recorded[]) => {
    for (const one of recorded) if (one.type === 'batch') batchMoved(one.batch, one.stored.event.at);
    for (const one of recorded) if (one.type === 'generation') moved(one);
  });

  async function* itemsIn(id: BatchId, statuses: readonly Status[]): AsyncIterable<Generation> {
    let cursor: string | undefined;
    do {
      const page = await store.batches.items(id, { statuses }, PAGE, cursor);
      for (const { generation: g } of page.data) if (g.batchId === id && g.item !== null) yield g;
      cursor = page.next ?? undefined;
      await turn();
    } while (cursor !== undefined);
  }

  const read = async (batch: Batch) => {
    const { id, rules } = batch;
    const fresh = workOf(batch);
    for await (const g of itemsIn(id, ['queued', 'running'])) {
      if (isHeld(g)) held(fresh, g);
      else fresh.inWork.set(g.id, g.reserved);
      fresh.sample ??= g;
    }
    if (rules !== null) for await (const g of itemsIn(id, ['succeeded', 'failed', 'timeout'])) remember(fresh, g);
    fresh.outcomes.sort((a, b) => a.at - b.at);
    return fresh;
  };

  return {
    works,
    open(batches) {
      for (const batch of batches) if (!works.has(batch.id)) works.set(batch.id, workOf(batch));
      if (batches.length > 0) stir();
    },
    async load(work) {
      for (let before: Tally | null = null; ; ) {
        const tally = await store.batches.tally(work.batch.id);
        if (isDeepStrictEqual(before, tally)) break;
        const { inWork, outcomes, mayHold, least, next, sample } = await read(work.batch);
        const ends = holdOf(work.batch) === null ? outcomes.slice(-PACE - 1).map((o) => o.at) : [];
        Object.assign(work, { inWork, charged: tally.charged, outcomes, ends, mayHold, least, next, sample });
        before = tally;
      }
      work.loaded = true;
    },
    await: (work, id) => void awaited.set(id, (awaited.get(id) ?? new Set()).add(work)),
  };
}

/** One just made. What of its items was told before it is not known, so there may be any. */
const newWork = (batch: Batch): Work => ({
  ...workOf(batch),
  mayHold: true,
  least: 0,
  next: 0,
  loaded: batch.seq === 1,
});

const workOf = (batch: Batch): Work => ({
  batch,
  inWork: new Map(),
  charged: 0,
  outcomes: [],
  ends: [batch.createdAt],
  mayHold: false,
  least: Number.POSITIVE_INFINITY,
  next: Number.POSITIVE_INFINITY,
  sample: null,
  crowded: false,
  stirred: true,
  loaded: false,
});

function held(work: Work, g: Generation): void {
  if (!work.mayHold && work.inWork.size === 0) work.ends = [g.createdAt];
  work.mayHold = true;
  work.least = Math.min(work.least, g.quote.reserve);
  work.next = Math.min(work.next, g.item ?? 0);
}

function ended(work: Work, g: Generation): void {
  if (!work.inWork.delete(g.id)) return;
  work.charged += g.charged;
  remember(work, g);
}

/** How it ended, as far as it counts; what has left the window is forgotten. */
function remember(work: Work, g: Generation): void {
  const outcome = outcomeOf(g);
  if (outcome === null) return;
  if (holdOf(work.batch) === null) work.ends = [...work.ends, outcome.at].slice(-PACE - 1);
  if (work.batch.rules === null) return;
  const from = outcome.at - work.batch.rules.windowMs;
  const gone = work.outcomes.findIndex((o) => o.at > from);
  if (gone > 0) work.outcomes.splice(0, gone);
  work.outcomes.push(outcome);
}

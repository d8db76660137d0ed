// A batch: a set of generations that is asked for, paid, watched and stopped as one. Its items are ordinary generations
// that it keeps back (`held`) until it hands them over; its counts are what those generations say, never stored twice.
// `applyBatch` is the only thing that moves it.

import { type Breaker, type BreakerRules, CLOSED, judge, type Outcome } from './breaker.ts';
import type { Generation, Status } from './generation.ts';
import type { Cursor, KeyId, Millicredits, Millis, WorkspaceId } from './units.ts';

/** `batch_` + ULID. */
export type BatchId = string;

export const BATCH_STATUSES = ['running', 'paused', 'halted', 'cancelled', 'finished'] as const;
export type BatchStatus = (typeof BATCH_STATUSES)[number];

/** What is fixed when it is made. */
export interface BatchAsked {
  readonly id: BatchId;
  readonly workspaceId: WorkspaceId;
  readonly keyId: KeyId;
  readonly createdAt: Millis;
  readonly name: string | null;
  /** Items handed over and not final, at most. */
  readonly concurrency: number;
  /** charged + reserved never crosses it. */
  readonly maxCredits: Millicredits | null;
  /** Null: no breaker. */
  readonly rules: BreakerRules | null;
  /** For items that do not say. */
  readonly fallback: 'none' | 'model' | null;
  readonly metadata: Readonly<Record<string, string | number | boolean>>;
}

export interface Batch extends BatchAsked {
  /** Number of events applied so far. Starts at 1 (`running`). */
  readonly seq: number;
  readonly status: BatchStatus;
  /** Items, attached ones included. */
  readonly total: number;
  /** What all items cost if each succeeds; attached and refused ones cost nothing. */
  readonly projected: Millicredits;
  readonly breaker: Breaker;
  /** When its last item had ended; null until then, also while a cancelled or halted one still settles. */
  readonly finishedAt: Millis | null;
}

/** How its items stand. `held` ones are queued to the outside. */
export interface Tally {
  readonly held: number;
  readonly counts: Readonly<Record<Status, number>>;
  /** Of those queued or running, the attached ones: they belong to others, who work them off. */
  readonly others: number;
  readonly charged: Millicredits;
  readonly reserved: Millicredits;
}

export const NO_TALLY: Tally = {
  held: 0,
  counts: { queued: 0, running: 0, succeeded: 0, failed: 0, timeout: 0, cancelled: 0 },
  others: 0,
  charged: 0,
  reserved: 0,
};

export type BatchEvent =
  /** It was made, or a person resumed it. */
  | { readonly type: 'running'; readonly at: Millis }
  | { readonly type: 'paused'; readonly at: Millis }
  /** Too many failures; what is not running is to be cancelled. */
  | { readonly type: 'halted'; readonly at: Millis; readonly breaker: Breaker }
  | { readonly type: 'cancelled'; readonly at: Millis }
  /** Every item has ended by itself. */
  | { readonly type: 'finished'; readonly at: Millis }
  /** A cancelled or halted one whose last item has ended. */
  | { readonly type: 'settled'; readonly at: Millis }
  /** The breaker tripped, closed again or counted a healthy stretch. */
  | { readonly type: 'breaker'; readonly at: Millis; readonly breaker: Breaker }
  | { readonly type: 'extended'; readonly at: Millis; readonly items: number; readonly projected: Millicredits }
  /** Failed items were put back; a batch that a person paused stays paused. `projected`: what that adds to the projection (items refused at first, other prices). */
  | { readonly type: 'retried'; readonly at: Millis; readonly projected?: Millicredits };

export type BatchEventType = BatchEvent['type'];

export const BATCH_ACCEPTS: Readonly<Record<BatchStatus, readonly BatchEventType[]>> = {
  running: ['paused', 'halted', 'cancelled', 'finished', 'breaker', 'extended', 'retried'],
  paused: ['running', 'halted', 'cancelled', 'finished', 'breaker', 'extended', 'retried'],
  halted: ['settled', 'retried', 'cancelled'],
  cancelled: ['settled'],
  finished: ['retried'],
};

/** The public name of what an event did: `batch.` + this. Null: not announced. */
export const BATCH_ANNOUNCED = {
  running: 'running',
  paused: 'paused',
  halted: 'halted',
  cancelled: 'cancelled',
  finished: 'finished',
  settled: null,
  breaker: null,
  extended: null,
  retried: 'running',
} as const satisfies Record<BatchEventType, string | null>;

/** A batch event as stored: in the same log as the events of generations, with the batch as it was right after. */
export interface StoredBatchEvent {
  readonly cursor: Cursor;
  readonly workspaceId: WorkspaceId;
  readonly batchId: BatchId;
  readonly seq: number;
  readonly event: BatchEvent;
  readonly batch: Batch;
  readonly tally: Tally;
}

export const batchAccepts = (b: Pick<Batch, 'status' | 'finishedAt'>, type: BatchEventType): boolean =>
  BATCH_ACCEPTS[b.status].includes(type) && (type !== 'settled' || b.finishedAt === null);

/** Applies an event. Throws (our own bug) when BATCH_ACCEPTS forbids it. */
export function applyBatch(b: Batch, event: BatchEvent): Batch {
  if (!batchAccepts(b, event.type)) throw new Error(`${event.type} cannot follow ${b.status}`);
  const next = { ...b, seq: b.seq + 1 };
  switch (event.type) {
    case 'running':
    case 'paused':
    case 'cancelled':
      return { ...next, status: event.type };
    case 'finished':
      return { ...next, status: 'finished', finishedAt: event.at };
    case 'halted':
      return { ...next, status: 'halted', breaker: event.breaker };
    case 'settled':
      return { ...next, finishedAt: event.at };
    case 'breaker':
      return { ...next, breaker: event.breaker };
    case 'extended':
      return { ...next, total: b.total + event.items, projected: b.projected + event.projected };
    case 'retried':
      return {
        ...next,
        status: b.status === 'paused' ? 'paused' : 'running',
        finishedAt: null,
        projected: b.projected + (event.projected ?? 0),
        breaker: { ...CLOSED, since: event.at },
      };
  }
}

/** Why its items are neither handed over nor started; null: they may be. */
export function holdOf(b: Pick<Batch, 'status' | 'breaker'>): 'paused' | 'breaker_open' | null {
  if (b.status !== 'running') return 'paused';
  return b.breaker.state === 'closed' ? null : 'breaker_open';
}

/** What it is to be cleared of by now: of all its items, of those that do not run, or of nothing. */
export function clearing(b: Pick<Batch, 'status'>): 'all' | 'waiting' | null {
  return b.status === 'cancelled' ? 'all' : b.status === 'halted' ? 'waiting' : null;
}

/**
 * The event that ends it now; null: something of it has not ended, or an empty one waits for items. One that is cleared
 * waits for its own items only: those of others it neither stops nor needs.
 */
export function endOf(b: Batch, { counts, others }: Tally): 'finished' | 'settled' | null {
  const open = counts.queued + counts.running;
  if (b.finishedAt !== null) return null;
  if (clearing(b) !== null) return open > others ? null : 'settled';
  return open > 0 || b.total === 0 ? null : 'finished';
}

/** What its cap leaves to be set aside; null: it has none. */
export const roomUnder = (b: Batch, charged: Millicredits, reserved: Millicredits): Millicredits | null =>
  b.maxCredits === null ? null : Math.max(0, b.maxCredits - charged - reserved);

/** Held until it ended: it was `submitted`, and then it was over. */
const NEVER_ADMITTED = 2;

/** How an item's end counts for the breaker. Cancelled ones are no outcome, and what was never handed over proves nothing about what runs. */
export function outcomeOf({ seq, state }: Pick<Generation, 'seq' | 'state'>): Outcome | null {
  if (!('finishedAt' in state) || state.status === 'cancelled' || seq <= NEVER_ADMITTED) return null;
  return { at: state.finishedAt, bad: state.status !== 'succeeded' };
}

/** What its breaker does now; null: nothing. */
export function judged(b: Batch, outcomes: readonly Outcome[], now: Millis): BatchEvent | null {
  if (b.rules === null || (b.status !== 'running' && b.status !== 'paused')) return null;
  const breaker = judge(b.breaker, b.rules, outcomes, now);
  if (breaker === b.breaker) return null;
  return { type: breaker.state === 'halted' ? 'halted' : 'breaker', at: now, breaker };
}

/** Is this generation an item of that batch? If not, it is only attached there, and belongs to others. */
export const isOwn = ({ batchId, item }: Pick<Generation, 'batchId' | 'item'>, of: BatchId): boolean =>
  batchId === of && item !== null;

/**
 * Does `retry_failed` of this batch take it? What a person, a cap or missing credits ended stays ended, except where that
 * was somebody else's doing to an attached one.
 */
export function mayRetry(g: Pick<Generation, 'state' | 'batchId' | 'item'>, of: BatchId): boolean {
  if (!('failure' in g.state)) return false;
  return g.state.status !== 'cancelled' || g.state.failure.code === 'batch_halted' || !isOwn(g, of);
}

/** An item of a batch: the generation that stands for it now. */
export interface Item<G> {
  readonly index: number;
  readonly key: string;
  readonly generation: G;
}

/** Items without a key of their own are known by their place. */
export const itemKey = (batchId: BatchId, index: number, key: string | null): string => key ?? `${batchId}/${index}`;

export interface Reconciliation {
  readonly projected: Millicredits;
  readonly charged: Millicredits;
  /** Signed; charged against projected. */
  readonly deltaPercent: number;
  readonly flagged: boolean;
}

/** Beyond it somebody should look. */
const FLAG_PERCENT = 5;

/** Signed difference of what was charged from what was projected; 0 where nothing was projected or charged. */
export function reconcile(projected: Millicredits, charged: Millicredits): Reconciliation {
  const delta = projected === 0 ? (charged === 0 ? 0 : 100) : ((charged - projected) / projected) * 100;
  const deltaPercent = Math.round(delta * 100) / 100;
  return { projected, charged, deltaPercent, flagged: Math.abs(delta) > FLAG_PERCENT };
}

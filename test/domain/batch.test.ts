import { describe, expect, it } from 'vitest';
import {
  applyBatch,
  BATCH_ACCEPTS,
  BATCH_STATUSES,
  type Batch,
  type BatchEvent,
  batchAccepts,
  clearing,
  endOf,
  holdOf,
  judged,
  mayRetry,
  NO_TALLY,
  outcomeOf,
  reconcile,
  roomUnder,
  type Tally,
} from '../../src/domain/batch.ts';
import { CLOSED, DEFAULT_BREAKER } from '../../src/domain/breaker.ts';
import { failure } from '../../src/domain/failure.ts';
import type { Status } from '../../src/domain/generation.ts';
import { generation, moved, output, started } from './given.ts';

const batch = (over: Partial<Batch> = {}): Batch => ({
  id: 'batch_1',
  workspaceId: 'studio',
  keyId: 'key_1',
  createdAt: 1,
  name: null,
  concurrency: 50,
  maxCredits: null,
  rules: DEFAULT_BREAKER,
  fallback: null,
  metadata: {},
  seq: 1,
  status: 'running',
  total: 3,
  projected: 9000,
  breaker: CLOSED,
  finishedAt: null,
  ...over,
});
const tally = (counts: Partial<Record<Status, number>>): Tally => ({
  ...NO_TALLY,
  counts: { ...NO_TALLY.counts, ...counts },
});
const open = { ...CLOSED, state: 'paused', trips: 1, resumesAt: 99 } as const;
const EVENTS: readonly BatchEvent[] = [
  { type: 'running', at: 5 },
  { type: 'paused', at: 5 },
  { type: 'halted', at: 5, breaker: { ...CLOSED, state: 'halted' } },
  { type: 'cancelled', at: 5 },
  { type: 'finished', at: 5 },
  { type: 'settled', at: 5 },
  { type: 'breaker', at: 5, breaker: open },
  { type: 'extended', at: 5, items: 2, projected: 100 },
  { type: 'retried', at: 5 },
];

describe('every event in every status of a batch', () => {
  for (const status of BATCH_STATUSES) {
    for (const event of EVENTS) {
      const allowed = BATCH_ACCEPTS[status].includes(event.type);
      it(`${status} ${allowed ? 'takes' : 'refuses'} ${event.type}`, () => {
        if (allowed) expect(applyBatch(batch({ status }), event).seq).toBe(2);
        else expect(() => applyBatch(batch({ status }), event)).toThrow(/cannot follow/);
      });
    }
  }
  it('settles once', () => expect(batchAccepts(batch({ status: 'cancelled', finishedAt: 5 }), 'settled')).toBe(false));
  it('counts what is appended, and begins anew with a retry', () => {
    expect(applyBatch(batch(), { type: 'extended', at: 5, items: 2, projected: 100 })).toMatchObject({
      total: 5,
      projected: 9100,
    });
    const again = applyBatch(batch({ status: 'finished', finishedAt: 4, breaker: open }), { type: 'retried', at: 5 });
    expect(again).toMatchObject({
      status: 'running',
      finishedAt: null,
      breaker: { state: 'closed', trips: 0, since: 5 },
    });
    expect(applyBatch(batch({ status: 'paused' }), { type: 'retried', at: 5 }).status).toBe('paused');
  });
});

describe('what holds the items of a batch back', () => {
  it('is a person first, then its breaker', () => {
    expect(holdOf(batch())).toBeNull();
    expect(holdOf(batch({ breaker: open }))).toBe('breaker_open');
    expect(holdOf(batch({ status: 'paused', breaker: open }))).toBe('paused');
    expect(holdOf(batch({ status: 'cancelled' }))).toBe('paused');
  });
  it('is cleared away when it is cancelled or halted', () => {
    expect(BATCH_STATUSES.map((status) => clearing({ status }))).toEqual([null, null, 'waiting', 'all', null]);
  });
});

describe('the end of a batch', () => {
  it('comes when nothing of it is queued or runs', () => {
    expect(endOf(batch(), tally({ queued: 1, succeeded: 2 }))).toBeNull();
    expect(endOf(batch(), tally({ running: 1, succeeded: 2 }))).toBeNull();
    expect(endOf(batch(), tally({ succeeded: 3 }))).toBe('finished');
    expect(endOf(batch({ status: 'paused' }), tally({ failed: 3 }))).toBe('finished');
  });
  it('is called settled where it did not end by itself, and comes once', () => {
    for (const status of ['cancelled', 'halted'] as const) {
      expect(endOf(batch({ status }), tally({ cancelled: 3 }))).toBe('settled');
      expect(endOf(batch({ status, finishedAt: 5 }), tally({ cancelled: 3 }))).toBeNull();
    }
  });
  it('waits for what belongs to others, unless it is cleared', () => {
    const theirs = { ...tally({ running: 1, queued: 1, cancelled: 3 }), others: 2 };
    expect(endOf(batch(), theirs)).toBeNull();
    for (const status of ['cancelled', 'halted'] as const) {
      expect(endOf(batch({ status }), theirs)).toBe('settled');
      expect(endOf(batch({ status }), { ...theirs, others: 1 })).toBeNull();
    }
  });
  it('does not come to an empty one by itself', () => {
    expect(endOf(batch({ total: 0 }), NO_TALLY)).toBeNull();
    expect(endOf(batch({ total: 0, status: 'cancelled' }), NO_TALLY)).toBe('settled');
  });
});

describe('an item that ended', () => {
  const admitted = moved(
    generation({ reserved: 0, state: { status: 'queued', attempt: 1, notBefore: 0, held: true } }),
    { type: 'admitted', at: 2 },
  );
  const why = failure('model_error', 'x');
  it('is good or bad for the breaker, and nothing when it was cancelled', () => {
    const ran = started(admitted);
    expect(outcomeOf(ran)).toBeNull();
    expect(outcomeOf(moved(ran, { type: 'succeeded', at: 9, outputs: [output()], nodeMs: 1 }))).toEqual({
      at: 9,
      bad: false,
    });
    expect(outcomeOf(moved(ran, { type: 'failed', at: 9, failure: why }))).toEqual({ at: 9, bad: true });
    expect(outcomeOf(moved(ran, { type: 'timed_out', at: 9, failure: why }))).toEqual({ at: 9, bad: true });
    expect(outcomeOf(moved(ran, { type: 'cancelled', at: 9, failure: why }))).toBeNull();
    expect(outcomeOf(moved(admitted, { type: 'failed', at: 9, failure: why }))).toEqual({ at: 9, bad: true });
  });
  it('says nothing of what runs when it was refused at acceptance', () => {
    const held = generation({ state: { status: 'queued', attempt: 1, notBefore: 0, held: true } });
    expect(outcomeOf(moved(held, { type: 'failed', at: 9, failure: why }))).toBeNull();
  });
  it('may be retried when it failed, timed out or was halted, and not when somebody stopped it', () => {
    const own = { ...admitted, batchId: 'batch_1', item: 0 };
    const cancelled = (code: Parameters<typeof failure>[0], g = own) =>
      mayRetry(moved(g, { type: 'cancelled', at: 9, failure: failure(code, 'x') }), 'batch_1');
    expect(mayRetry(moved(own, { type: 'failed', at: 9, failure: why }), 'batch_1')).toBe(true);
    expect(mayRetry(moved(own, { type: 'timed_out', at: 9, failure: why }), 'batch_1')).toBe(true);
    expect(cancelled('batch_halted')).toBe(true);
    for (const code of ['cancelled_by_caller', 'budget_exceeded', 'insufficient_credits'] as const)
      expect(cancelled(code)).toBe(false);
    expect(mayRetry(own, 'batch_1')).toBe(false);
    expect(cancelled('cancelled_by_caller', { ...own, batchId: 'batch_2' }), 'by others').toBe(true);
  });
});

describe('the cap', () => {
  it('leaves what is neither charged nor reserved, and never less than nothing', () => {
    expect(roomUnder(batch(), 5, 5)).toBeNull();
    expect(roomUnder(batch({ maxCredits: 10 }), 4, 5)).toBe(1);
    expect(roomUnder(batch({ maxCredits: 10 }), 8, 5)).toBe(0);
  });
});

describe('judging a batch', () => {
  const bad = Array.from({ length: 20 }, () => ({ at: 100, bad: true }));
  it('pauses, halts and closes again', () => {
    expect(judged(batch(), bad, 100)).toMatchObject({
      type: 'breaker',
      breaker: { state: 'paused', resumesAt: 60_100 },
    });
    expect(judged(batch({ breaker: { ...CLOSED, trips: 1 } }), bad, 100)).toMatchObject({ type: 'halted' });
    expect(judged(batch({ breaker: open }), bad, 100)).toMatchObject({ type: 'breaker', breaker: { state: 'closed' } });
    expect(judged(batch(), [], 100)).toBeNull();
  });
  it('leaves alone what has no breaker or has ended', () => {
    expect(judged(batch({ rules: null }), bad, 100)).toBeNull();
    expect(judged(batch({ status: 'cancelled' }), bad, 100)).toBeNull();
    expect(judged(batch({ status: 'paused' }), bad, 100)).not.toBeNull();
  });
});

describe('reconciliation', () => {
  it('is signed, and flagged beyond five percent', () => {
    expect(reconcile(1000, 950)).toMatchObject({ deltaPercent: -5, flagged: false });
    expect(reconcile(1000, 940)).toMatchObject({ deltaPercent: -6, flagged: true });
    expect(reconcile(1000, 1051)).toMatchObject({ deltaPercent: 5.1, flagged: true });
    expect(reconcile(0, 0)).toMatchObject({ deltaPercent: 0, flagged: false });
  });
});

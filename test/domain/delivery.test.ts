import { describe, expect, it, test } from 'vitest';
import {
  afterTry,
  type DeliveryAttempt,
  deliveriesFor,
  HOOK_EVENTS,
  isOverdue,
  liveSecrets,
  nextTry,
  ROTATION_MS,
  rotated,
  type Webhook,
} from '../../src/domain/delivery.ts';
import { failure } from '../../src/domain/failure.ts';
import { generation, output } from './given.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

describe('the schedule of tries', () => {
  it('begins with 2 to 5 seconds and grows threefold with jitter, to an hour at most', () => {
    const waits = (chance: number) => [1, 2, 3, 4, 5, 6, 7, 8, 9].map((failures) => nextTry(0, failures, 0, chance));
    expect(waits(0)).toEqual([2_000, 8_925, 26_775, 80_325, 240_975, 722_925, 2_168_775, HOUR, HOUR]);
    expect(waits(1)).toEqual([5_000, 12_075, 36_225, 108_675, 326_025, 978_075, 2_934_225, HOUR, HOUR]);
  });

  it('ends when the next try would fall behind a day', () => {
    expect(nextTry(0, 20, DAY - HOUR, 0.5)).toBe(DAY);
    expect(nextTry(0, 20, DAY - HOUR + 1, 0.5)).toBeNull();
    expect([isOverdue({ since: 0 }, DAY), isOverdue({ since: 0 }, DAY + 1)]).toEqual([false, true]);
  });
});

const attempt = (statusCode: number | null, at = 0): DeliveryAttempt => ({ at, statusCode, error: null, ms: 5 });
const tried = (statusCode: number | null, more: { retryAfterMs?: number; othersArrive?: boolean } = {}) => ({
  attempt: attempt(statusCode),
  retryAfterMs: null,
  othersArrive: false,
  ...more,
});
const fresh = { since: 0, attempts: [] };
const failedBefore = (times: number) => ({ since: 0, attempts: Array.from({ length: times }, () => attempt(500)) });

describe('after a try', () => {
  test.each([200, 201, 204, 299])('%s is delivered', (status) => {
    expect(afterTry(fresh, tried(status), 0, 0)).toEqual({ state: 'delivered', nextAttemptAt: null });
  });

  test.each([null, 199, 302, 304, 400, 404, 409, 429, 500, 503])('%s is tried again', (status) => {
    expect(afterTry(fresh, tried(status), 0, 0)).toEqual({ state: 'pending', nextAttemptAt: 2_000 });
  });

  it('410 is an answer like any other that is not 2xx', () => {
    expect(afterTry(fresh, tried(410), 0, 0)).toMatchObject({ state: 'pending' });
  });

  it('waits as long as it is asked to, an hour at most, and never shorter than planned', () => {
    const at = (retryAfterMs: number) => afterTry(fresh, tried(429, { retryAfterMs }), 0, 0).nextAttemptAt;
    expect([at(60_000), at(1_000), at(9 * HOUR)]).toEqual([60_000, 2_000, HOUR]);
  });

  it('is dead when what it is asked to wait reaches beyond its day', () => {
    const asked = tried(503, { retryAfterMs: HOUR });
    expect(afterTry(fresh, asked, DAY - HOUR, 0).state).toBe('pending');
    expect(afterTry(fresh, asked, DAY - HOUR + 1, 0)).toEqual({ state: 'dead', nextAttemptAt: null });
  });

  it('waits no longer than five minutes where others arrive', () => {
    const at = (othersArrive: boolean) => afterTry(failedBefore(9), tried(500, { othersArrive }), 0, 0.5).nextAttemptAt;
    expect([at(false), at(true)]).toEqual([HOUR, 300_000]);
  });

  it('counts only the tries since it was last redelivered', () => {
    const redelivered = { ...failedBefore(9), since: 10_000 };
    expect(afterTry(redelivered, tried(500), 10_500, 0).nextAttemptAt).toBe(12_500);
  });
});

describe('secrets', () => {
  it('sign on for a day after they were replaced, newest first', () => {
    const one = rotated([], 'whsec_1', 0);
    const two = rotated(one, 'whsec_2', 1_000);
    const three = rotated(two, 'whsec_3', 2_000);
    const live = (now: number) => liveSecrets(three, now).map((s) => s.key);
    expect(live(2_000)).toEqual(['whsec_3', 'whsec_2', 'whsec_1']);
    expect(live(1_000 + ROTATION_MS)).toEqual(['whsec_3', 'whsec_2']);
    expect(live(2_000 + ROTATION_MS)).toEqual(['whsec_3']);
  });

  it('are forgotten by the next rotation once they are over, and never more than ten', () => {
    const two = rotated(rotated([], 'whsec_1', 0), 'whsec_2', 0);
    expect(rotated(two, 'whsec_3', ROTATION_MS).map((s) => s.key)).toEqual(['whsec_3', 'whsec_2']);
    let many = rotated([], 'whsec_0', 0);
    for (let i = 1; i < 30; i++) many = rotated(many, `whsec_${i}`, i);
    expect(many.map((s) => s.key)).toEqual(Array.from({ length: 10 }, (_, i) => `whsec_${29 - i}`));
  });
});

describe('what follows from a generation that moved', () => {
  const hook = (over: Partial<Webhook>): Webhook => ({
    id: 'wh_1',
    workspaceId: 'studio',
    url: 'https://a.example/hook',
    events: HOOK_EVENTS,
    description: null,
    secrets: [],
    createdAt: 0,
    ...over,
  });
  const done = generation({ state: { status: 'succeeded', outputs: [output()], finishedAt: 5 } });

  it('is one delivery for each of its hooks that wants the event, and one for its own URL', () => {
    const failed = { status: 'failed', failure: failure('model_error', 'no'), finishedAt: 5 } as const;
    const g = generation({ webhookUrl: 'https://b.example/mine', state: failed });
    const hooks = [
      hook({}),
      hook({ id: 'wh_2', events: ['generation.succeeded', 'batch.finished'] }),
      hook({ id: 'wh_3', workspaceId: 'another' }),
    ];
    expect(deliveriesFor(g, hooks).map((d) => [d.webhookId, d.url, d.event])).toEqual([
      ['wh_1', 'https://a.example/hook', 'generation.failed'],
      [null, 'https://b.example/mine', 'generation.failed'],
    ]);
  });

  it('is nothing while it is not final', () => {
    expect(deliveriesFor(generation(), [hook({})])).toEqual([]);
    expect(deliveriesFor(done, [hook({})])).toHaveLength(1);
  });
});

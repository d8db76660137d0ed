import { describe, expect, it } from 'vitest';
import { type Breaker, CLOSED, DEFAULT_BREAKER, judge, type Outcome, reset } from '../../src/domain/breaker.ts';

const NOW = 10_000_000;
/** `good` and `bad` ones that ended at `at`. */
const ended = (good: number, bad: number, at = NOW): Outcome[] =>
  Array.from({ length: good + bad }, (_, i) => ({ at, bad: i >= good }));
const rules = DEFAULT_BREAKER;
const tripped: Breaker = { state: 'paused', trips: 1, resumesAt: NOW + 60_000, since: NOW };

describe('a closed breaker', () => {
  it('does not move while fewer than min_finished have ended', () => {
    expect(judge(CLOSED, rules, ended(0, 19), NOW)).toBe(CLOSED);
    expect(judge(CLOSED, rules, ended(0, 20), NOW).state).toBe('paused');
    expect(judge(CLOSED, { ...rules, minFinished: 3 }, ended(0, 3), NOW).state).toBe('paused');
  });
  it('trips above the threshold, not at it', () => {
    expect(judge(CLOSED, rules, ended(18, 2), NOW)).toBe(CLOSED);
    expect(judge(CLOSED, rules, ended(17, 3), NOW).state).toBe('paused');
    expect(judge(CLOSED, { ...rules, threshold: 0.5 }, ended(10, 10), NOW)).toBe(CLOSED);
    expect(judge(CLOSED, { ...rules, threshold: 0 }, ended(19, 1), NOW).state).toBe('paused');
    expect(judge(CLOSED, { ...rules, threshold: 1 }, ended(0, 20), NOW)).toBe(CLOSED);
  });
  it('looks no further back than its window', () => {
    expect(judge(CLOSED, rules, ended(0, 20, NOW - 60_000), NOW)).toBe(CLOSED);
    expect(judge(CLOSED, rules, ended(0, 20, NOW - 59_999), NOW).state).toBe('paused');
    expect(judge(CLOSED, { ...rules, windowMs: 1000 }, ended(0, 20, NOW - 1000), NOW)).toBe(CLOSED);
  });
  it('pauses for the cooldown and empties the window', () => {
    expect(judge(CLOSED, { ...rules, cooldownMs: 7000 }, ended(0, 20), NOW)).toEqual({
      state: 'paused',
      trips: 1,
      resumesAt: NOW + 7000,
      since: NOW,
    });
    const again = judge({ ...CLOSED, trips: 1, since: NOW }, rules, ended(0, 20), NOW + 1);
    expect(again).toMatchObject({ state: 'closed', trips: 1 });
  });
  it('halts at the consecutive trip the rules name', () => {
    const once = { ...CLOSED, trips: 1 };
    expect(judge(once, rules, ended(0, 20), NOW)).toMatchObject({ state: 'halted', trips: 2, resumesAt: null });
    expect(judge(CLOSED, { ...rules, trips: 1 }, ended(0, 20), NOW).state).toBe('halted');
    expect(judge(once, { ...rules, trips: 3 }, ended(0, 20), NOW)).toMatchObject({ state: 'paused', trips: 2 });
  });
  it('forgets its trips after a healthy window', () => {
    const once = { ...CLOSED, trips: 1 };
    expect(judge(once, rules, ended(19, 0), NOW)).toBe(once);
    expect(judge(once, rules, ended(18, 2), NOW)).toEqual({ ...once, trips: 0 });
  });
});

describe('a paused breaker', () => {
  it('stays so whatever ends meanwhile, and closes with an empty window when its time has come', () => {
    expect(judge(tripped, rules, ended(0, 50), NOW + 59_999)).toBe(tripped);
    const closed = judge(tripped, rules, ended(0, 50), NOW + 60_000);
    expect(closed).toEqual({ state: 'closed', trips: 1, resumesAt: null, since: NOW + 60_000 });
    expect(judge(closed, rules, ended(0, 50), NOW + 60_001)).toBe(closed);
  });
  it('is closed by a person at once, and keeps its trips', () => {
    expect(reset(tripped, NOW + 5)).toEqual({ state: 'closed', trips: 1, resumesAt: null, since: NOW + 5 });
  });
});

describe('a halted breaker', () => {
  it('stays halted', () => {
    const halted: Breaker = { state: 'halted', trips: 2, resumesAt: null, since: NOW };
    expect(judge(halted, rules, ended(100, 0), NOW + 1e9)).toBe(halted);
  });
});

describe('a clock set back an hour', () => {
  const before = NOW - 3_600_000;
  it('does not prolong a pause', () => expect(judge(tripped, rules, [], before).state).toBe('closed'));
  it('does not blind it', () => {
    const since = { ...CLOSED, since: NOW };
    expect(judge(since, rules, ended(0, 20, before), before).state).toBe('paused');
  });
});

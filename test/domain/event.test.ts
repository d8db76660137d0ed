import { describe, expect, it } from 'vitest';
import { ACCEPTS, apply, entriesFor } from '../../src/domain/event.ts';
import { failure } from '../../src/domain/failure.ts';
import { STATUSES } from '../../src/domain/generation.ts';
import { EVENTS, generation, moved, output, started } from './given.ts';

const inStatus = {
  queued: generation(),
  running: started(),
  succeeded: moved(started(), { type: 'succeeded', at: 9, outputs: [output()], nodeMs: 1 }),
  failed: moved(generation(), { type: 'failed', at: 9, failure: failure('internal', 'x') }),
  timeout: moved(generation(), { type: 'timed_out', at: 9, failure: failure('start_timeout', 'x') }),
  cancelled: moved(generation(), { type: 'cancelled', at: 9, failure: failure('cancelled_by_caller', 'x') }),
};

describe('every event in every status', () => {
  for (const status of STATUSES) {
    for (const event of EVENTS) {
      const allowed = ACCEPTS[status].includes(event.type);
      it(`${status} ${allowed ? 'takes' : 'refuses'} ${event.type}`, () => {
        const g = inStatus[status];
        if (allowed) expect(apply(g, event).seq).toBe(g.seq + 1);
        else expect(() => apply(g, event)).toThrow(/cannot follow/);
      });
    }
  }
  it('leaves final states no way out', () => {
    for (const status of ['succeeded', 'failed', 'timeout', 'cancelled'] as const) expect(ACCEPTS[status]).toEqual([]);
  });
});

describe('a retry', () => {
  const lost = {
    type: 'requeued',
    at: 5,
    notBefore: 50,
    failure: failure('node_lost', 'gone'),
    avoid: 'rack-1',
    giveBack: false,
  } as const;
  it('counts the attempt, closes it with its code and avoids the node', () => {
    const g = apply(started(), lost);
    expect(g.state).toEqual({ status: 'queued', attempt: 2, notBefore: 50, lastFailure: lost.failure });
    expect(g.attempts).toMatchObject([{ n: 1, node: 'rack-1', finishedAt: 5, outcome: 'node_lost' }]);
    expect(g.avoid).toEqual(['rack-1']);
  });
  it('gives the attempt number back on shutdown', () => {
    const stopped = failure('shutting_down', 'stopped');
    const g = apply(started(), { ...lost, failure: stopped, giveBack: true, avoid: null });
    expect(g.state).toMatchObject({ attempt: 1 });
    expect(g.attempts[0]?.outcome).toBe('handed_over');
    expect(g.avoid).toEqual([]);
  });
  it('continues with the softened prompt and the same seed', () => {
    const g = apply(started(generation({ softenedPrompt: 'a calm lighthouse' })), { ...lost, soften: true });
    expect(g.params).toMatchObject({ prompt: 'a calm lighthouse', seed: 7 });
    expect(g.softened).toBe(true);
  });
});

describe('the ledger', () => {
  const g = started(generation({ quote: { perOutput: 2500, perNodeSecond: 0, reserve: 5000 }, reserved: 5000 }));
  it('reserves on insert', () => expect(entriesFor(null, g)).toEqual([{ kind: 'reserve', amount: 5000 }]));
  it('charges what was delivered and releases the rest', () => {
    const done = apply(g, { type: 'succeeded', at: 9, outputs: [output()], nodeMs: 1 });
    expect(entriesFor(g, done)).toEqual([
      { kind: 'charge', amount: 2500 },
      { kind: 'release', amount: 2500 },
    ]);
  });
  it('releases everything on any other end', () => {
    for (const event of EVENTS.filter((e) => ['failed', 'timed_out', 'cancelled'].includes(e.type))) {
      expect(entriesFor(g, apply(g, event))).toEqual([{ kind: 'release', amount: 5000 }]);
    }
  });
  it('moves nothing while it is retried', () => {
    expect(entriesFor(g, apply(g, EVENTS[3] as (typeof EVENTS)[number]))).toEqual([]);
  });
});

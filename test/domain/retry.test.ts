import { describe, expect, it } from 'vitest';
import { adviceFor, FAILURE_CODES, type FailureCode, failure } from '../../src/domain/failure.ts';
import { backoff, MAX_ATTEMPTS, settle } from '../../src/domain/retry.ts';
import { generation, moved, started } from './given.ts';

const around = {
  now: 100,
  place: 'rack-1',
  known: false,
  refusedElsewhere: false,
  elsewhere: 'now' as 'now' | 'later' | 'no',
  refused: false,
  chance: 0.5,
};
const outcome = (code: FailureCode, over: Partial<typeof around> = {}, g = started()) =>
  settle(g, failure(code, 'why'), { ...around, ...over });

describe('settling a failed attempt', () => {
  const requeues: readonly FailureCode[] = ['node_lost', 'out_of_memory', 'rate_limited', 'shutting_down', 'internal'];
  const cancels: readonly FailureCode[] = [
    'cancelled_by_caller',
    'cancelled_by_admin',
    'batch_halted',
    'insufficient_credits',
    'budget_exceeded',
  ];
  const times: readonly FailureCode[] = ['run_timeout', 'start_timeout'];
  for (const code of FAILURE_CODES) {
    const type = requeues.includes(code)
      ? 'requeued'
      : cancels.includes(code)
        ? 'cancelled'
        : times.includes(code)
          ? 'timed_out'
          : 'failed';
    it(`${code} → ${type}`, () => expect(outcome(code).type).toBe(type));
  }

  it('goes elsewhere at once, and waits when there is nowhere else', () => {
    expect(outcome('node_lost')).toMatchObject({ notBefore: 0, avoid: 'rack-1' });
    expect(outcome('node_lost', { elsewhere: 'no' })).toMatchObject({ notBefore: 100 + backoff(1, 0.5) });
  });
  it('gives up after three attempts', () => {
    let g = started();
    for (let n = 1; n < MAX_ATTEMPTS; n++) g = started(moved(g, outcome('node_lost', {}, g)));
    expect(outcome('node_lost', {}, g)).toMatchObject({ type: 'failed', failure: { code: 'node_lost' } });
  });
  it('never counts a shutdown', () => {
    let g = started();
    for (let n = 0; n < 10; n++) g = started(moved(g, outcome('shutting_down', {}, g)));
    expect(g.state).toMatchObject({ attempt: 1 });
  });
  it('takes a refused job to another node, or fails with the reason when there is none', () => {
    expect(outcome('model_error', { refused: true })).toMatchObject({ type: 'requeued', avoid: 'rack-1' });
    expect(outcome('model_error', { refused: true, elsewhere: 'later' })).toMatchObject({
      notBefore: 100 + 30_000,
    });
    expect(outcome('model_error', { refused: true, elsewhere: 'no' }).type).toBe('failed');
  });
  it('counts no attempt where nothing ran, until the same place refuses it again', () => {
    const refused = { refused: true };
    let g = started();
    for (const place of ['a/x', 'a/y', 'b/x', 'c/x', 'd/x'])
      g = started(moved(g, outcome('rate_limited', { ...refused, place }, g)));
    expect(g.state).toMatchObject({ attempt: 1 });
    expect(g.avoid).toEqual(['a/x', 'a/y', 'b/x', 'c/x', 'd/x']);
    for (let n = 1; n < MAX_ATTEMPTS; n++)
      g = started(moved(g, outcome('rate_limited', { ...refused, place: 'a/x', elsewhere: 'later' }, g)));
    expect(outcome('rate_limited', { ...refused, place: 'a/x', elsewhere: 'later' }, g).type).toBe('failed');
  });
  it('waits where the account was known to be in trouble, unless it can go elsewhere', () => {
    const found = { refused: true, elsewhere: 'no' } as const;
    expect(outcome('provider_balance', found).type).toBe('failed');
    expect(outcome('provider_balance', { ...found, known: true })).toMatchObject({
      type: 'requeued',
      giveBack: true,
      avoid: null,
    });
    expect(outcome('provider_balance', { ...found, known: true, elsewhere: 'now' })).toMatchObject({ avoid: 'rack-1' });
  });
  it('offers what was refused to nobody else, unless the operator says so', () => {
    for (const refused of [true, false]) {
      expect(outcome('policy_block', { refused }).type).toBe('failed');
      expect(outcome('policy_block', { refused, refusedElsewhere: true })).toMatchObject({
        type: 'requeued',
        avoid: 'rack-1',
      });
      expect(outcome('policy_block', { refused, refusedElsewhere: true, elsewhere: 'later' }).type).toBe('failed');
    }
  });
  it('waits for a server that could not be reached, instead of giving up', () => {
    expect(outcome('node_lost', { refused: true, elsewhere: 'no' })).toMatchObject({
      type: 'requeued',
      notBefore: 100 + backoff(1, 0.5),
    });
  });
  it('does not advise to repeat what may have been billed', () => {
    expect(adviceFor(failure('node_lost', 'cut', { retryable: false, possiblyBilled: true }))).not.toMatch(/Retry/);
    expect(adviceFor(failure('node_lost', 'cut'))).toMatch(/Retry once/);
  });
  it('softens a refused prompt exactly once', () => {
    const g = started(generation({ softenedPrompt: 'calmer' }));
    const first = outcome('safety_filter', {}, g);
    expect(first).toMatchObject({ type: 'requeued', soften: true });
    expect(outcome('safety_filter', {}, started(moved(g, first))).type).toBe('failed');
  });
  it('tries what nobody can explain once more, whatever else went wrong before', () => {
    let g = started(moved(started(), outcome('node_lost')));
    expect(outcome('internal', {}, g)).toMatchObject({ type: 'requeued', avoid: 'rack-1' });
    g = started(moved(started(), outcome('internal')));
    expect(outcome('internal', {}, g)).toMatchObject({ type: 'failed', failure: { code: 'internal' } });
  });
  it('never resubmits what may have been billed', () => {
    expect(settle(started(), failure('node_lost', 'cut', { possiblyBilled: true }), around).type).toBe('failed');
  });
});

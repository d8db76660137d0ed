import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/domain/failure.ts';
import { until } from '../harness/manual-clock.ts';
import { forever, job } from './sdapi-jobs.ts';
import { idle, running } from './sdapi-node.ts';
import {
  begin,
  codeOf,
  connection,
  done,
  ended,
  node,
  posted,
  start,
  system,
  TASK,
  TXT2IMG,
  ticks,
} from './sdapi-stage.ts';

describe('one node', () => {
  it('gets one request at a time, and a waiting job can be taken back', async () => {
    await start('a1111');
    node.does.set(TXT2IMG, () => undefined);
    const first = begin(job());
    const call = await posted();
    const abort = new AbortController();
    const second = begin(job({}, { attempt: 2 }), abort.signal);
    const third = begin(job({}, { attempt: 3 }));
    await ticks(3);
    expect(node.posts(TXT2IMG)).toHaveLength(1);
    abort.abort(new GatewayError('cancelled_by_caller'));
    expect(await codeOf(second)).toBe('cancelled_by_caller');
    done(call);
    expect(await ended(first.end)).toBeUndefined();
    done(await posted(TXT2IMG, 2));
    expect(await ended(third.end)).toBeUndefined();
    expect(node.posts(TXT2IMG)[1]?.body.force_task_id).toMatch(/-3$/);
  });

  it('is interrupted only while our own job runs, and its picture is thrown away', async () => {
    await start('a1111');
    let active = false;
    node.does.set('/internal/progress', (call) =>
      call.answer(200, { active, queued: !active, completed: false, progress: 0 }),
    );
    node.does.set(TXT2IMG, () => undefined);
    const abort = new AbortController();
    const reason = new GatewayError('cancelled_by_caller');
    const run = begin(job(), abort.signal);
    const call = await posted();
    await until(() => run.events.length === 2, 'accepted');
    abort.abort(reason);
    expect(await ended(run.end)).toBe(reason);

    const [intent] = run.events;
    if (intent?.type !== 'intent') throw new Error('no intent');
    const cancelled = connection.cancel(intent.remote, forever);
    await ticks(3);
    expect(node.posts('/sdapi/v1/interrupt')).toHaveLength(0);
    active = true;
    await ticks(2);
    expect(node.posts('/sdapi/v1/interrupt').length).toBeGreaterThan(0);

    const next = begin(job({}, { attempt: 2 }));
    await ticks(2);
    expect(node.posts(TXT2IMG)).toHaveLength(1);
    done(call, {}, ['half a picture']);
    await ended(cancelled);
    done(await posted(TXT2IMG, 2), {}, ['whole']);
    expect(await ended(next.end)).toBeUndefined();
    expect(await next.texts()).toEqual(['whole']);
    expect(system.clock.pending).toBe(0);
  });

  it('is left alone by the cancel of a job that was never sent', async () => {
    await start('sdnext');
    const events = connection.run(job(), forever)[Symbol.asyncIterator]();
    const { value } = await events.next();
    await events.return?.();
    node.has.set('/sdapi/v1/progress', running(0.5));
    await connection.cancel(value.remote, forever);
    expect(node.posts('/sdapi/v1/interrupt')).toHaveLength(0);
  });

  it('is not used again after a broken connection until it has come to rest', async () => {
    await start('sdnext');
    node.does.set(TXT2IMG, (call) => call.cut());
    expect(await codeOf(begin(job()))).toBe('node_lost');
    node.has.set('/sdapi/v1/progress', running(0.6));
    node.does.set(TXT2IMG, (call) => done(call));
    const next = begin(job({}, { attempt: 2 }));
    await ticks(4);
    expect(node.posts(TXT2IMG)).toHaveLength(1);
    expect(new Set(next.messages())).toEqual(new Set(['waiting for the node to come to rest']));
    node.has.set('/sdapi/v1/progress', idle);
    expect(await ended(next.end)).toBeUndefined();
  });

  it('is given up on, for now, when it does not come to rest', async () => {
    await start('sdnext');
    node.does.set(TXT2IMG, (call) => call.cut());
    await ended(begin(job()).end);
    node.has.set('/sdapi/v1/progress', running(0.6));
    expect(await codeOf(begin(job({}, { attempt: 2 })))).toBe('node_lost');
    expect(node.posts(TXT2IMG)).toHaveLength(1);
  });

  it('is stopped by task id where the request is gone', async () => {
    await start('a1111');
    let active = true;
    node.has.set('/sdapi/v1/progress', () => (active ? running(0.5) : idle));
    node.does.set('/internal/progress', (call) =>
      call.answer(200, { active, queued: false, completed: !active, progress: 0.5 }),
    );
    node.does.set('/sdapi/v1/interrupt', (call) => {
      active = false;
      call.answer(200, {});
    });
    await ended(connection.cancel({ task: TASK, session: 'of an earlier process' }, forever));
    expect(node.posts('/sdapi/v1/interrupt')).toHaveLength(1);
    expect(node.posts('/internal/progress')[0]?.body.id_task).toBe(TASK);
  });

  it("never passes another's progress off as ours", async () => {
    await start('sdnext');
    node.has.set('/sdapi/v1/progress', running(0.9, { job_timestamp: 'theirs' }));
    node.does.set(TXT2IMG, () => undefined);
    const run = begin(job());
    const call = await posted();
    await ticks(2);
    node.has.set('/sdapi/v1/progress', running(0.2, { job_timestamp: 'next', job: 'task(abc)' }));
    await ticks(2);
    node.has.set('/sdapi/v1/progress', running(0.8, { job_timestamp: 'other', sampling_steps: 50 }));
    await ticks(2);
    expect(run.messages()).toEqual([]);
    node.has.set('/sdapi/v1/progress', running(0.25, { job_timestamp: 'ours' }));
    await ticks(2);
    await until(() => run.messages().length > 0, 'progress');
    done(call);
    await ended(run.end);
    expect(run.messages()[0]).toBe('denoising step 5/20');
  });

  it('is not taken for busy by what it shows of a job that failed', async () => {
    await start('a1111');
    node.does.set(TXT2IMG, (call) => {
      node.has.set('/sdapi/v1/progress', running(0.96));
      call.answer(500, { error: 'OutOfMemoryError' });
    });
    expect(await codeOf(begin(job()))).toBe('out_of_memory');
    expect((await connection.probe(forever)).foreignQueue).toBe(0);
  });

  it('is free for the next job when one that waited for its rest is taken back', async () => {
    await start('sdnext');
    node.does.set(TXT2IMG, (call) => call.cut());
    await ended(begin(job()).end);
    node.has.set('/sdapi/v1/progress', running(0.6));
    node.does.set(TXT2IMG, (call) => done(call));
    const abort = new AbortController();
    const waiting = begin(job({}, { attempt: 2 }), abort.signal);
    await ticks(2);
    abort.abort(new GatewayError('cancelled_by_caller'));
    expect(await codeOf(waiting)).toBe('cancelled_by_caller');
    node.has.set('/sdapi/v1/progress', idle);
    expect(await ended(begin(job({}, { attempt: 3 })).end)).toBeUndefined();
  });
});

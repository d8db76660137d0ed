import { expect, onTestFinished, test } from 'vitest';
import { createPool } from '../../src/media/pool.ts';
import { ManualClock, settle } from '../harness/manual-clock.ts';
import { refusal } from './fixtures/room.ts';

const tasks = new URL('./fixtures/misbehaving-tasks.ts', import.meta.url);
const { signal } = new AbortController();
const hanging = { path: '', box: '', expect: 'image', output: {}, provenance: null } as const;
const crashing = { path: '', box: '' };
const fine = { path: '', to: '' };

function open(workers: number) {
  const clock = new ManualClock();
  const pool = createPool({ clock, workers, tasks });
  onTestFinished(() => pool.close());
  return { clock, pool };
}

test('a task that hangs fails alone at its deadline, and its thread is replaced', async () => {
  const { clock, pool } = open(2);
  const hung = refusal(pool.run('ingest', hanging, signal));
  expect(await pool.run('makeThumbnail', fine, signal)).toEqual({ ok: true, value: 42 });
  await clock.advance(60_000);
  expect(await hung).toEqual({ code: 'node_lost', message: 'The file took too long to examine.' });
  expect(await pool.run('makeThumbnail', fine, signal)).toEqual({ ok: true, value: 42 });
  expect(clock.pending).toBe(0);
});

test('a task that kills its thread fails alone', async () => {
  const { pool } = open(1);
  const results = await Promise.all([
    refusal(pool.run('accept', crashing, signal)),
    pool.run('makeThumbnail', fine, signal),
    pool.run('makeThumbnail', fine, signal),
  ]);
  expect(results).toEqual([
    { code: 'node_lost', message: 'The file could not be examined.' },
    { ok: true, value: 42 },
    { ok: true, value: 42 },
  ]);
});

test('the deadline runs from the start of a task, not from its place in the queue', async () => {
  const { clock, pool } = open(1);
  const abort = new AbortController();
  const first = pool.run('ingest', hanging, abort.signal);
  const second = refusal(pool.run('ingest', hanging, signal));
  await clock.advance(59_000);
  abort.abort(new Error('no longer wanted'));
  await expect(first).rejects.toThrow('no longer wanted');
  await settle();
  await clock.advance(59_000);
  expect(clock.pending).toBe(1);
  await clock.advance(1_000);
  expect(await second).toMatchObject({ message: 'The file took too long to examine.' });
});

test('an aborted task leaves the queue', async () => {
  const { pool } = open(1);
  const [running, waiting] = [new AbortController(), new AbortController()];
  const first = pool.run('ingest', hanging, running.signal);
  const second = pool.run('makeThumbnail', fine, waiting.signal);
  const third = pool.run('makeThumbnail', fine, signal);
  waiting.abort(new Error('second is not wanted'));
  await expect(second).rejects.toThrow('second is not wanted');
  running.abort(new Error('first is not wanted'));
  await expect(first).rejects.toThrow('first is not wanted');
  expect(await third).toEqual({ ok: true, value: 42 });
  expect(pool.idle).toBe(true);
});

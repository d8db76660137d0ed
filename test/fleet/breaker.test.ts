import { expect, test } from 'vitest';
import { type FailureCode, failure } from '../../src/domain/failure.ts';
import { nodeSpec, openScene, type Scene } from './opening.ts';

const work = { residency: 'flux', expectMs: 1_000 };
const fail = ({ fleet }: Scene, code: FailureCode = 'node_lost', times = 1) => {
  for (let i = 0; i < times; i++) {
    fleet.learned('a', { residency: 'flux', warm: true, renderMs: null, failure: failure(code, 'it fell over') });
  }
};
const succeed = ({ fleet }: Scene) =>
  fleet.learned('a', { residency: 'flux', warm: true, renderMs: 1_000, failure: null });
/** Lets the probe that follows a failure answer. */
const calm = ({ system }: Scene) => system.clock.advance(1);
const viewOf = ({ fleet }: Scene) => fleet.views()[0];

test('three failures in a row set a node aside, and it says so', async () => {
  const scene = await openScene(['a']);
  fail(scene, 'node_lost', 2);
  await calm(scene);
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 1 });
  fail(scene);
  await calm(scene);
  expect(viewOf(scene)).toMatchObject({ status: 'offline', freeSlots: 0 });
  expect(scene.fleet.node('a')?.why).toBe('set aside after 3 failures in a row: it fell over');
  expect(scene.fleet.acquire('a', work)).toBeNull();
});

test('a success in between starts the count anew', async () => {
  const scene = await openScene(['a']);
  fail(scene, 'node_lost', 2);
  succeed(scene);
  fail(scene, 'node_lost', 2);
  await calm(scene);
  expect(viewOf(scene)?.status).toBe('online');
});

test('a job that the node would not take says nothing about the node', async () => {
  const scene = await openScene(['a']);
  fail(scene, 'node_lost', 2);
  scene.fleet.learned('a', { residency: 'flux', warm: true, renderMs: null, failure: null });
  fail(scene);
  await calm(scene);
  expect(viewOf(scene)?.status).toBe('offline');
});

test.each([
  'model_error',
  'safety_filter',
  'invalid_request',
  'cancelled_by_caller',
  'shutting_down',
  'internal',
] as const)('%s is not the fault of the node', async (code) => {
  const scene = await openScene(['a']);
  fail(scene, code, 5);
  await calm(scene);
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 1 });
});

test('whatever fails on the built-in renderer, it stays there for everybody', async () => {
  const scene = await openScene([], { specs: [nodeSpec('a', { kind: 'sketch', slots: 2 })] });
  for (const code of ['node_lost', 'out_of_memory', 'run_timeout'] as const) {
    fail(scene, code, 5);
    expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 2 });
  }
  await calm(scene);
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 2 });
});

test('a run timeout counts only when the node had more than twice the time it was expected to need', async () => {
  const scene = await openScene(['a']);
  const slow = async (ms: number) => {
    using _ = scene.fleet.acquire('a', work);
    await scene.system.clock.advance(ms);
    fail(scene, 'run_timeout');
    await calm(scene);
  };
  for (let i = 0; i < 5; i++) await slow(1_500);
  expect(viewOf(scene)?.status).toBe('online');
  for (let i = 0; i < 3; i++) await slow(2_500);
  expect(viewOf(scene)?.status).toBe('offline');
});

test('after thirty seconds one attempt is let through, and its success makes the node whole', async () => {
  const scene = await openScene([], { specs: [nodeSpec('a', { slots: 2 })] });
  fail(scene, 'node_lost', 3);
  await scene.system.clock.advance(29_000);
  expect(viewOf(scene)?.status).toBe('offline');
  const before = scene.changes();
  await scene.system.clock.advance(1_100);
  expect(scene.changes()).toBeGreaterThan(before);
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 1 });
  using trial = scene.fleet.acquire('a', work);
  expect(trial).not.toBeNull();
  expect(scene.fleet.acquire('a', work)).toBeNull();
  trial?.release();
  succeed(scene);
  fail(scene, 'node_lost', 2);
  await calm(scene);
  expect(viewOf(scene)?.status).toBe('online');
});

test('a trial that fails doubles the pause, up to ten minutes', async () => {
  const scene = await openScene(['a']);
  fail(scene, 'node_lost', 3);
  for (const pause of [30, 60, 120, 240, 480, 600, 600]) {
    await scene.system.clock.advance(pause * 1_000 - 1_000);
    expect(viewOf(scene)?.status).toBe('offline');
    await scene.system.clock.advance(1_001);
    expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 1 });
    fail(scene);
  }
});

test('a trial that was cancelled leaves room for another', async () => {
  const scene = await openScene(['a']);
  fail(scene, 'node_lost', 3);
  await scene.system.clock.advance(30_100);
  scene.fleet.acquire('a', work)?.[Symbol.dispose]();
  expect(scene.fleet.acquire('a', work)).not.toBeNull();
});

test('an operator who resumes a node gives it another chance at once', async () => {
  const scene = await openScene(['a']);
  fail(scene, 'node_lost', 3);
  await calm(scene);
  expect(await scene.fleet.resume('a')).toMatchObject({ status: 'online', why: null });
});

test('an account that said "too many" is given nothing new for as long as it asked, and whoever waits is told', async () => {
  const scene = await openScene([], { specs: [nodeSpec('a', { kind: 'fal', slots: 4 })] });
  const why = failure('rate_limited', 'too many', { retryAfterSeconds: 40 });
  const before = scene.changes();
  scene.fleet.learned('a', { residency: 'flux', warm: true, renderMs: null, failure: why });
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 0, limited: true });
  expect(scene.changes()).toBeGreaterThan(before);
  fail(scene, 'rate_limited');
  await scene.system.clock.advance(39_000);
  expect(viewOf(scene)?.freeSlots).toBe(0);
  const until = scene.changes();
  await scene.system.clock.advance(1_001);
  expect(viewOf(scene)).toMatchObject({ freeSlots: 4, limited: false });
  expect(scene.changes()).toBeGreaterThan(until);
});

test('what was in flight when an account ran dry says nothing about it: later work waits', async () => {
  const scene = await openScene([], { specs: [nodeSpec('a', { kind: 'fal', slots: 4 })] });
  await scene.system.clock.advance(10_000);
  fail(scene, 'provider_balance');
  succeed(scene);
  expect(viewOf(scene)).toMatchObject({ status: 'offline', freeSlots: 0 });
  await scene.system.clock.advance(60_001);
  scene.fleet.learned('a', { residency: 'flux', warm: true, renderMs: 65_000, failure: null });
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 1 });
  succeed(scene);
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 4 });
});

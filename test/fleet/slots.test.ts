import { expect, test } from 'vitest';
import { failure } from '../../src/domain/failure.ts';
import { REPORT } from './fake-backend.ts';
import { nodeSpec, openScene, type Scene } from './opening.ts';

const flux = { residency: 'flux', expectMs: 10_000 };
const sdxl = { residency: 'sdxl', expectMs: 4_000 };
const viewOf = ({ fleet }: Scene, id = 'a') => fleet.views().find((view) => view.id === id);

test('a node runs as many attempts as it has slots, and no more', async () => {
  const scene = await openScene([], { specs: [nodeSpec('a', { slots: 2 })] });
  expect(scene.fleet.acquire('a', flux)).not.toBeNull();
  expect(viewOf(scene)?.freeSlots).toBe(1);
  expect(scene.fleet.acquire('a', flux)).not.toBeNull();
  expect(scene.fleet.acquire('a', flux)).toBeNull();
  expect(scene.fleet.node('a')?.running).toBe(2);
});

test('the end of the render frees the slot; ending it twice, and the attempt after it, frees nothing more', async () => {
  const scene = await openScene(['a']);
  const slot = scene.fleet.acquire('a', flux);
  const before = scene.changes();
  slot?.release();
  expect(scene.changes()).toBe(before + 1);
  const second = scene.fleet.acquire('a', flux);
  expect(second).not.toBeNull();
  slot?.release();
  slot?.[Symbol.dispose]();
  slot?.[Symbol.dispose]();
  expect(viewOf(scene)?.freeSlots).toBe(0);
  second?.[Symbol.dispose]();
  expect(viewOf(scene)?.freeSlots).toBe(1);
});

test('ending a render twice does not make its model the newest again', async () => {
  const scene = await openScene(['a']);
  const slot = scene.fleet.acquire('a', flux);
  slot?.release();
  scene.fleet.acquire('a', sdxl)?.release();
  slot?.release();
  expect(viewOf(scene)?.resident).toEqual(['flux', 'sdxl']);
});

test('an attempt that is over without a render gives its slot back and leaves nothing loaded', async () => {
  const scene = await openScene(['a']);
  scene.fleet.acquire('a', flux)?.[Symbol.dispose]();
  expect(viewOf(scene)).toMatchObject({ freeSlots: 1, resident: [] });
});

test('nobody gets a slot of a node that does not exist or is not online', async () => {
  const scene = await openScene(['a'], {}, (fakes) => fakes.node('a').crash());
  expect(scene.fleet.acquire('a', flux)).toBeNull();
  expect(scene.fleet.acquire('b', flux)).toBeNull();
  expect(scene.fleet.adopt('b', flux)).toBeNull();
});

test('work found running is adopted beyond the free slots and on nodes that are away', async () => {
  const scene = await openScene(['a'], {}, (fakes) => fakes.node('a').crash());
  const first = scene.fleet.adopt('a', flux);
  const second = scene.fleet.adopt('a', flux);
  scene.fakes.node('a').mend();
  await scene.system.clock.advance(1_200);
  expect(viewOf(scene)).toMatchObject({ status: 'online', freeSlots: 0 });
  first?.release();
  expect(viewOf(scene)?.freeSlots).toBe(0);
  second?.release();
  expect(viewOf(scene)?.freeSlots).toBe(1);
});

test('what remains shrinks with time, never below a tenth of what was expected, and is nothing when idle', async () => {
  const scene = await openScene(['a']);
  expect(viewOf(scene)?.remainingMs).toBe(0);
  const slot = scene.fleet.acquire('a', flux);
  expect(viewOf(scene)?.remainingMs).toBe(10_000);
  await scene.system.clock.advance(4_000);
  expect(viewOf(scene)?.remainingMs).toBe(6_000);
  await scene.system.clock.advance(60_000);
  expect(viewOf(scene)?.remainingMs).toBe(1_000);
  slot?.release();
  expect(viewOf(scene)?.remainingMs).toBe(0);
});

test('with several slots what remains is until the first one comes free', async () => {
  const scene = await openScene([], { specs: [nodeSpec('a', { slots: 2 })] });
  scene.fleet.acquire('a', flux);
  expect(viewOf(scene)?.remainingMs).toBe(0);
  scene.fleet.acquire('a', sdxl);
  expect(viewOf(scene)?.remainingMs).toBe(4_000);
});

test('a node keeps what it rendered with last, the newest at the end, as many as fit', async () => {
  const scene = await openScene([], {
    specs: [nodeSpec('a'), nodeSpec('b', { kind: 'sdapi' }), nodeSpec('c', { kind: 'sketch', url: '' })],
  });
  for (const id of ['a', 'b', 'c']) {
    for (const residency of ['one', 'two', 'one', 'three']) {
      using slot = scene.fleet.acquire(id, { residency, expectMs: 1 });
      slot?.release();
    }
  }
  expect(viewOf(scene, 'a')).toMatchObject({ resident: ['one', 'three'], capacity: 2 });
  expect(viewOf(scene, 'b')).toMatchObject({ resident: ['three'], capacity: 1 });
  expect(viewOf(scene, 'c')?.resident).toEqual(['two', 'one', 'three']);
});

test('what is rendering counts as loaded, and what it pushes out as gone', async () => {
  const scene = await openScene([], { specs: [nodeSpec('a', { kind: 'sdapi' })] });
  scene.fleet.acquire('a', sdxl)?.release();
  const slot = scene.fleet.acquire('a', flux);
  expect(viewOf(scene)?.resident).toEqual(['flux']);
  slot?.[Symbol.dispose]();
  expect(viewOf(scene)?.resident).toEqual(['sdxl']);
});

test.each(['node_lost', 'out_of_memory'] as const)('after %s nothing is loaded', async (code) => {
  const scene = await openScene(['a']);
  scene.fleet.acquire('a', flux)?.release();
  scene.fleet.learned('a', { residency: 'flux', warm: true, renderMs: null, failure: failure(code, 'x') });
  expect(viewOf(scene)?.resident).toEqual([]);
});

test('a node that was away or changed its version has nothing loaded', async () => {
  const scene = await openScene(['a']);
  scene.fleet.acquire('a', flux)?.release();
  scene.fakes.node('a').report = { ...REPORT, version: '2.0' };
  await scene.system.clock.advance(6_000);
  expect(viewOf(scene)?.resident).toEqual([]);
  scene.fleet.acquire('a', flux)?.release();
  scene.fakes.node('a').crash();
  await scene.system.clock.advance(6_000);
  scene.fakes.node('a').mend();
  await scene.system.clock.advance(6_000);
  expect(viewOf(scene)).toMatchObject({ status: 'online', resident: [] });
});

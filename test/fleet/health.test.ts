import fc from 'fast-check';
import { expect, test } from 'vitest';
import { failure } from '../../src/domain/failure.ts';
import { after, type Health, pauseAfter, restarted } from '../../src/fleet/health.ts';
import { settle } from '../harness/manual-clock.ts';
import { REPORT } from './fake-backend.ts';
import { openScene, type Scene } from './opening.ts';

const work = { residency: 'flux', expectMs: 10_000 };
const up: Health = { state: 'up', misses: 0, report: REPORT };
const silence = { found: null, refused: false, why: 'silence' } as const;
const refusal = { found: null, refused: true, why: 'refused' } as const;
const statusOf = ({ fleet }: Scene, id = 'a') => fleet.node(id)?.status;

test('one silent probe is forgiven, the second takes an idle node offline', () => {
  const once = after(up, silence, false);
  expect(once).toMatchObject({ state: 'up', misses: 1 });
  expect(after(once, silence, false)).toMatchObject({ state: 'down', why: 'silence', report: REPORT });
});

test('a rendering node is given a third silent probe', () => {
  const twice = after(after(up, silence, true), silence, true);
  expect(twice.state).toBe('up');
  expect(after(twice, silence, true).state).toBe('down');
});

test('one refused connection is certain, even of a rendering node', () => {
  expect(after(up, refusal, true)).toMatchObject({ state: 'down', why: 'refused' });
});

test('one answer makes any node well', () => {
  const down = after(up, refusal, false);
  expect(after(down, { found: REPORT }, false)).toEqual(up);
});

test('a node that was away, or came back as something else, has restarted; one that answers as before has not', () => {
  const down = after(up, refusal, false);
  expect(restarted(down, up)).toBe(true);
  expect(restarted(up, { ...up, report: { ...REPORT, version: '2.0' } })).toBe(true);
  expect(restarted(up, { ...up, report: { ...REPORT, memory: null, checkpoints: ['new'] } })).toBe(false);
  expect(restarted({ state: 'unknown', misses: 0, report: null }, up)).toBe(false);
});

test('pauses are about five seconds while well and one to fifteen while not', () => {
  fc.assert(
    fc.property(fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(50), (chance, misses) => {
      const pause = pauseAfter({ ...up, misses }, chance);
      const middle = misses === 0 ? 5_000 : Math.min(15_000, 1_000 * 2 ** (misses - 1));
      expect(pause).toBeGreaterThanOrEqual(0.85 * middle);
      expect(pause).toBeLessThanOrEqual(1.15 * middle);
    }),
  );
});

test('a node is offline until its first probe succeeds, and its coming is announced', async () => {
  const scene = await openScene(['a'], {}, (fakes) => fakes.node('a').crash());
  expect(scene.fleet.node('a')).toMatchObject({ status: 'offline', why: 'a does not answer' });
  scene.fakes.node('a').mend();
  const before = scene.changes();
  await scene.system.clock.advance(1_000);
  expect(scene.fleet.node('a')).toMatchObject({ status: 'online', why: null, report: REPORT });
  expect(scene.changes()).toBeGreaterThan(before);
});

test('an online node is probed every five seconds', async () => {
  const scene = await openScene(['a']);
  await scene.system.clock.advance(60_000);
  expect(scene.fakes.node('a').probes).toBe(1 + 60 / 5);
});

test('a dead node is asked less and less, but at least every fifteen seconds', async () => {
  const scene = await openScene(['a'], {}, (fakes) => fakes.node('a').crash());
  await scene.system.clock.advance(1_000 + 2_000 + 4_000 + 8_000);
  expect(scene.fakes.node('a').probes).toBe(5);
  await scene.system.clock.advance(60_000);
  expect(scene.fakes.node('a').probes).toBe(9);
});

test('probes never overlap, and one that gets no answer ends after ten seconds', async () => {
  const scene = await openScene(['a']);
  const node = scene.fakes.node('a');
  node.probeMs = 3_600_000;
  await scene.system.clock.advance(5_000);
  const asked = node.probes;
  await scene.system.clock.advance(9_999);
  expect(node.probes).toBe(asked);
  expect(scene.fleet.views()[0]?.freeSlots).toBe(1);
  await scene.system.clock.advance(1);
  expect(statusOf(scene)).toBe('online');
  expect(scene.fleet.views()[0]?.freeSlots).toBe(0);
  await scene.system.clock.advance(11_000);
  expect(scene.fleet.node('a')).toMatchObject({ status: 'offline', why: 'it gave no answer within 10 s' });
});

test('a node that is loading and answers nothing for two probes is still online', async () => {
  const scene = await openScene(['a', 'b']);
  const slot = scene.fleet.acquire('a', work);
  for (const id of ['a', 'b']) scene.fakes.node(id).cut();
  await scene.system.clock.advance(6_000);
  expect([statusOf(scene, 'a'), statusOf(scene, 'b')]).toEqual(['online', 'offline']);
  for (const id of ['a', 'b']) scene.fakes.node(id).mend();
  await scene.system.clock.advance(3_000);
  expect(statusOf(scene, 'a')).toBe('online');
  expect(scene.fleet.views()[0]?.resident).toEqual(['flux']);
  slot?.release();
});

test('nothing new starts on a node whose last probe failed, until the next one succeeds', async () => {
  const scene = await openScene(['a']);
  const node = scene.fakes.node('a');
  node.cut();
  await scene.system.clock.advance(5_000);
  expect(statusOf(scene)).toBe('online');
  expect(scene.fleet.acquire('a', work)).toBeNull();
  node.mend();
  const before = scene.changes();
  await scene.system.clock.advance(1_200);
  expect(scene.changes()).toBeGreaterThan(before);
  expect(scene.fleet.acquire('a', work)).not.toBeNull();
});

test('an attempt that lost its node has the node probed at once', async () => {
  const scene = await openScene(['a']);
  const node = scene.fakes.node('a');
  node.crash();
  const asked = node.probes;
  scene.fleet.learned('a', { residency: 'flux', warm: true, renderMs: null, failure: failure('node_lost', 'gone') });
  await settle();
  expect(node.probes).toBe(asked + 1);
  expect(statusOf(scene)).toBe('offline');
});

test('a wedged node takes nothing, says why, and is well again when it says so after a restart, with nothing loaded', async () => {
  const scene = await openScene(['a']);
  const node = scene.fakes.node('a');
  scene.fleet.acquire('a', work)?.release();
  expect(scene.fleet.views()[0]?.resident).toEqual(['flux']);
  node.wedged = 'it accepts work and never runs it';
  expect(scene.fleet.node('a')).toMatchObject({ status: 'wedged', why: 'it accepts work and never runs it' });
  expect(scene.fleet.acquire('a', work)).toBeNull();
  await scene.system.clock.advance(6_000);
  node.wedged = null;
  await scene.system.clock.advance(6_000);
  expect(statusOf(scene)).toBe('online');
  expect(scene.fleet.views()[0]).toMatchObject({ resident: [], freeSlots: 1 });
});

test('what a node has installed is taken over from each probe and announced when it changes', async () => {
  const scene = await openScene(['a']);
  scene.fakes.node('a').report = { ...REPORT, checkpoints: ['new.safetensors'] };
  const before = scene.changes();
  await scene.system.clock.advance(6_000);
  expect(scene.fleet.views()[0]?.report?.checkpoints).toEqual(['new.safetensors']);
  expect(scene.changes()).toBe(before + 1);
  scene.fakes.node('a').report = { ...REPORT, checkpoints: ['new.safetensors'], foreignQueue: 3 };
  await scene.system.clock.advance(6_000);
  expect(scene.changes()).toBe(before + 1);
});

test('a node is well or ill since the moment its status changed', async () => {
  const scene = await openScene(['a']);
  const since = scene.fleet.node('a')?.since;
  await scene.system.clock.advance(20_000);
  expect(scene.fleet.node('a')?.since).toBe(since);
  scene.fakes.node('a').crash();
  await scene.system.clock.advance(6_000);
  expect(scene.fleet.node('a')?.since).toBeGreaterThan(since ?? 0);
});

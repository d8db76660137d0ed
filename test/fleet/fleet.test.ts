import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type FailureCode, GatewayError } from '../../src/domain/failure.ts';
import { openFleet } from '../../src/fleet/fleet.ts';
import { settle } from '../harness/manual-clock.ts';
import { freshDirectory, memoryNodes, nodeSpec, openScene, reopen } from './opening.ts';

const work = { residency: 'flux', expectMs: 1_000 };
const codeOf = (doing: Promise<unknown>): Promise<FailureCode | null> =>
  doing.then(
    () => null,
    (error: unknown) => (error instanceof GatewayError ? error.failure.code : null),
  );

test('the fleet is the config file, the built-in renderer and what was added, in that order', async () => {
  const runtime = memoryNodes();
  await runtime.put(nodeSpec('added'), false);
  const { fleet } = await openScene(['a', 'b'], { runtime, sketch: true });
  expect(fleet.nodes().map(({ spec, source }) => [spec.id, source])).toEqual([
    ['a', 'config'],
    ['b', 'config'],
    ['sketch', 'builtin'],
    ['added', 'runtime'],
  ]);
  expect(fleet.views().every((view) => view.status === 'online')).toBe(true);
});

test('a node of the config file named sketch takes the place of the built-in one', async () => {
  const specs = [nodeSpec('sketch', { kind: 'sketch', url: '', slots: 7 })];
  const { fleet } = await openScene([], { specs, sketch: true });
  expect(fleet.nodes().map(({ spec, source }) => [spec.slots, source])).toEqual([[7, 'config']]);
});

test('an added node is probed before the answer, works, and is still there after a restart', async () => {
  const scene = await openScene([]);
  expect(await scene.fleet.add(nodeSpec('new'))).toMatchObject({ status: 'online', source: 'runtime' });
  scene.fleet.acquire('new', work)?.[Symbol.dispose]();
  const again = await reopen(scene);
  expect(again.node('new')).toMatchObject({ status: 'online', source: 'runtime' });
});

test('an added node that is down is kept', async () => {
  const { fleet, fakes } = await openScene([]);
  fakes.node('new').crash();
  expect(await fleet.add(nodeSpec('new'))).toMatchObject({ status: 'offline', why: 'new does not answer' });
  expect(fleet.nodes()).toHaveLength(1);
});

test('adding waits for a silent node no longer than one probe', async () => {
  const { fleet, fakes, system } = await openScene([]);
  fakes.node('new').probeMs = 3_600_000;
  const adding = fleet.add(nodeSpec('new'));
  await system.clock.advance(10_100);
  expect(await adding).toMatchObject({ status: 'offline', why: 'it gave no answer within 10 s' });
});

test('of two who add the same id at once one is told of a conflict', async () => {
  const { fleet, options } = await openScene(['a'], { sketch: false });
  const codes = await Promise.all([codeOf(fleet.add(nodeSpec('new'))), codeOf(fleet.add(nodeSpec('new')))]);
  expect(codes).toEqual([null, 'conflict']);
  expect(await codeOf(fleet.add(nodeSpec('a')))).toBe('conflict');
  expect(await codeOf(fleet.add(nodeSpec('sketch', { kind: 'sketch', url: '' })))).toBe('conflict');
  expect((await options.runtime.all()).map((row) => row.spec.id)).toEqual(['new']);
});

test('a node that could not be kept is not added', async () => {
  const broken = { ...memoryNodes(), put: () => Promise.reject(new Error('disk full')) };
  const { fleet, fakes } = await openScene([], { runtime: broken });
  await expect(fleet.add(nodeSpec('new'))).rejects.toThrow('disk full');
  expect(fleet.nodes()).toEqual([]);
  expect(fakes.node('new').open).toBe(0);
});

test.each([
  'ftp://10.0.0.1',
  'file:///etc/passwd',
  'not a url',
  '',
  'http://user:secret@10.0.0.1',
  'http://10.0.0.1/?x=1',
  'http://169.254.169.254',
  'http://2852039166',
  'http://0xa9.254.169.254/latest',
  'http://[fe80::1]:8188',
  'http://[::ffff:169.254.169.254]',
  'http://100.100.100.200',
  'http://metadata.google.internal',
  'http://metadata.google.internal.',
])('%s is never the address of a node', async (url) => {
  const { fleet } = await openScene([]);
  expect(await codeOf(fleet.add(nodeSpec('new', { url })))).toBe('invalid_request');
  expect(fleet.nodes()).toEqual([]);
});

test.each(['http://10.0.0.1:8188', 'https://gpu.lan/comfy', 'http://127.0.0.1:8188', 'http://[fd12::1]:7860'])(
  '%s may be the address of a node',
  async (url) => {
    const { fleet } = await openScene([]);
    expect((await fleet.add(nodeSpec('new', { url }))).spec.url).toBe(url);
  },
);

test.each(['../up', 'a/b', '', '.hidden'])('%j is never the id of a node', async (id) => {
  const { fleet } = await openScene([]);
  expect(await codeOf(fleet.add(nodeSpec(id)))).toBe('invalid_request');
});

test('a bad address in the config file refuses to open; a kept one is left out', async () => {
  const bad = nodeSpec('bad', { url: 'http://169.254.169.254' });
  const scene = await openScene([]);
  expect(await codeOf(openFleet({ ...scene.options, specs: [bad], directory: await freshDirectory() }))).toBe(
    'invalid_request',
  );
  await scene.options.runtime.put(bad, false);
  expect((await reopen(scene)).nodes()).toEqual([]);
});

test('a draining node finishes its work, takes no more, and drains still after a restart', async () => {
  const scene = await openScene(['a'], { sketch: true });
  await scene.fleet.add(nodeSpec('new'));
  const slot = scene.fleet.acquire('a', work);
  for (const id of ['a', 'sketch', 'new']) expect((await scene.fleet.drain(id)).status).toBe('draining');
  expect(scene.fleet.node('a')?.running).toBe(1);
  slot?.release();
  expect(scene.fleet.acquire('a', work)).toBeNull();
  const again = await reopen(scene);
  expect(again.nodes().map(({ spec, source, status }) => [spec.id, source, status])).toEqual([
    ['a', 'config', 'draining'],
    ['sketch', 'builtin', 'draining'],
    ['new', 'runtime', 'draining'],
  ]);
});

test('a resumed node works again, after a restart too', async () => {
  const scene = await openScene(['a']);
  await scene.fleet.add(nodeSpec('new'));
  for (const id of ['a', 'new']) await scene.fleet.drain(id);
  const before = scene.changes();
  for (const id of ['a', 'new']) expect((await scene.fleet.resume(id)).status).toBe('online');
  expect(scene.changes()).toBeGreaterThan(before);
  const again = await reopen(scene);
  expect(again.nodes().map(({ source, status }) => [source, status])).toEqual([
    ['config', 'online'],
    ['runtime', 'online'],
  ]);
});

test('only added nodes can be removed', async () => {
  const { fleet } = await openScene(['a'], { sketch: true });
  expect(await codeOf(fleet.remove('a'))).toBe('conflict');
  expect(await codeOf(fleet.remove('sketch'))).toBe('conflict');
  expect(await codeOf(fleet.remove('nobody'))).toBe('not_found');
  expect(await codeOf(fleet.drain('nobody'))).toBe('not_found');
});

test('a removed node is gone at once and forever, but its connection lives until its last attempt is over', async () => {
  const scene = await openScene([]);
  await scene.fleet.add(nodeSpec('new'));
  const slot = scene.fleet.acquire('new', work);
  await scene.fleet.remove('new');
  expect(scene.fleet.nodes()).toEqual([]);
  expect(scene.fleet.acquire('new', work)).toBeNull();
  slot?.release();
  await settle();
  expect(scene.fakes.node('new').open).toBe(1);
  slot?.[Symbol.dispose]();
  await settle();
  expect(scene.fakes.node('new').open).toBe(0);
  expect((await reopen(scene)).nodes()).toEqual([]);
});

test('stopping closes a removed node too, although an attempt on it is under way', async () => {
  const { fleet, fakes } = await openScene([]);
  await fleet.add(nodeSpec('new'));
  fleet.acquire('new', work);
  await fleet.remove('new');
  await fleet.stop();
  expect(fakes.node('new').open).toBe(0);
});

test('each node has a directory of its own, emptied at start', async () => {
  const directory = await freshDirectory();
  await mkdir(join(directory, 'node-scratch', 'a'), { recursive: true });
  await writeFile(join(directory, 'node-scratch', 'a', 'left-over'), 'x');
  await openScene(['a'], { directory });
  expect(existsSync(join(directory, 'node-scratch', 'a'))).toBe(true);
  expect(existsSync(join(directory, 'node-scratch', 'a', 'left-over'))).toBe(false);
});

test('a stopped fleet has closed its connections and left no timer, also with a node set aside and work under way', async () => {
  const { fleet, fakes, system } = await openScene(['a', 'b', 'c']);
  fakes.node('c').probeMs = 60_000;
  fleet.acquire('a', work);
  const failThrice = (id: string) => {
    const failure = { code: 'node_lost', message: 'gone' } as const;
    for (let i = 0; i < 3; i++) fleet.learned(id, { residency: 'flux', warm: true, renderMs: null, failure });
  };
  failThrice('b');
  await system.clock.advance(6_000);
  await fleet.stop();
  await fleet.stop();
  failThrice('a');
  expect(system.clock.pending).toBe(0);
  expect(['a', 'b', 'c'].map((id) => fakes.node(id).open)).toEqual([0, 0, 0]);
  expect(fleet.acquire('c', work)).toBeNull();
});

test('a listener that was let go hears nothing more', async () => {
  const { fleet } = await openScene(['a']);
  let heard = 0;
  const listening = fleet.onChange(() => heard++);
  fleet.learned('a', { residency: 'flux', warm: true, renderMs: 1_000, failure: null });
  const before = heard;
  expect(before).toBeGreaterThan(0);
  listening[Symbol.dispose]();
  fleet.learned('a', { residency: 'flux', warm: true, renderMs: 1_000, failure: null });
  expect(heard).toBe(before);
});

// What keeps a fleet honest: probing, cancelling, resuming, and telling a hanging node from a slow one.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { Connection } from '../../src/backends/backend.ts';
import { connectComfyUi } from '../../src/backends/comfyui/client.ts';
import type { RemoteRef } from '../../src/domain/generation.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { testSystem } from '../harness/system.ts';
import { jobOf } from './comfyui-jobs.ts';
import {
  CHECKPOINT,
  comfyNode,
  ended,
  endedInTime,
  failureOf,
  hear,
  never,
  run,
  type TestNode,
} from './comfyui-node.ts';

const job = jobOf({ checkpoint: CHECKPOINT });
const other = jobOf({ checkpoint: CHECKPOINT, params: { seed: 99 }, job: { id: 'gen_other' } });
const rendering = (node: TestNode, n = 1) => until(() => node.count('render_begin') >= n, 'a render');
const accepted = (node: TestNode, n = 1) => until(() => node.count('accept') >= n, 'a submission');

/** Cancels with the clock running. */
async function cancelled(node: TestNode, connection: Connection, remote: RemoteRef | null): Promise<unknown> {
  let end: unknown = null;
  connection.cancel(remote ?? {}, never()).then(
    () => {
      end = 'done';
    },
    (error: unknown) => {
      end = error;
    },
  );
  await node.flow(() => end !== null, 'the end of the cancel');
  return end;
}

test.each(['A', 'B', 'old'] as const)('probing a %s server tells who it is and what is installed', async (profile) => {
  const node = await comfyNode({ profile });
  const report = await node.connection.probe(never());
  expect(report).toMatchObject({
    flavour: 'comfyui',
    device: 'cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync',
    memory: { totalBytes: 25_393_692_672 },
    foreignQueue: 0,
  });
  expect(report.checkpoints).toEqual(expect.arrayContaining([CHECKPOINT, 'flux1-dev.safetensors']));
  expect(report.loras).toContain('styles/watercolour.safetensors');
  expect(report.samplers).toContain('euler');
  expect(report.schedulers).toContain('normal');
  expect(report.upscalers).toContain('4x-UltraSharp.pth');
  expect(report.files?.['VAELoader.vae_name']).toContain('ae.safetensors');
});

test('the list of node classes arrives in the background, however large it is', async () => {
  const node = await comfyNode();
  node.double.faults.on('huge_object_info');
  expect((await node.connection.probe(never())).classes).toBeNull();
  const classes = await until(async () => (await node.connection.probe(never())).classes);
  expect(classes).toEqual(expect.arrayContaining(['KSampler', 'SaveImage']));
});

test('bare NaN in the answers does not spoil a probe', async () => {
  const node = await comfyNode();
  node.double.faults.on('nan_json');
  expect((await node.connection.probe(never())).samplers).toContain('euler');
});

test('work on the node that is not ours is counted as foreign', async () => {
  const node = await comfyNode({ renderMs: 1e9 });
  const stop = new AbortController();
  const foreign = run(node.connect(), job, stop.signal);
  await rendering(node);
  const ours = run(node.connection, other, stop.signal);
  await accepted(node, 2);
  expect((await node.connection.probe(never())).foreignQueue).toBe(1);
  stop.abort(new Error('enough'));
  await ended(foreign);
  await ended(ours);
});

test.each([
  [200, '<html>a router</html>', 'not ComfyUI'],
  [200, '{"system": {}}', 'not ComfyUI'],
  [404, '', 'not ComfyUI'],
  [401, 'no', 'credentials'],
  [502, 'bad gateway', 'HTTP 502'],
])('a server that answers %i %s is told apart', async (status, body, why) => {
  const server = createServer((_, res) => res.writeHead(status).end(body));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const spec = { id: 'n', kind: 'comfyui', url, labels: [], auth: null, slots: 1 } as const;
  const connection = connectComfyUi({ spec, system: testSystem(), scratch: '' });
  onTestFinished(async () => {
    await connection.close();
    server.closeAllConnections();
    server.close();
  });
  await expect(connection.probe(never())).rejects.toMatchObject({
    failure: { code: 'node_lost', message: expect.stringContaining(why) },
  });
});

test('a node that is down is unreachable, with the reason', async () => {
  const node = await comfyNode();
  await node.double.crash();
  await expect(node.connection.probe(never())).rejects.toMatchObject({
    failure: { code: 'node_lost', message: expect.stringContaining('ECONNREFUSED') },
  });
});

test.each(['A', 'B', 'old'] as const)(
  'on a %s server a cancel stops our running work and leaves a neighbour’s alone',
  async (profile) => {
    const node = await comfyNode({ profile, renderMs: 4_000 });
    const stop = new AbortController();
    const ours = run(node.connection, job, stop.signal);
    await rendering(node);
    await until(() => ours.of('accepted').length > 0);
    const theirs = run(node.connect(), other, stop.signal);
    await accepted(node, 2);
    expect(await cancelled(node, node.connection, ours.remote)).toBe('done');
    await endedInTime(theirs, node);
    expect(theirs.end).toBe('done');
    expect(failureOf(await endedInTime(ours, node)).code).toBe('node_lost');
    expect(node.double.log.filter((entry) => entry.detail === 'interrupted')).toHaveLength(1);
  },
);

test.each(['A', 'B', 'old'] as const)(
  'on a %s server a cancel of waiting work never interrupts what runs',
  async (profile) => {
    const node = await comfyNode({ profile, renderMs: 4_000 });
    const theirs = run(node.connect(), other);
    await rendering(node);
    const stop = new AbortController();
    const ours = run(node.connection, job, stop.signal);
    await until(() => ours.of('accepted').length > 0);
    expect(await cancelled(node, node.connection, ours.remote)).toBe('done');
    stop.abort(new Error('cancelled'));
    await endedInTime(theirs, node);
    expect(theirs.end).toBe('done');
    await ended(ours);
    expect(node.count('interrupt')).toBe(0);
    expect(node.count('render_begin')).toBe(1);
  },
);

test('an interrupt that falls into the gap before the start is repeated until it holds', async () => {
  const node = await comfyNode({ gapMs: 400, renderMs: 4_000 });
  const stop = new AbortController();
  const ours = run(node.connection, job, stop.signal);
  await until(() => node.double.box.running !== null && ours.of('accepted').length > 0);
  expect(await cancelled(node, node.connection, ours.remote)).toBe('done');
  expect(node.double.box.running).toBeNull();
  expect(node.double.log.find((entry) => entry.what === 'render_end')?.detail).toBe('interrupted');
  expect(node.count('interrupt')).toBeGreaterThan(1);
  stop.abort(new Error('cancelled'));
  await ended(ours);
});

test('cancelling what is finished, unknown or on a dead node is done at once', async () => {
  const node = await comfyNode();
  const ours = await ended(run(node.connection, job));
  expect(await cancelled(node, node.connection, ours.remote)).toBe('done');
  expect(await cancelled(node, node.connection, { promptIds: ['5d1a9e0c-0000-4000-8000-000000000000'] })).toBe('done');
  await node.double.crash();
  expect(await cancelled(node, node.connection, ours.remote)).toBe('done');
  expect(node.count('interrupt')).toBe(0);
});

test('work that ignores the cancel is reported after its time', async () => {
  const node = await comfyNode({}, { cancelMs: 5_000 });
  node.double.faults.next('stuck', { step: 2 });
  const stop = new AbortController();
  const ours = run(node.connection, job, stop.signal);
  await until(() => ours.of('progress').some(({ message }) => message === 'denoising step 1/4'));
  await settle(50);
  expect(await cancelled(node, node.connection, ours.remote)).toMatchObject({ failure: { code: 'node_lost' } });
  stop.abort(new Error('enough'));
  await ended(ours);
});

test.each(['A', 'B', 'old'] as const)(
  'after a restart of the gateway, running work on a %s server is taken up',
  async (profile) => {
    const node = await comfyNode({ profile, renderMs: 5_000 });
    const stop = new AbortController();
    const before = run(node.connection, job, stop.signal);
    await until(() => before.of('accepted').length > 0);
    stop.abort(new Error('killed'));
    await ended(before);
    const after = hear(node.connect().resume(job, before.remote ?? {}, never()));
    await endedInTime(after, node);
    expect(after.end).toBe('done');
    expect(after.of('file')).toHaveLength(1);
    expect(node.count('accept')).toBe(1);
  },
);

test('finished work is taken up without rendering again', async () => {
  const node = await comfyNode();
  const before = await ended(run(node.connection, job));
  const after = await ended(hear(node.connect().resume(job, before.remote ?? {}, never())));
  expect(after.end).toBe('done');
  expect(node.count('accept')).toBe(1);
});

test('a resumed run of several prompts makes only those that are missing', async () => {
  const several = jobOf({ checkpoint: CHECKPOINT, params: { n: 3 } });
  const node = await comfyNode();
  const stop = new AbortController();
  for await (const event of node.connection.run(several, stop.signal)) {
    if (event.type !== 'intent' || (event.remote.promptIds as string[]).length < 2) continue;
    const known = (event.remote.promptIds as string[]).slice(0, 1);
    const after = await ended(hear(node.connect().resume(several, { promptIds: known }, never())));
    expect(after.of('file')).toHaveLength(3);
    break;
  }
  expect(node.count('accept')).toBe(3);
});

test.each([[{ promptIds: ['5d1a9e0c-0000-4000-8000-000000000000'] }], [{ other: true }]])(
  'work that is certainly gone is lost, not waited for: %j',
  async (remote) => {
    const node = await comfyNode();
    const after = await endedInTime(hear(node.connection.resume(job, remote, never())), node);
    expect(failureOf(after).code).toBe('node_lost');
  },
);

test('a sampler that stops between two steps wedges its node until it is restarted', async () => {
  const node = await comfyNode({}, { stepMs: 5_000 });
  node.double.faults.next('stuck');
  const heard = run(node.connection, job);
  await until(() => heard.of('progress').some(({ message }) => message.startsWith('denoising step')));
  await endedInTime(heard, node);
  expect(failureOf(heard).code).toBe('node_lost');
  expect(node.connection.wedged).toBe('its worker hangs');
  await node.connection.probe(never());
  expect(node.connection.wedged).not.toBeNull();
  await node.double.restartEmpty();
  await until(() => node.connection.probe(never()).catch(() => null), 'an answer after the restart');
  expect(node.connection.wedged).toBeNull();
});

test('a model that loads for long is not taken for a hanging one', async () => {
  const node = await comfyNode({ loadMs: 50_000 }, { stepMs: 5_000, coldMs: 60_000 });
  expect((await endedInTime(run(node.connection, job), node)).end).toBe('done');
});

test('a worker that takes no work is told from a slow one: its node is wedged until a restart', async () => {
  const node = await comfyNode({}, { stepMs: 5_000, blindMs: 20_000 });
  node.double.faults.next('dead_worker');
  const heard = await endedInTime(run(node.connection, job), node);
  expect(failureOf(heard).code).toBe('node_lost');
  expect(node.connection.wedged).not.toBeNull();
  await node.double.restartEmpty();
  await until(() => node.connection.probe(never()).catch(() => null), 'an answer after the restart');
  expect(node.connection.wedged).toBeNull();
});

test('waiting behind somebody’s long work is not silence', async () => {
  const node = await comfyNode({ renderMs: 40_000 }, { stepMs: 15_000, coldMs: 15_000, blindMs: 1e9 });
  const theirs = run(node.connect({ coldMs: 1e9, stepMs: 1e9 }), other);
  await rendering(node);
  const ours = run(node.connection, job);
  await accepted(node, 2);
  await endedInTime(theirs, node);
  expect(ours.end).toBeNull();
  expect((await endedInTime(ours, node)).end).toBe('done');
});

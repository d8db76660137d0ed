import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Refusal } from '../../src/backends/backend.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { GRAPH, type JobChanges, jobOf, RECIPE, slot } from './comfyui-jobs.ts';
import {
  bytesOf,
  CHECKPOINT,
  comfyNode,
  ended,
  endedInTime,
  failureOf,
  never,
  run,
  type TestNode,
} from './comfyui-node.ts';

const job = (changes: JobChanges = {}) => jobOf({ checkpoint: CHECKPOINT, ...changes });
const rendering = (node: TestNode) => until(() => node.count('render_begin') > 0, 'a render');
const types = (events: readonly { type: string }[]) =>
  events.map((event) => event.type).filter((type, i, all) => type !== all[i - 1]);

test.each(['A', 'B', 'old'] as const)(
  'a %s server runs a job, and its files come after the node is free',
  async (profile) => {
    const node = await comfyNode({ profile });
    const heard = run(node.connection, job());
    await (profile === 'old' ? endedInTime(heard, node) : ended(heard));
    expect(heard.end).toBe('done');
    expect(types(heard.events).filter((type) => type !== 'progress')).toEqual([
      'intent',
      'accepted',
      'rendered',
      'file',
    ]);
    const [picture] = await bytesOf(heard);
    expect(picture?.subarray(1, 4).toString()).toBe('PNG');
    expect(node.count('accept')).toBe(1);
  },
);

test('with a working socket the end is noticed without a single poll', async () => {
  const node = await comfyNode();
  const before = node.clock.now();
  expect((await ended(run(node.connection, job()))).end).toBe('done');
  expect(node.clock.now()).toBe(before);
});

test('with a deaf socket the end is noticed by the next poll', async () => {
  const node = await comfyNode();
  node.double.faults.on('socket_silent');
  const heard = run(node.connection, job());
  await until(() => node.double.box.history.size === 1);
  await node.clock.advance(1_000);
  expect(heard.end).toBeNull();
  await node.clock.advance(1_000);
  expect((await ended(heard)).end).toBe('done');
});

test('a socket that stays deaf is replaced, under another client id', async () => {
  const node = await comfyNode({ renderMs: ({ graph }) => (graph['3']?.inputs.seed === 7 ? 60_000 : 0) });
  node.double.faults.on('socket_silent');
  const first = await endedInTime(run(node.connection, job()), node);
  node.double.faults.off();
  const second = await ended(run(node.connection, job({ params: { seed: 8 } })));
  expect([first.end, second.end]).toEqual(['done', 'done']);
  const ids = [...node.double.box.history.values()].map(({ prompt }) => prompt.extra.client_id);
  expect(new Set(ids).size).toBe(2);
});

test('nothing is posted before the intent was taken', async () => {
  const node = await comfyNode();
  const events = node.connection.run(job(), never())[Symbol.asyncIterator]();
  const first = await events.next();
  expect(first.value).toMatchObject({
    type: 'intent',
    remote: { promptIds: [expect.stringMatching(/^[0-9a-f-]{36}$/)] },
  });
  await node.connection.probe(never());
  expect(node.count('accept')).toBe(0);
  await events.return?.();
});

test('an old server’s own prompt id replaces ours', async () => {
  const node = await comfyNode({ profile: 'old' });
  const heard = await endedInTime(run(node.connection, job()), node);
  const [intent] = heard.of('intent');
  const [accepted] = heard.of('accepted');
  expect(accepted?.remote).not.toEqual(intent?.remote);
  expect(accepted?.remote).toEqual({ promptIds: [node.double.log.find((entry) => entry.what === 'accept')?.promptId] });
});

test('progress tells loading, denoising, decoding and saving, and never falls', async () => {
  const node = await comfyNode();
  const heard = await ended(run(node.connection, job({ params: { steps: 20 } })));
  const told = heard.of('progress');
  expect(told.map(({ message }) => message.replace(/ \d+\/\d+$/, ''))).toEqual(
    expect.arrayContaining(['loading model', 'denoising step', 'decoding', 'saving']),
  );
  const fractions = told.map(({ fraction }) => fraction);
  expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
});

test.each(['A', 'B'] as const)('previews of a %s server are passed on where they are wanted', async (profile) => {
  const node = await comfyNode({ profile, previews: true });
  const wanted = await ended(run(node.connection, job({ job: { previews: true } })));
  expect(wanted.of('preview')[0]).toMatchObject({ mediaType: 'image/jpeg' });
  const unwanted = await ended(run(node.connection, job({ params: { seed: 8 } })));
  expect(unwanted.of('preview')).toEqual([]);
});

test('pictures that a node sends over the socket are not taken for previews', async () => {
  const node = await comfyNode();
  const graph = { ...GRAPH, '9': { class_type: 'SaveImageWebsocket', inputs: { images: ['8', 0] } } };
  const heard = await ended(run(node.connection, job({ recipe: { graph }, job: { previews: true } })));
  expect(heard.of('preview')).toEqual([]);
  expect(failureOf(heard)).toMatchObject({ code: 'model_error', message: 'The workflow finished without an output.' });
});

test('several outputs without a batch slot are several prompts with rising seeds, announced one by one', async () => {
  const node = await comfyNode();
  const heard = await ended(run(node.connection, job({ params: { n: 3, seed: 40 } })));
  expect(heard.end).toBe('done');
  expect(heard.of('intent').map(({ remote }) => (remote.promptIds as string[]).length)).toEqual([1, 2, 3]);
  expect(types(heard.events).slice(-2)).toEqual(['rendered', 'file']);
  expect(new Set((await bytesOf(heard)).map((bytes) => bytes.toString('base64'))).size).toBe(3);
  const seeds = [...node.double.box.history.values()].map(({ prompt }) => prompt.graph['3']?.inputs.seed);
  expect(seeds).toEqual([40, 41, 42]);
});

test('the same request twice gives fresh files both times', async () => {
  const node = await comfyNode();
  const first = await ended(run(node.connection, job()));
  const again = await ended(run(node.connection, job({ job: { attempt: 2 } })));
  expect(again.of('file')[0]?.file.name).not.toBe(first.of('file')[0]?.file.name);
  expect(await bytesOf(again)).toHaveLength(1);
});

test('input pictures are uploaded and used under the name the node gives them', async () => {
  const node = await comfyNode();
  const path = join(tmpdir(), `darkroom-input-${process.pid}.png`);
  const made = await bytesOf(await ended(run(node.connection, job())));
  await writeFile(path, made[0] ?? '');
  const graph = {
    ...GRAPH,
    '5': { class_type: 'VAEEncode', inputs: { pixels: ['10', 0], vae: ['4', 2] } },
    '10': { class_type: 'LoadImage', inputs: { image: 'nothing.png' } },
  };
  const slots = [
    ...RECIPE.slots.filter(({ name }) => !/width|height/.test(name)),
    slot('init_image', 'image', ['10', 'image']),
  ];
  const file = { role: 'init_image', path, mediaType: 'image/png', sha256: 'ab'.repeat(32), bytes: 1 } as const;
  const heard = await ended(run(node.connection, job({ recipe: { graph, slots }, job: { files: [file] } })));
  expect(heard.end).toBe('done');
  const { prompt } = [...node.double.box.history.values()].at(-1) ?? {};
  expect(prompt?.graph['10']?.inputs.image).toBe(`darkroom/${'ab'.repeat(32)}.png`);
});

test.each(['A', 'B'] as const)('a checkpoint that a %s server lacks is a refusal naming it', async (profile) => {
  const node = await comfyNode({ profile });
  const heard = await ended(run(node.connection, jobOf({ checkpoint: 'nope.safetensors' })));
  expect(heard.end).toBeInstanceOf(Refusal);
  expect(failureOf(heard).message).toBe('The node lacks "nope.safetensors" (CheckpointLoaderSimple.ckpt_name).');
  expect(node.count('render_begin')).toBe(0);
});

test.each(['A', 'B'] as const)('a node class that a %s server lacks is a refusal naming it', async (profile) => {
  const node = await comfyNode({ profile });
  const graph = { ...GRAPH, '99': { class_type: 'StudioMagic', inputs: {} } };
  const heard = await ended(run(node.connection, job({ recipe: { graph } })));
  expect(heard.end).toBeInstanceOf(Refusal);
  expect(failureOf(heard).message).toContain('StudioMagic');
});

test('a job of which the wanted output cannot be made is taken back, although the server accepted it', async () => {
  const node = await comfyNode({ renderMs: 2_000 });
  const graph = {
    ...GRAPH,
    '9': { class_type: 'SaveImage', inputs: { filename_prefix: 'x' } },
    '11': { class_type: 'PreviewImage', inputs: { images: ['8', 0] } },
  };
  const heard = await endedInTime(run(node.connection, job({ recipe: { graph } })), node);
  expect(heard.end).toBeInstanceOf(Refusal);
  expect(node.double.box.remaining).toBe(0);
});

test.each([
  ['oom', 'out_of_memory'],
  ['corrupt_model', 'model_error'],
  ['no_output', 'model_error'],
  ['blocked', 'model_error'],
  ['interrupted', 'node_lost'],
] as const)('%s on the node ends as %s', async (fault, code) => {
  const node = await comfyNode();
  node.double.faults.next(fault);
  const heard = await ended(run(node.connection, job()));
  expect(failureOf(heard).code).toBe(code);
  expect(heard.end).not.toBeInstanceOf(Refusal);
  expect(node.connection.wedged).toBeNull();
});

test.each(['cut_reply', 'error_though_queued'] as const)(
  'a submission whose answer is lost (%s) is found and not repeated',
  async (fault) => {
    const node = await comfyNode();
    node.double.faults.next(fault);
    const heard = await endedInTime(run(node.connection, job()), node);
    expect(heard.end).toBe('done');
    expect(node.count('accept')).toBe(1);
  },
);

test('on a server that numbers by itself, a submission whose answer is lost is found by the names of its files', async () => {
  const node = await comfyNode({ profile: 'old' });
  node.double.faults.next('cut_reply');
  const heard = await endedInTime(run(node.connection, job()), node);
  expect(heard.end).toBe('done');
  expect(node.count('accept')).toBe(1);
});

test('a submission that certainly did not arrive is repeated once', async () => {
  const node = await comfyNode();
  await node.connection.probe(never());
  node.double.faults.next('bad_gateway');
  const heard = await endedInTime(run(node.connection, job()), node);
  expect(heard.end).toBe('done');
  expect(node.count('accept')).toBe(1);
});

test('a server that dies during the run loses it', async () => {
  const node = await comfyNode();
  node.double.faults.next('crash', { ms: 1e9 });
  const heard = await endedInTime(run(node.connection, job()), node);
  expect(failureOf(heard).code).toBe('node_lost');
});

test('a restart behind our back is noticed by the empty history and queue', async () => {
  const node = await comfyNode({ renderMs: 1e9 });
  const heard = run(node.connection, job());
  await rendering(node);
  await node.double.restartEmpty();
  expect(failureOf(await endedInTime(heard, node)).code).toBe('node_lost');
});

test('a broken socket does not end a run', async () => {
  const node = await comfyNode();
  node.double.faults.next('drop_socket');
  const heard = await endedInTime(run(node.connection, job()), node);
  expect(heard.end).toBe('done');
});

test('a socket that broke is replaced by the next job, once', async () => {
  const node = await comfyNode();
  await ended(run(node.connection, job()));
  node.double.dropSockets();
  await until(() => node.double.sockets === 0);
  await settle(100);
  expect((await endedInTime(run(node.connection, job({ params: { seed: 8 } })), node)).end).toBe('done');
  await node.clock.advance(5_000);
  await settle(100);
  expect(node.double.sockets).toBe(1);
});

test('NaN in the history does not hide the result', async () => {
  const node = await comfyNode();
  node.double.faults.on('nan_json');
  expect((await ended(run(node.connection, job()))).end).toBe('done');
});

test.each(['view_404', 'view_truncated', 'view_html'] as const)(
  'a result that comes as %s is the node’s loss, and can be opened again',
  async (fault) => {
    const node = await comfyNode();
    const heard = await ended(run(node.connection, job()));
    const [file] = heard.of('file').map((event) => event.file);
    const fetched = async () => (await file?.open(never()))?.toArray();
    node.double.faults.next(fault);
    await expect(fetched()).rejects.toMatchObject({ failure: { code: 'node_lost' } });
    expect(Buffer.concat((await fetched()) as Buffer[]).length).toBeGreaterThan(100);
    expect(node.count('accept')).toBe(1);
  },
);

test('an abort ends the run with the reason given', async () => {
  const node = await comfyNode({ renderMs: 1e9 });
  const stop = new AbortController();
  const heard = run(node.connection, job(), stop.signal);
  await rendering(node);
  const reason = new GatewayError('cancelled_by_caller');
  stop.abort(reason);
  expect((await ended(heard)).end).toBe(reason);
});

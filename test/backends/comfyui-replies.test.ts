import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { Refusal } from '../../src/backends/backend.ts';
import { collect } from '../../src/backends/comfyui/collect.ts';
import { type Hint, parseBinary, parseText } from '../../src/backends/comfyui/frames.ts';
import { topLevelKeys } from '../../src/backends/comfyui/keys.ts';
import { requireSuccess } from '../../src/backends/comfyui/outcome.ts';
import { createProgress, phaseOf, type Report } from '../../src/backends/comfyui/progress.ts';
import { lostOutputs, refusalFrom } from '../../src/backends/comfyui/refusal.ts';
import {
  acceptedReply,
  type HistoryEntry,
  historyReply,
  parseJson,
  refusedReply,
} from '../../src/backends/comfyui/replies.ts';
import type { Server } from '../../src/backends/comfyui/server.ts';
import type { Graph } from '../../src/domain/model.ts';
import { silentLog } from '../../src/system/system.ts';
import { capture, GRAPH, type Recorded } from './comfyui-jobs.ts';

const served = (name: string, http: string): unknown => capture(name).find((line) => line.http === http)?.response;
const entryOf = (name: string): HistoryEntry => {
  const [entry] = Object.values(historyReply.parse(served(name, 'GET /history/{id}')));
  if (!entry) throw new Error(`${name} has no history entry`);
  return entry;
};
const hintsOf = (lines: readonly Recorded[]): Hint[] =>
  lines.flatMap((line) => {
    if (line.dir !== 's2c') return [];
    const hint = line.json
      ? parseText(JSON.stringify(line.json))
      : parseBinary(Buffer.from(line.head_hex ?? '', 'hex'));
    return hint ?? [];
  });
const namesOf = (entry: HistoryEntry, wanted: readonly string[]) =>
  collect({} as Server, entry, wanted).map((file) => file.name);
const failureOf = (entry: HistoryEntry) => {
  try {
    requireSuccess(entry, silentLog);
    return null;
  } catch (error) {
    return (error as Refusal).failure;
  }
};

test('a missing checkpoint is a refusal that names the file and its loader', () => {
  const refusal = refusalFrom(refusedReply.parse(served('10-missing-checkpoint-400', 'POST /prompt')));
  expect(refusal).toBeInstanceOf(Refusal);
  expect(refusal.failure).toEqual({
    code: 'model_error',
    message: 'The node lacks "nope.safetensors" (CheckpointLoaderSimple.ckpt_name).',
  });
});

test('a missing node class is a refusal that names it, in the spelling of both server generations', () => {
  const older = refusedReply.parse(served('11-missing-node-400', 'POST /prompt'));
  expect(refusalFrom(older).message).toBe('The node lacks the node class NoSuchNode.');
  const newer = refusedReply.parse({
    error: {
      type: 'missing_node_type',
      message: 'm',
      details: '',
      extra_info: { class_type: 'NoSuchNode', node_id: '1' },
    },
    node_errors: {},
  });
  expect(refusalFrom(newer).message).toBe('The node lacks the node class NoSuchNode.');
});

test('a 200 with errors on a wanted output is a refusal, on another output it is not', () => {
  const { node_errors } = acceptedReply.parse(served('12-partially-invalid-200', 'POST /prompt'));
  expect(lostOutputs(node_errors, ['2'])?.message).toContain('SaveImage.images');
  expect(lostOutputs(node_errors, ['3'])).toBeNull();
  expect(lostOutputs(node_errors, [])).toBeInstanceOf(Refusal);
});

test('a recorded out-of-memory error is recognised', () => {
  expect(failureOf(entryOf('08-error-oom-with-partial-output'))?.code).toBe('out_of_memory');
});

test('a failing node is a model error that tells class and exception but no text of the server', () => {
  const failure = failureOf(entryOf('07-error-corrupt-checkpoint'));
  expect(failure).toEqual({ code: 'model_error', message: 'CheckpointLoaderSimple failed with SafetensorError.' });
});

test('an interrupt by somebody at the box is the node’s loss, not the model’s error', () => {
  expect(failureOf(entryOf('06-interrupted'))).toEqual({
    code: 'node_lost',
    message: 'The run was interrupted on the node.',
  });
});

test('a blocked branch is no failure of the run', () => {
  expect(failureOf(entryOf('09-execution-blocked'))).toBeNull();
  expect(namesOf(entryOf('09-execution-blocked'), [])).toEqual([]);
});

test('a GPU that needs a restart loses the node', () => {
  const data = {
    exception_type: 'RuntimeError',
    exception_message: 'CUDA error: an illegal memory access',
    node_type: 'K',
  };
  const status = { status_str: 'error', messages: [['execution_error', data]] as [string, typeof data][] };
  expect(failureOf({ outputs: {}, status })?.code).toBe('node_lost');
});

test('results are collected from declared nodes only, and previews count only where there is nothing else', () => {
  expect(namesOf(entryOf('05-ksampler-metadata-previews'), ['9'])).toEqual(['k_00002_.png']);
  expect(namesOf(entryOf('05-ksampler-metadata-previews'), ['8'])).toEqual([]);
  expect(namesOf(entryOf('12-partially-invalid-200'), [])).toEqual(['ComfyUI_temp_rcxbj_00001_.png']);
  const outputs = {
    '1': { images: [{ filename: 'p.png', subfolder: '', type: 'temp' }] },
    '2': { images: [{ filename: 'r.png', subfolder: 'd', type: 'output', extra: 1 }], animated: [true] },
  };
  expect(namesOf({ outputs }, [])).toEqual(['r.png']);
});

test('files are found under whatever key a node puts them', () => {
  const file = (filename: string) => ({ filename, subfolder: '', type: 'output' });
  const outputs = {
    '1': { gifs: [{ ...file('a.mp4'), format: 'video/h264-mp4', fullpath: '/srv/a.mp4' }] },
    '2': { audio: [file('b.flac')], '3d': [file('c.glb')], video: [file('d.webm')], count: 4, text: ['spoken'] },
  };
  expect(namesOf({ outputs }, [])).toEqual(['a.mp4', 'b.flac', 'c.glb', 'd.webm']);
  expect(collect({} as Server, { outputs }, ['1'])[0]?.mediaType).toBe('video/h264-mp4');
});

test('text is a result where a node makes nothing else', async () => {
  const [file] = collect({} as Server, entryOf('14-text-progress-and-text-output'), []);
  const opened = await file?.open(new AbortController().signal);
  expect(await opened?.toArray()).toEqual([Buffer.from('yo')]);
});

test('pictures that went over the socket leave a success without outputs', () => {
  expect(failureOf(entryOf('13-saveimagewebsocket'))).toBeNull();
  expect(namesOf(entryOf('13-saveimagewebsocket'), [])).toEqual([]);
});

test.each(['04-ksampler-legacy-previews', '05-ksampler-metadata-previews', '06-interrupted'])(
  'the progress of %s rises through its phases and never falls',
  (name) => {
    const progress = createProgress(GRAPH);
    const reports: Report[] = [];
    hintsOf(capture(name)).forEach((hint, i) => {
      progress.note(hint);
      reports.push(...[progress.due(i * 100)].flatMap((report) => report ?? []));
    });
    const fractions = reports.map((report) => report.fraction);
    expect(fractions.length).toBeGreaterThan(2);
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(Math.max(...fractions)).toBeLessThan(1);
    expect(reports.some(({ message }) => /^denoising step \d+\/\d+$/.test(message))).toBe(true);
  },
);

test('a second sampler pass does not take the fraction back', () => {
  const progress = createProgress(GRAPH);
  const at = (value: number) => {
    progress.note({ type: 'step', promptId: 'p', node: '3', value, max: 10 });
    return progress.due(value * 1_000_000)?.fraction;
  };
  const high = at(9);
  expect(at(10)).toBeGreaterThan(high ?? 1);
  progress.note({ type: 'step', promptId: 'p', node: '3', value: 1, max: 10 });
  expect(progress.due(1e9)?.fraction).toBeGreaterThan(high ?? 1);
});

test('progress is told on a new phase, after ten per cent or after a second, and not otherwise', () => {
  const progress = createProgress(GRAPH);
  const step = (value: number, now: number) => {
    progress.note({ type: 'step', promptId: 'p', node: '3', value, max: 50 });
    return progress.due(now)?.message ?? null;
  };
  progress.note({ type: 'node', promptId: 'p', node: '4' });
  expect(progress.due(0)?.message).toBe('loading model');
  expect(step(1, 1)).toBe('denoising step 1/50');
  expect(step(2, 2)).toBeNull();
  expect(step(3, 1_100)).toBe('denoising step 3/50');
  expect(step(15, 1_101)).toBe('denoising step 15/50');
  progress.note({ type: 'node', promptId: 'p', node: '8' });
  expect(progress.due(1_102)?.message).toBe('decoding');
});

test('a cached loader means that a silent sampler is not loading', () => {
  const message = (cached: string[]) => {
    const progress = createProgress(GRAPH);
    progress.note({ type: 'started', promptId: 'p', cached });
    progress.note({ type: 'node', promptId: 'p', node: '3' });
    return progress.due(0)?.message;
  };
  expect(message([])).toBe('loading model');
  expect(message(['4'])).toBe('denoising');
});

test.each([
  ['KSampler', 'sampler'],
  ['SamplerCustomAdvanced', 'sampler'],
  ['WanVideoSampler', 'sampler'],
  ['KSamplerSelect', 'other'],
  ['SamplerEulerAncestral', 'other'],
  ['BasicScheduler', 'other'],
  ['UNETLoader', 'loader'],
  ['CheckpointLoaderSimple', 'loader'],
  ['LoadImage', 'other'],
  ['VAEDecodeTiled', 'decoder'],
  ['SaveAnimatedWEBP', 'saver'],
  ['VHS_VideoCombine', 'saver'],
])('%s is a %s', (classType, phase) => {
  expect(phaseOf(classType)).toBe(phase);
});

test('frames of other kinds, foreign types and broken frames say nothing', () => {
  expect(hintsOf(capture('14-text-progress-and-text-output')).map((hint) => hint.type)).not.toContain('preview');
  expect(parseText('{"type":"crystools.monitor","data":{"cpu":1}}')).toBeNull();
  expect(parseText('{"type":"custom","data":{"prompt_id":"p"}}')).toBeNull();
  expect(parseText('no json')).toBeNull();
  expect(parseBinary(Buffer.alloc(3))).toBeNull();
  expect(parseBinary(Buffer.from('0000000400ffffff7b', 'hex'))).toBeNull();
});

test('previews of both kinds are read, with what they tell of prompt and node', () => {
  const old = Buffer.concat([Buffer.from('0000000100000001', 'hex'), Buffer.from('JPEG')]);
  expect(parseBinary(old)).toEqual({
    type: 'preview',
    promptId: null,
    node: null,
    mediaType: 'image/jpeg',
    bytes: Buffer.from('JPEG'),
  });
  const line = capture('05-ksampler-metadata-previews').find((l) => l.event === 4);
  const json = Buffer.from(JSON.stringify(line?.metadata));
  const head = Buffer.alloc(8);
  head.writeUInt32BE(4, 0);
  head.writeUInt32BE(json.length, 4);
  const hint = parseBinary(Buffer.concat([head, json, Buffer.from('JPEG')]));
  expect(hint).toMatchObject({ promptId: line?.metadata?.prompt_id, node: '3', bytes: Buffer.from('JPEG') });
});

test('bare NaN and Infinity are read as null, and left alone inside text', () => {
  expect(parseJson('{"a": NaN, "b": -Infinity, "c": "NaN \\" Infinity", "d": [Infinity]}')).toEqual({
    a: null,
    b: null,
    c: 'NaN " Infinity',
    d: [null],
  });
  expect(() => parseJson('<html>')).toThrow(SyntaxError);
});

test.each([
  ['a string of quotes that never ends', `{"a": NaN, "b": "${'\\"'.repeat(2_000_000)}`],
  ['a string that ends in a backslash', `{"a": NaN, "b": "${'x'.repeat(2_000_000)}\\`],
  ['quotes and nothing else', `NaN${'"'.repeat(2_000_001)}`],
  ['constants and nothing else', 'NaN'.repeat(1_000_000)],
])('broken JSON is given up on after one reading, however long: %s', (_, raw) => {
  expect(() => parseJson(raw)).toThrow(SyntaxError);
});

test('the keys of a streamed object are found wherever the pieces are cut', async () => {
  const object = { A: { input: { x: ['{"', 1] } }, 'B "q" \\': {}, ünï: { list: [{ deep: NaN }] }, C: 'A: {' };
  const raw = Buffer.from(JSON.stringify(object).replace(':null', ': NaN'));
  for (const size of [1, 2, 7, raw.length]) {
    const pieces = Array.from({ length: Math.ceil(raw.length / size) }, (_, i) =>
      raw.subarray(i * size, (i + 1) * size),
    );
    expect(await topLevelKeys(Readable.from(pieces))).toEqual(Object.keys(object));
  }
  await expect(topLevelKeys(Readable.from([raw.subarray(0, -1)]))).rejects.toThrow(SyntaxError);
});

test('a graph without a known node still has a fraction', () => {
  const graph: Graph = {};
  const progress = createProgress(graph);
  progress.note({ type: 'node', promptId: 'p', node: '1' });
  expect(progress.due(0)).toEqual({ fraction: 0, message: 'preparing' });
});

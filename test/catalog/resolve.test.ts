// A request against a model: defaults filled in, what is impossible refused by path, what is ignored said aloud.

import { beforeAll, describe, expect, test } from 'vitest';
import { openCatalog, requestHash, resolveParams, type Snapshot } from '../../src/catalog/catalog.ts';
import type { GenerationRequest } from '../../src/contract/generations.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import type { InputRef } from '../../src/domain/params.ts';
import { silentLog } from '../../src/system/system.ts';
import { ManualClock } from '../harness/manual-clock.ts';
import { catalogFiles, GRAPH, SLOTS } from './files.ts';

const CATALOG = `models:
  draw:
    kind: image
    capabilities: [text-to-image, image-to-image, lora, negative-prompt, seed, guidance]
    price: 1
    limits: {max_pixels: 2097152, min_side: 256, max_side: 2048, multiple_of: 16, max_n: 4, max_steps: 50}
    defaults: {width: 1024, height: 1024, guidance: 4, inputs: {amount: 0.25}}
    routes: [{backend: comfyui, workflow: tiny, checkpoint: base.safetensors}, {backend: sdapi, checkpoint: base}]
  plain:
    kind: image
    capabilities: [text-to-image]
    price: 1
    defaults: {width: 512, height: 512, inputs: {style: bold}}
    routes: [{backend: openai, remote: picture-1}]
  text-only:
    kind: image
    capabilities: [text-to-image, image-to-image]
    price: 1
    routes: [{backend: comfyui, workflow: tiny, checkpoint: base.safetensors}]
  repaint:
    kind: image
    capabilities: [inpainting]
    price: 1
    routes: [{backend: sdapi}]
  tagged:
    kind: image
    capabilities: [text-to-image, lora]
    price: 1
    routes: [{backend: comfyui, workflow: tagged, checkpoint: base.safetensors}]
  enlarge:
    kind: image
    capabilities: [upscale]
    price: 1
    routes: [{backend: sdapi}]
  sound:
    kind: audio
    capabilities: [text-to-audio]
    price: 1
    routes: [{backend: fal, remote: fal-ai/sound}]
`;

let snapshot: Snapshot;
beforeAll(async () => {
  const slots = SLOTS.replace(
    'slots:\n',
    'slots:\n  tag: {type: string, required: true, description: the tag, fills: [9.inputs.filename_prefix]}\n',
  );
  using files = catalogFiles(CATALOG, {
    'tiny.json': JSON.stringify(GRAPH),
    'tiny.slots.yaml': SLOTS,
    'tagged.json': JSON.stringify(GRAPH),
    'tagged.slots.yaml': slots.replace(/^loras:.*\n/m, ''),
  });
  const options = { clock: new ManualClock(), log: silentLog, watch: false };
  ({ current: snapshot } = await openCatalog({ models: files.models, workflows: [files.workflows], ...options }));
});

const PICTURE: InputRef = {
  kind: 'blob',
  blob: 'b',
  sha256: 'b',
  mediaType: 'image/png',
  width: 1000,
  height: 600,
  bytes: 1,
};

function resolve(id: string, request: GenerationRequest) {
  const model = snapshot.models.get(id);
  if (!model) throw new Error(`no model ${id}`);
  const initImage = request.init_image === undefined ? null : PICTURE;
  const mask = request.mask === undefined ? null : PICTURE;
  return resolveParams(snapshot, model, request, 7, { initImage, mask });
}

function refused(id: string, request: GenerationRequest) {
  try {
    resolve(id, request);
  } catch (error) {
    if (error instanceof GatewayError) return { code: error.failure.code, details: error.failure.details ?? [] };
    throw error;
  }
  throw new Error('accepted');
}

const UPLOAD = 'upl_01HWX2K8Y4N5R7P9Q1B3T6V8M0';
const hashOf = (request: GenerationRequest) =>
  requestHash('draw', resolve('draw', request).params, request.softened_prompt ?? null);

describe('what is asked for is kept, what is not is filled in', () => {
  test('defaults come from the catalog, then from the workflow', () => {
    expect(resolve('draw', { prompt: 'a fox' })).toEqual({
      warnings: [],
      params: {
        prompt: 'a fox',
        negativePrompt: null,
        width: 1024,
        height: 1024,
        seed: 7,
        steps: 20,
        guidance: 4,
        sampler: null,
        scheduler: null,
        n: 1,
        loras: [],
        initImage: null,
        mask: null,
        strength: null,
        inputs: { amount: 0.25, mode: 'soft', twice: false },
        output: {},
      },
    });
  });

  test('given values win', () => {
    const { params } = resolve('draw', {
      prompt: 'a fox',
      negative_prompt: 'fog',
      steps: 12,
      guidance: 2,
      sampler: 'Euler',
      n: 3,
      inputs: { mode: 'hard' },
      output: { format: 'webp', max_side: 512 },
    });
    expect(params).toMatchObject({ negativePrompt: 'fog', steps: 12, guidance: 2, sampler: 'Euler', n: 3 });
    expect(params.inputs).toEqual({ amount: 0.25, mode: 'hard', twice: false });
    expect(params.output).toEqual({ format: 'webp', maxSide: 512 });
  });
});

describe('sizes', () => {
  const sized: readonly (readonly [GenerationRequest, number, number])[] = [
    [{ size: '512x768' }, 512, 768],
    [{ width: 512 }, 512, 1024],
    [{ height: 512, width: 2048 }, 2048, 512],
    [{ aspect_ratio: '16:9' }, 1360, 768],
    [{ aspect_ratio: '1:1' }, 1024, 1024],
    [{ aspect_ratio: '3:4' }, 880, 1184],
  ];
  test.each(sized)('%j is %i × %i', (request, width, height) => {
    expect(resolve('draw', { prompt: 'x', ...request }).params).toMatchObject({ width, height });
  });

  const wrong: readonly (readonly [GenerationRequest, readonly string[]])[] = [
    [{ size: '512x512', aspect_ratio: '1:1' }, ['size', 'aspect_ratio']],
    [{ size: '512x512', width: 512, height: 512 }, ['size', 'width']],
    [{ width: 1000 }, ['width']],
    [{ width: 100, height: 4096 }, ['width', 'height']],
    [{ size: '1000x512' }, ['size']],
    [{ size: '2048x2048' }, ['size']],
    [{ width: 2048, height: 2048 }, ['width']],
    [{ aspect_ratio: '100:1' }, ['aspect_ratio', 'aspect_ratio']],
  ];
  test.each(wrong)('%j is refused, never clamped', (request, paths) => {
    const { code, details } = refused('draw', { prompt: 'x', ...request });
    expect(code).toBe('invalid_request');
    expect(details.map((d) => d.path)).toEqual(paths);
  });

  test('a picture that comes in sets the size by default, fitted onto the grid', () => {
    expect(resolve('draw', { prompt: 'x', init_image: UPLOAD }).params).toMatchObject({ width: 1008, height: 608 });
    expect(resolve('draw', { prompt: 'x', init_image: UPLOAD, size: '512x512' }).params).toMatchObject({ width: 512 });
  });

  test('a model without a size refuses one', () => {
    expect(resolve('sound', { prompt: 'rain' }).params).toMatchObject({ width: null, height: null });
    expect(refused('sound', { prompt: 'rain', size: '512x512' }).details).toEqual([
      { path: 'size', message: 'sound takes no size' },
    ]);
  });
});

describe('what a model lacks', () => {
  test('parameters it ignores become warnings, one each, and are left out', () => {
    const { params, warnings } = resolve('plain', {
      prompt: 'x',
      negative_prompt: 'fog',
      guidance: 3,
      steps: 9,
      sampler: 'a',
      scheduler: 'b',
    });
    expect(warnings.map((w) => /take (\w+);/.exec(w)?.[1])).toEqual([
      'negative_prompt',
      'guidance',
      'steps',
      'sampler',
      'scheduler',
    ]);
    expect(params).toMatchObject({ negativePrompt: null, guidance: null, steps: null, sampler: null, scheduler: null });
  });

  const lacks: readonly (readonly [GenerationRequest, string])[] = [
    [{ init_image: UPLOAD }, 'init_image'],
    [{ loras: [{ name: 'a', strength: 1 }] }, 'loras'],
  ];
  test.each(lacks)('%j is unsupported_input', (request, path) => {
    expect(refused('plain', { prompt: 'x', ...request })).toMatchObject({
      code: 'unsupported_input',
      details: [{ path }],
    });
  });

  test('a mask for a model that does not inpaint is unsupported_input', () => {
    expect(refused('draw', { prompt: 'x', init_image: UPLOAD, mask: UPLOAD })).toMatchObject({
      code: 'unsupported_input',
      details: [{ path: 'mask' }],
    });
  });

  test('LoRAs that no workflow of the model has a place for are unsupported_input', () => {
    const request = { prompt: 'x', inputs: { tag: 'a' }, loras: [{ name: 'a', strength: 1 }] };
    expect(refused('tagged', request)).toMatchObject({ code: 'unsupported_input', details: [{ path: 'loras' }] });
  });

  test('a picture that no workflow of the model has a slot for is unsupported_input', () => {
    expect(refused('text-only', { prompt: 'x', init_image: UPLOAD }).code).toBe('unsupported_input');
  });
});

describe('what a model needs', () => {
  const needs: readonly (readonly [string, GenerationRequest, readonly string[]])[] = [
    ['draw', {}, ['prompt']],
    ['draw', { prompt: '  ' }, ['prompt']],
    ['sound', {}, ['prompt']],
    ['enlarge', { prompt: 'x' }, ['init_image']],
    ['repaint', { prompt: 'x' }, ['init_image', 'mask']],
    ['repaint', { prompt: 'x', init_image: UPLOAD }, ['mask']],
    ['repaint', { prompt: 'x', mask: UPLOAD }, ['init_image']],
    ['draw', { prompt: 'x', n: 5 }, ['n']],
    ['draw', { prompt: 'x', steps: 51 }, ['steps']],
  ];
  test.each(needs)('%s refuses %j', (id, request, paths) => {
    const { code, details } = refused(id, request);
    expect(code).toBe('invalid_request');
    expect(details.map((d) => d.path)).toEqual(paths);
  });

  test('an upscaler needs no prompt', () => {
    expect(resolve('enlarge', { init_image: UPLOAD }).params).toMatchObject({ prompt: '', initImage: PICTURE });
  });
});

describe('inputs', () => {
  const wrong: readonly (readonly [GenerationRequest['inputs'], string, RegExp])[] = [
    [{ colour: 1 }, 'inputs.colour', /unknown input; draw has amount, mode, twice/],
    [{ prompt: 'x' }, 'inputs.prompt', /unknown input/],
    [{ constructor: 'x' }, 'inputs.constructor', /unknown input/],
    [{ amount: 2 }, 'inputs.amount', /expected at most 1/],
    [{ amount: 'much' }, 'inputs.amount', /expected a number/],
    [{ mode: 'loud' }, 'inputs.mode', /expected one of soft, hard/],
    [{ twice: 1 }, 'inputs.twice', /expected true or false/],
  ];
  test.each(wrong)('%j is refused by name', (inputs, path, message) => {
    const { code, details } = refused('draw', { prompt: 'x', ...(inputs ? { inputs } : {}) });
    expect(code).toBe('invalid_request');
    expect(details).toEqual([{ path, message: expect.stringMatching(message) }]);
  });

  test('a required input is asked for in the words of its declaration', () => {
    expect(refused('tagged', { prompt: 'x' }).details).toEqual([
      { path: 'inputs.tag', message: 'expected a value: the tag' },
    ]);
  });

  test('a model without workflows takes the inputs that its defaults declare', () => {
    expect(resolve('plain', { prompt: 'x', inputs: { style: 'thin' } }).params.inputs).toEqual({ style: 'thin' });
    expect(refused('plain', { prompt: 'x', inputs: { style: 3 } }).details).toMatchObject([{ path: 'inputs.style' }]);
    expect(refused('plain', { prompt: 'x', inputs: { mood: 'x' } }).details).toMatchObject([{ path: 'inputs.mood' }]);
  });
});

describe('the identity of a request', () => {
  const base: GenerationRequest = { prompt: 'a fox', width: 512, height: 768 };
  const same: readonly GenerationRequest[] = [
    { height: 768, width: 512, prompt: 'a fox' },
    { prompt: 'a fox', size: '512x768' },
    {
      ...base,
      seed: 3,
      wait: true,
      metadata: { a: 1 },
      priority: 'batch',
      webhook_url: 'https://a.b',
      batch_id: 'batch_1',
    },
    {
      ...base,
      start_within_seconds: 1,
      run_within_seconds: 2,
      max_credits: 3,
      fallback: 'none',
      idempotency_key: 'k',
      model: 'alias',
    },
    { ...base, n: 1, loras: [], inputs: {}, output: {} },
    { ...base, negative_prompt: '' },
    { ...base, guidance: 4 }, // which this model does not take
    { ...base, strength: 0.5 }, // which means nothing without an init_image
  ];
  test.each(same)('%j is the same picture', (request) => {
    expect(hashOf(request)).toBe(hashOf(base));
  });

  const other: readonly GenerationRequest[] = [
    { ...base, prompt: 'a wolf' },
    { ...base, width: 768 },
    { ...base, n: 2 },
    { ...base, steps: 4 },
    { ...base, negative_prompt: 'blur' },
    { ...base, softened_prompt: 'a calm fox' },
    { ...base, sampler: 'euler' },
    { ...base, scheduler: 'karras' },
    { ...base, init_image: UPLOAD },
    { ...base, inputs: { amount: 1 } },
    { ...base, output: { format: 'png' } },
    { ...base, loras: [{ name: 'a', strength: 1 }] },
  ];
  test.each(other)('%j is another picture', (request) => {
    expect(hashOf(request)).not.toBe(hashOf(base));
  });

  test('another model makes another picture', () => {
    const { params } = resolve('draw', base);
    expect(requestHash('plain', params, null)).not.toBe(requestHash('draw', params, null));
  });
});

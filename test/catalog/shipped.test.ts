// The catalog and the workflows that ship: every model can be asked for, and every graph is one that ComfyUI's own
// nodes can run.

import { resolve } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { findModel, openCatalog, recipeFor, resolveParams, type Snapshot } from '../../src/catalog/catalog.ts';
import type { GenerationRequest } from '../../src/contract/generations.ts';
import type { Capability, Graph } from '../../src/domain/model.ts';
import type { InputRef } from '../../src/domain/params.ts';
import { silentLog } from '../../src/system/system.ts';
import { ManualClock } from '../harness/manual-clock.ts';
import { catalogFiles } from './files.ts';

const HOUSE = resolve(import.meta.dirname, '../..');
let catalog: Snapshot;

beforeAll(async () => {
  const { current } = await openCatalog({
    models: resolve(HOUSE, 'models.yaml'),
    workflows: [resolve(HOUSE, 'config/workflows')],
    clock: new ManualClock(),
    log: silentLog,
    watch: false,
  });
  catalog = current;
});

const PICTURE: InputRef = {
  kind: 'blob',
  blob: 'b',
  sha256: 'b',
  mediaType: 'image/png',
  width: 640,
  height: 480,
  bytes: 1,
};
const FROM_TEXT: readonly Capability[] = ['text-to-image', 'text-to-video', 'text-to-audio'];
const UPLOAD = 'upl_01HWX2K8Y4N5R7P9Q1B3T6V8M0';

test('every model that agents ask for is there, retired names included', () => {
  const asked = [
    'flux-1.1-pro',
    'flux-dev',
    'flux-schnell',
    'sdxl',
    'sdxl-lightning',
    'ideogram',
    'imagen',
    'playground',
    'hidream',
    'sketch',
  ];
  const retired = ['ideogram-v2', 'imagen-3', 'playground-v3', 'upscale', 'inpaint', 'wan-video', 'stable-audio'];
  for (const name of [...asked, ...retired]) expect(findModel(catalog, name), name).toBeDefined();
});

test('sketch is free, everything else has a price', () => {
  for (const { id, price } of catalog.models.values()) {
    const sum = price.perOutput + price.perMegapixel + price.perStep + price.perSecond + price.perNodeSecond;
    expect(sum > 0, id).toBe(id !== 'sketch');
  }
});

test('every model takes a request with nothing but what it needs', () => {
  for (const model of catalog.models.values()) {
    const pictured = !FROM_TEXT.some((c) => model.capabilities.has(c));
    const masked = model.id === 'inpaint';
    const request: GenerationRequest = {
      prompt: 'a fox',
      ...(pictured ? { init_image: UPLOAD } : {}),
      ...(masked ? { mask: UPLOAD } : {}),
    };
    const pictures = { initImage: pictured ? PICTURE : null, mask: masked ? PICTURE : null };
    expect(resolveParams(catalog, model, request, 1, pictures).warnings, model.id).toEqual([]);
  }
});

test('a picture takes local models to the workflow for it', () => {
  const runs = (id: string, pictures: { initImage: InputRef | null; mask: InputRef | null }) => {
    const route = catalog.models.get(id)?.routes[0];
    return route && recipeFor(catalog, route, pictures)?.name;
  };
  expect(runs('sdxl', { initImage: null, mask: null })).toBe('txt2img');
  expect(runs('sdxl', { initImage: PICTURE, mask: null })).toBe('img2img');
  expect(runs('sdxl', { initImage: PICTURE, mask: PICTURE })).toBe('inpaint');
  expect(runs('flux-dev', { initImage: PICTURE, mask: null })).toBe('flux-img2img');
});

test('a model written as the documentation shows it is taken with the shipped workflows', async () => {
  const documented = `models:
  flux-dev:
    name: FLUX.1 dev
    kind: image                       # image | video | audio
    best_for: Hero shots with crisp geometry; mangles text longer than a word.
    capabilities: [text-to-image, image-to-image, lora, seed, guidance]
    price: 2.5
    limits: {max_pixels: 4194304, multiple_of: 16, max_n: 4, max_steps: 50}
    defaults: {width: 1024, height: 1024, steps: 28, guidance: 3.5}
    estimate_seconds: 14
    fallback: [flux-schnell]
    routes:                           # tried in order
      - {backend: comfyui, workflow: flux, checkpoint: flux1-dev-fp8.safetensors, labels: [big]}
      - {backend: replicate, remote: black-forest-labs/flux-dev}
  flux-schnell:
    kind: image
    capabilities: [text-to-image]
    price: {per_output: 0.1, per_megapixel: 0.2, per_step: 0.01, per_second: 0, per_node_second: 0.05}
    routes: [{backend: comfyui, checkpoint: flux1-schnell-fp8.safetensors}]
aliases: {imagen-3: flux-dev}
`;
  using files = catalogFiles(documented, {});
  const { current } = await openCatalog({
    models: files.models,
    workflows: [files.workflows, resolve(HOUSE, 'config/workflows')],
    clock: new ManualClock(),
    log: silentLog,
    watch: false,
  });
  expect(current.models.get('flux-dev')?.routes).toMatchObject([
    { workflow: 'flux', labels: ['big'] },
    { backend: 'replicate' },
  ]);
  expect(current.models.get('flux-schnell')?.routes).toMatchObject([{ workflow: 'txt2img' }]);
});

/** Required inputs of ComfyUI's own nodes, and what each output is. */
const NODES: Readonly<Record<string, readonly [inputs: string, outputs: string]>> = {
  CheckpointLoaderSimple: ['ckpt_name', 'MODEL CLIP VAE'],
  UNETLoader: ['unet_name weight_dtype', 'MODEL'],
  CLIPLoader: ['clip_name type device', 'CLIP'],
  VAELoader: ['vae_name', 'VAE'],
  CLIPTextEncode: ['text clip:CLIP', 'CONDITIONING'],
  FluxGuidance: ['guidance conditioning:CONDITIONING', 'CONDITIONING'],
  ModelSamplingSD3: ['shift model:MODEL', 'MODEL'],
  EmptyLatentImage: ['width height batch_size', 'LATENT'],
  EmptySD3LatentImage: ['width height batch_size', 'LATENT'],
  EmptyHunyuanLatentVideo: ['width height length batch_size', 'LATENT'],
  EmptyLatentAudio: ['seconds batch_size', 'LATENT'],
  KSampler: [
    'seed steps cfg sampler_name scheduler denoise model:MODEL positive:CONDITIONING negative:CONDITIONING latent_image:LATENT',
    'LATENT',
  ],
  VAEDecode: ['samples:LATENT vae:VAE', 'IMAGE'],
  VAEEncode: ['pixels:IMAGE vae:VAE', 'LATENT'],
  VAEDecodeAudio: ['samples:LATENT vae:VAE', 'AUDIO'],
  ConditioningStableAudio: [
    'seconds_start seconds_total positive:CONDITIONING negative:CONDITIONING',
    'CONDITIONING CONDITIONING',
  ],
  LoadImage: ['image', 'IMAGE MASK'],
  LoadImageMask: ['image channel', 'MASK'],
  ImageScale: ['upscale_method width height crop image:IMAGE', 'IMAGE'],
  SetLatentNoiseMask: ['samples:LATENT mask:MASK', 'LATENT'],
  ImageCompositeMasked: ['x y resize_source destination:IMAGE source:IMAGE mask:MASK', 'IMAGE'],
  UpscaleModelLoader: ['model_name', 'UPSCALE_MODEL'],
  ImageUpscaleWithModel: ['upscale_model:UPSCALE_MODEL image:IMAGE', 'IMAGE'],
  SaveImage: ['filename_prefix images:IMAGE', ''],
  SaveWEBM: ['filename_prefix codec fps crf images:IMAGE', ''],
  SaveAudio: ['filename_prefix audio:AUDIO', ''],
};

describe('every shipped graph', () => {
  test('has all inputs of its nodes and links only what fits', () => {
    for (const { name, graph } of catalog.recipes.values()) {
      for (const [id, node] of Object.entries(graph)) {
        const [inputs] = NODES[node.class_type] ?? [];
        if (inputs === undefined) throw new Error(`${name}: ${node.class_type} is not one of ComfyUI's own nodes`);
        const wanted = Object.fromEntries(inputs.split(' ').map((i) => i.split(':')));
        expect(Object.keys(node.inputs).sort(), `${name} ${id}`).toEqual(Object.keys(wanted).sort());
        for (const [input, value] of Object.entries(node.inputs)) {
          const kind = Array.isArray(value) ? outputKind(graph, value[0], value[1]) : undefined;
          expect(kind, `${name} ${id}.${input}`).toBe(wanted[input]);
        }
      }
    }
  });

  test('has slots for the seed and everything else that decides the picture', () => {
    for (const { name, slots } of catalog.recipes.values()) {
      const names = slots.map((s) => s.name);
      const needed =
        name === 'upscale' ? ['init_image'] : ['prompt', 'seed', 'steps', 'guidance', 'sampler', 'scheduler'];
      expect(names, name).toEqual(expect.arrayContaining(needed));
      expect(names, `${name}: output k of n has seed + k, which a batch cannot give`).not.toContain('n');
    }
  });
});

function outputKind(graph: Graph, node: string, output: number): string | undefined {
  const target = graph[node];
  return target && NODES[target.class_type]?.[1].split(' ')[output];
}

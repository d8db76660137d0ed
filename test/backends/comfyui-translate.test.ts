import { expect, test } from 'vitest';
import { prefixOf, promptsFor, translate } from '../../src/backends/comfyui/translate.ts';
import type { Recipe } from '../../src/domain/model.ts';
import { GRAPH, jobOf, RECIPE, slot } from './comfyui-jobs.ts';

const NOTHING = { part: 0, uploads: {}, files: {} };
const graphOf = (
  changes: Parameters<typeof jobOf>[0],
  circumstances: Partial<Parameters<typeof translate>[2]> = {},
) => {
  const job = jobOf(changes);
  return translate(job, job.recipe as Recipe, { ...NOTHING, ...circumstances });
};

test('request fields fill their slots, and what nobody gave keeps the workflow’s own value', () => {
  const graph = graphOf({ params: { prompt: 'a cat', width: 768, steps: 12 } });
  expect(graph['6']?.inputs.text).toBe('a cat');
  expect(graph['5']?.inputs).toMatchObject({ width: 768, height: 64 });
  expect(graph['3']?.inputs).toMatchObject({ steps: 12, cfg: 7 });
  expect(graph['7']?.inputs.text).toBe('ugly');
});

test('the recipe itself stays as it is', () => {
  const before = structuredClone(GRAPH);
  graphOf({ params: { prompt: 'x', loras: [{ name: 'a.safetensors', strength: 1 }] } });
  expect(GRAPH).toEqual(before);
});

test('a custom input fills its slot, else the slot’s default does', () => {
  const recipe = { slots: [{ ...slot('mood', 'string', ['6', 'text']), default: 'calm' }] };
  expect(graphOf({ recipe, params: { inputs: { mood: 'wild' } } })['6']?.inputs.text).toBe('wild');
  expect(graphOf({ recipe })['6']?.inputs.text).toBe('calm');
});

test('an input cannot stand in for a request field of the same name', () => {
  const graph = graphOf({ params: { prompt: 'asked', inputs: { prompt: 'smuggled' } } });
  expect(graph['6']?.inputs.text).toBe('asked');
});

test('a false or zero input is a value, not an absence', () => {
  const recipe = { slots: [{ ...slot('tiling', 'boolean', ['5', 'tiling']), default: true }] };
  expect(graphOf({ recipe, params: { inputs: { tiling: false } } })['5']?.inputs.tiling).toBe(false);
});

test('every saving node gets a prefix of its own with generation, attempt and part', () => {
  const second = { class_type: 'SaveImage', inputs: { images: ['8', 0], filename_prefix: 'anything' } };
  const graph = graphOf({ recipe: { graph: { ...GRAPH, '5:10': second } }, job: { attempt: 2 } }, { part: 3 });
  const prefixes = [graph['9'], graph['5:10']].map((node) => node?.inputs.filename_prefix);
  expect(prefixes).toEqual([
    'darkroom/gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0-2-3-9',
    'darkroom/gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0-2-3-5_10',
  ]);
  expect(prefixes[0]).toContain(prefixOf({ id: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0', attempt: 2 }, 3));
});

test('output k is drawn with seed + k', () => {
  expect(graphOf({ params: { seed: 7, n: 3 } }, { part: 2 })['3']?.inputs.seed).toBe(9);
});

test('a recipe with a slot for n makes one prompt, any other makes one per output', () => {
  expect(promptsFor(jobOf({ params: { n: 4 } }))).toBe(4);
  const slots = [...RECIPE.slots, slot('n', 'integer', ['5', 'batch_size'])];
  expect(promptsFor(jobOf({ params: { n: 4 }, recipe: { slots } }))).toBe(1);
  expect(graphOf({ params: { n: 4 }, recipe: { slots } })['5']?.inputs.batch_size).toBe(4);
});

test('LoRAs are chained behind their point, and everyone who drew from it draws from the chain', () => {
  const loras = [
    { name: 'ink.safetensors', strength: 0.8 },
    { name: 'fog.safetensors', strength: 0.5 },
  ];
  const graph = graphOf({ params: { loras } });
  expect(graph['lora-1']).toEqual({
    class_type: 'LoraLoader',
    inputs: {
      model: ['4', 0],
      clip: ['4', 1],
      lora_name: 'ink.safetensors',
      strength_model: 0.8,
      strength_clip: 0.8,
    },
  });
  expect(graph['lora-2']?.inputs).toMatchObject({ model: ['lora-1', 0], clip: ['lora-1', 1] });
  expect(graph['3']?.inputs.model).toEqual(['lora-2', 0]);
  expect([graph['6'], graph['7']].map((node) => node?.inputs.clip)).toEqual([
    ['lora-2', 1],
    ['lora-2', 1],
  ]);
  expect(graph['8']?.inputs.vae).toEqual(['4', 2]);
});

test('where only the model takes LoRAs, the text encoder is left alone', () => {
  const recipe = { loras: { model: ['4', 0], clip: null } as const };
  const graph = graphOf({ recipe, params: { loras: [{ name: 'ink.safetensors', strength: 1 }] } });
  expect(graph['lora-1']).toEqual({
    class_type: 'LoraLoaderModelOnly',
    inputs: { model: ['4', 0], lora_name: 'ink.safetensors', strength_model: 1 },
  });
  expect(graph['6']?.inputs.clip).toEqual(['4', 1]);
});

test('a workflow without a place for LoRAs refuses them', () => {
  const params = { loras: [{ name: 'ink.safetensors', strength: 1 }] };
  expect(() => graphOf({ recipe: { loras: null }, params })).toThrow('no place for LoRAs');
});

test('model files are spelled as the node spells them', () => {
  const files = {
    'CheckpointLoaderSimple.ckpt_name': ['xl\\base.safetensors'],
    'LoraLoader.lora_name': ['style\\ink.safetensors'],
  };
  const params = { loras: [{ name: 'style/ink.safetensors', strength: 1 }] };
  const graph = graphOf({ checkpoint: 'xl/base.safetensors', params }, { files });
  expect(graph['4']?.inputs.ckpt_name).toBe('xl\\base.safetensors');
  expect(graph['lora-1']?.inputs.lora_name).toBe('style\\ink.safetensors');
});

test('uploaded pictures fill their slots under the name the node gave them', () => {
  const graph = { ...GRAPH, '10': { class_type: 'LoadImage', inputs: { image: 'example.png' } } };
  const slots = [slot('init_image', 'image', ['10', 'image'])];
  const filled = graphOf({ recipe: { graph, slots } }, { uploads: { init_image: 'darkroom/ab (1).png' } });
  expect(filled['10']?.inputs.image).toBe('darkroom/ab (1).png');
});

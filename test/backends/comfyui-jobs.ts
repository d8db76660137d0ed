// Work orders for the ComfyUI tests: the textbook graph with declared slots, and a job over it.

import { readFileSync } from 'node:fs';
import type { Job, RunEvent } from '../../src/backends/backend.ts';
import type { Graph, Recipe, Slot } from '../../src/domain/model.ts';
import type { Params } from '../../src/domain/params.ts';
import { paramsOf } from '../harness/params.ts';

export const GRAPH: Graph = {
  '4': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'tiny-rand.safetensors' } },
  '5': { class_type: 'EmptyLatentImage', inputs: { width: 512, height: 512, batch_size: 1 } },
  '6': { class_type: 'CLIPTextEncode', inputs: { text: '', clip: ['4', 1] } },
  '7': { class_type: 'CLIPTextEncode', inputs: { text: 'ugly', clip: ['4', 1] } },
  '3': {
    class_type: 'KSampler',
    inputs: {
      seed: 1,
      steps: 4,
      cfg: 7,
      sampler_name: 'euler',
      scheduler: 'normal',
      denoise: 1,
      model: ['4', 0],
      positive: ['6', 0],
      negative: ['7', 0],
      latent_image: ['5', 0],
    },
  },
  '8': { class_type: 'VAEDecode', inputs: { samples: ['3', 0], vae: ['4', 2] } },
  '9': { class_type: 'SaveImage', inputs: { images: ['8', 0], filename_prefix: 'anything' } },
};

export const slot = (name: string, type: Slot['type'], ...fills: [string, string][]): Slot => ({
  name,
  type,
  required: false,
  default: null,
  min: null,
  max: null,
  choices: null,
  description: null,
  fills,
});

export const RECIPE: Recipe = {
  name: 'txt2img',
  hash: 'f'.repeat(64),
  graph: GRAPH,
  slots: [
    slot('prompt', 'string', ['6', 'text']),
    slot('negative_prompt', 'string', ['7', 'text']),
    slot('width', 'integer', ['5', 'width']),
    slot('height', 'integer', ['5', 'height']),
    slot('seed', 'integer', ['3', 'seed']),
    slot('steps', 'integer', ['3', 'steps']),
    slot('checkpoint', 'string', ['4', 'ckpt_name']),
  ],
  loras: { model: ['4', 0], clip: ['4', 1] },
  outputs: ['9'],
  classes: [],
  files: [],
};

const PARAMS = paramsOf({ prompt: 'a lighthouse in fog', width: 64, height: 64, steps: 4 });

export interface JobChanges {
  readonly recipe?: Partial<Recipe>;
  readonly params?: Partial<Params>;
  readonly checkpoint?: string | null;
  readonly job?: Partial<Job>;
}

export function jobOf({ recipe = {}, params = {}, checkpoint = null, job = {} }: JobChanges = {}): Job {
  return {
    id: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0',
    attempt: 1,
    kind: 'image',
    route: { backend: 'comfyui', labels: [], checkpoint, workflow: 'txt2img', remote: null, account: null },
    recipe: { ...RECIPE, ...recipe },
    params: { ...PARAMS, ...params },
    files: [],
    previews: false,
    ...job,
  };
}

/** Everything a run yields, until it ends. */
export async function all(events: AsyncIterable<RunEvent>): Promise<RunEvent[]> {
  const seen: RunEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

/** One line of a recorded conversation. */
export interface Recorded {
  readonly dir?: 's2c' | 'c2s';
  readonly t?: number;
  readonly json?: { readonly type: string; readonly data: Record<string, unknown> };
  readonly http?: string;
  readonly status?: number;
  readonly response?: unknown;
  readonly event?: number;
  readonly head_hex?: string;
  readonly metadata?: Record<string, unknown>;
  readonly image_head_hex?: string;
}

export function capture(name: string): Recorded[] {
  const raw = readFileSync(new URL(`../captures/comfyui/${name}.jsonl`, import.meta.url), 'utf8');
  return raw
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Recorded);
}

// Recipe + Params → the graph that is posted. Pure. The recipe's own literals stand wherever nobody gave a value; every
// saving node gets a name prefix of its own, because the server reuses numbers of deleted files and answers repeated
// graphs with the old names. Model files are spelled as the node spells them (its slash direction).

import { GatewayError } from '../../domain/failure.ts';
import type { Graph, GraphNode, LoraPoint, Recipe, Slot } from '../../domain/model.ts';
import { bareModelName, normalizeModelName } from '../../domain/model.ts';
import type { InputValue, Lora } from '../../domain/params.ts';
import { seedOfOutput } from '../../domain/params.ts';
import type { Json } from '../../domain/units.ts';
import type { Job } from '../backend.ts';

export interface Circumstances {
  /** Which prompt of the job this is, 0…promptsFor(job)−1. */
  readonly part: number;
  /** Names under which the node knows the uploaded pictures, by role. */
  readonly uploads: Readonly<Partial<Record<'init_image' | 'mask', string>>>;
  /** File lists of the node per "class_type.input", as it spells them; empty when unknown. */
  readonly files: Readonly<Record<string, readonly string[]>>;
}

type Draft = Record<string, { class_type: string; inputs: Record<string, Json>; _meta?: { readonly title?: string } }>;

/** A recipe that can batch makes all outputs in one prompt; otherwise each output is a prompt of its own. */
export function promptsFor({ recipe, params }: Job): number {
  return recipe?.slots.some((slot) => slot.name === 'n') ? 1 : params.n;
}

/** Begins the name of every file this prompt saves; occurs nowhere else. */
export const prefixOf = (job: Pick<Job, 'id' | 'attempt'>, part: number): string =>
  `darkroom/${job.id}-${job.attempt}-${part}`;

/** Throws GatewayError('unsupported_input') for LoRAs where the recipe has no place for them. */
export function translate(job: Job, recipe: Recipe, circumstances: Circumstances): Graph {
  const draft: Draft = {};
  for (const [id, node] of Object.entries(recipe.graph)) draft[id] = { ...node, inputs: { ...node.inputs } };
  for (const slot of recipe.slots) fill(draft, slot, resolve(slot, job, circumstances));
  if (job.params.loras.length > 0) splice(draft, recipe.loras, job.params.loras);
  for (const [id, node] of Object.entries(draft)) {
    if ('filename_prefix' in node.inputs)
      node.inputs.filename_prefix = `${prefixOf(job, circumstances.part)}-${id.replace(/\W/g, '_')}`;
    spellAsNode(node, circumstances.files);
  }
  return draft;
}

function resolve(slot: Slot, { params, route }: Job, { part, uploads }: Circumstances): InputValue | null {
  const known: Record<string, InputValue | null | undefined> = {
    prompt: params.prompt,
    negative_prompt: params.negativePrompt,
    width: params.width,
    height: params.height,
    seed: seedOfOutput(params.seed, part),
    steps: params.steps,
    guidance: params.guidance,
    sampler: params.sampler,
    scheduler: params.scheduler,
    strength: params.strength,
    n: params.n,
    checkpoint: route.checkpoint,
    init_image: uploads.init_image,
    mask: uploads.mask,
  };
  const asked = Object.hasOwn(known, slot.name) ? known[slot.name] : params.inputs[slot.name];
  return asked ?? slot.default;
}

function fill(draft: Draft, slot: Slot, value: InputValue | null): void {
  if (value === null) return;
  for (const [id, input] of slot.fills) {
    const node = draft[id];
    if (node) node.inputs[input] = value;
  }
}

/** Puts a chain of loaders behind the LoRA point and hands its end to everyone who drew from the point. */
function splice(draft: Draft, point: LoraPoint | null, loras: readonly Lora[]): void {
  if (!point) throw new GatewayError('unsupported_input', 'This workflow has no place for LoRAs.');
  const chain = loras.map((_, i) => `lora-${i + 1}`);
  const last = chain.at(-1) ?? '';
  relink(draft, point.model, [last, 0]);
  if (point.clip) relink(draft, point.clip, [last, 1]);
  loras.forEach(({ name, strength }, i) => {
    const before = chain[i - 1];
    const model = before ? [before, 0] : [...point.model];
    const clip = point.clip && (before ? [before, 1] : [...point.clip]);
    draft[chain[i] ?? ''] = clip
      ? {
          class_type: 'LoraLoader',
          inputs: { model, clip, lora_name: name, strength_model: strength, strength_clip: strength },
        }
      : { class_type: 'LoraLoaderModelOnly', inputs: { model, lora_name: name, strength_model: strength } };
  });
}

function relink(draft: Draft, from: readonly [string, number], to: [string, number]): void {
  for (const node of Object.values(draft))
    for (const [input, value] of Object.entries(node.inputs))
      if (Array.isArray(value) && value[0] === from[0] && value[1] === from[1]) node.inputs[input] = to;
}

function spellAsNode(node: GraphNode & { inputs: Record<string, Json> }, files: Circumstances['files']): void {
  for (const [input, value] of Object.entries(node.inputs)) {
    if (typeof value !== 'string') continue;
    const installed = files[`${node.class_type}.${input}`];
    const own =
      installed?.find((file) => normalizeModelName(file) === normalizeModelName(value)) ??
      installed?.find((file) => bareModelName(file) === bareModelName(value));
    if (own !== undefined) node.inputs[input] = own;
  }
}

// A request and a model → Params: every default filled in, everything the model cannot do refused or, where the
// picture is still the one asked for, left out with a warning. Pure: what needs the world (seed, input pictures) is
// handed in already found.

import type { GenerationRequest } from '../contract/generations.ts';
import { type Detail, type FailureCode, GatewayError } from '../domain/failure.ts';
import type { Capability, Model, Recipe, Route, Slot } from '../domain/model.ts';
import type { InputRef, InputValue, OutputOptions, Params } from '../domain/params.ts';
import { type Recipes, recipeFor, routesFor } from './routes.ts';
import { lengthMisfit, resolveSize } from './size.ts';
import { isRequestField, misfit } from './workflow.ts';

export interface InputPictures {
  readonly initImage: InputRef | null;
  readonly mask: InputRef | null;
}

interface Resolved {
  readonly params: Params;
  /** What was left out because the model does not take it. */
  readonly warnings: readonly string[];
}

/** Throws GatewayError: `invalid_request` with details, or `unsupported_input`. */
export function resolveParams(
  snapshot: Recipes,
  model: Model,
  request: GenerationRequest,
  seed: number,
  pictures: InputPictures,
): Resolved {
  checkPictures(model, request);
  const routes = routesFor(snapshot, model, pictures);
  if (routes.length === 0)
    refuse('unsupported_input', [
      {
        path: pictures.mask ? 'mask' : 'init_image',
        message: `no workflow of ${model.id} takes ${pictures.mask ? 'a mask' : 'this'}`,
      },
    ]);
  const recipes = routes.flatMap((route) => recipeFor(snapshot, route, pictures) ?? []);
  if (request.loras?.length && routes.length === recipes.length && recipes.every((r) => r.loras === null)) {
    refuse('unsupported_input', [{ path: 'loras', message: `no workflow of ${model.id} has a place for LoRAs` }]);
  }
  const { size, details: sizing } = resolveSize(model, request, pictures.initImage);
  const { inputs, details: inputFaults } = resolveInputs(model, recipes, request.inputs ?? {});
  const details = [...promptFaults(model, request), ...sizing, ...countFaults(model, request), ...inputFaults];
  if (details.length > 0) refuse('invalid_request', details);
  const given = takenBy(model, routes, recipes, request);
  const usual = usualOf(model, routes, recipes[0]);
  const { params } = given;
  return {
    warnings: given.warnings,
    params: {
      prompt: request.prompt ?? '',
      negativePrompt: params.negative_prompt ?? usual.negativePrompt,
      ...size,
      seed,
      steps: params.steps ?? usual.steps,
      guidance: params.guidance ?? usual.guidance,
      sampler: params.sampler ?? usual.sampler,
      scheduler: params.scheduler ?? usual.scheduler,
      n: request.n ?? 1,
      loras: request.loras ?? [],
      ...pictures,
      strength: pictures.initImage === null ? null : (request.strength ?? usual.strength),
      inputs,
      output: outputOptions(request.output),
    },
  };
}

function refuse(code: FailureCode, details: readonly Detail[]): never {
  const [first] = details;
  throw new GatewayError(code, first ? `${first.path}: ${first.message}` : undefined, { details });
}

const FROM_TEXT: readonly Capability[] = ['text-to-image', 'text-to-video', 'text-to-audio'];
const FROM_PICTURE: readonly Capability[] = ['image-to-image', 'inpainting', 'upscale', 'image-to-video'];
const fromText = (model: Model): boolean => FROM_TEXT.some((c) => model.capabilities.has(c));

/** What a model lacks is `unsupported_input`; a picture it cannot do without is `invalid_request`. */
function checkPictures(model: Model, { init_image, mask, loras }: GenerationRequest): void {
  const { capabilities, id } = model;
  const takesPicture = FROM_PICTURE.some((c) => capabilities.has(c));
  const lacks: Detail[] = [];
  if (init_image !== undefined && !takesPicture)
    lacks.push({ path: 'init_image', message: `${id} takes no init_image` });
  if (mask !== undefined && !capabilities.has('inpainting'))
    lacks.push({ path: 'mask', message: `${id} takes no mask` });
  if (loras?.length && !capabilities.has('lora')) lacks.push({ path: 'loras', message: `${id} takes no LoRAs` });
  if (lacks.length > 0) refuse('unsupported_input', lacks);

  const onlyInpaints = !fromText(model) && FROM_PICTURE.every((c) => capabilities.has(c) === (c === 'inpainting'));
  const needsMask =
    onlyInpaints || (init_image !== undefined && !FROM_PICTURE.some((c) => c !== 'inpainting' && capabilities.has(c)));
  const missing: Detail[] = [];
  const needsImage = mask !== undefined || (takesPicture && !fromText(model));
  if (needsImage && init_image === undefined)
    missing.push({
      path: 'init_image',
      message: `expected an image: ${mask === undefined ? `${id} works on one` : 'a mask needs one'}`,
    });
  if (needsMask && mask === undefined)
    missing.push({ path: 'mask', message: `expected a mask: ${id} only repaints what a mask marks` });
  if (missing.length > 0) refuse('invalid_request', missing);
}

function promptFaults(model: Model, { prompt }: GenerationRequest): Detail[] {
  if (!fromText(model) || prompt?.trim()) return [];
  return [{ path: 'prompt', message: `expected a prompt: ${model.id} starts from text` }];
}

function countFaults({ id, limits }: Model, { n, steps }: GenerationRequest): Detail[] {
  const faults: Detail[] = [];
  if (n !== undefined && n > limits.maxN)
    faults.push({ path: 'n', message: `expected at most ${limits.maxN} for ${id}` });
  if (steps !== undefined && limits.maxSteps > 0 && steps > limits.maxSteps) {
    faults.push({ path: 'steps', message: `expected at most ${limits.maxSteps} for ${id}` });
  }
  return faults;
}

type Optional = Pick<GenerationRequest, 'negative_prompt' | 'guidance' | 'steps' | 'sampler' | 'scheduler'>;
const OPTIONAL = ['negative_prompt', 'guidance', 'steps', 'sampler', 'scheduler'] as const;

/** Drops what the model ignores, and says so. */
function takenBy(
  model: Model,
  routes: readonly Route[],
  recipes: readonly Recipe[],
  request: GenerationRequest,
): { params: Optional; warnings: string[] } {
  const choosable = (field: 'sampler' | 'scheduler') =>
    model.defaults[field] !== null ||
    routes.some((r) => r.backend === 'sdapi') ||
    recipes.some((r) => r.slots.some((s) => s.name === field));
  const takes: Record<keyof Optional, boolean> = {
    negative_prompt: model.capabilities.has('negative-prompt'),
    guidance: model.capabilities.has('guidance'),
    steps: model.limits.maxSteps > 0,
    sampler: choosable('sampler'),
    scheduler: choosable('scheduler'),
  };
  const ignored = OPTIONAL.filter((field) => request[field] !== undefined && !takes[field]);
  const kept = OPTIONAL.filter((field) => request[field] !== undefined && takes[field]);
  const warnings = ignored.map((field) => `${model.id} does not take ${field}; it was left out.`);
  if (request.strength !== undefined && request.init_image === undefined)
    warnings.push('strength means nothing without init_image; it was left out.');
  return { params: Object.fromEntries(kept.map((field) => [field, request[field]])), warnings };
}

type Usual = Pick<Params, 'negativePrompt' | 'steps' | 'guidance' | 'sampler' | 'scheduler' | 'strength'>;

/**
 * The catalog's defaults, then those of the workflow that runs it. Samplers are named differently by every kind of
 * server: one that only a workflow names stays out where another kind may run the generation.
 */
function usualOf({ defaults }: Model, routes: readonly Route[], recipe: Recipe | undefined): Usual {
  const slot = (name: string) => recipe?.slots.find((s) => s.name === name)?.default ?? null;
  const number = (name: string) => asNumber(slot(name));
  const text = (name: string) => asText(slot(name));
  const choice = (name: string) => (routes.every((r) => r.backend === 'comfyui') ? text(name) : null);
  return {
    negativePrompt: defaults.negativePrompt ?? text('negative_prompt'),
    steps: defaults.steps ?? number('steps'),
    guidance: defaults.guidance ?? number('guidance'),
    sampler: defaults.sampler ?? choice('sampler'),
    scheduler: defaults.scheduler ?? choice('scheduler'),
    strength: defaults.strength ?? number('strength'),
  };
}

const asNumber = (value: InputValue | null): number | null => (typeof value === 'number' ? value : null);
/** An empty text is no text. */
const asText = (value: InputValue | null): string | null => (typeof value === 'string' && value !== '' ? value : null);

type Inputs = Readonly<Record<string, InputValue>>;

/** `inputs` against the slots that the model's workflows declare; without workflows, against the catalog's defaults. */
function resolveInputs(model: Model, recipes: readonly Recipe[], given: Inputs): { inputs: Inputs; details: Detail[] } {
  const slots = new Map(ownSlots(recipes).map((s) => [s.name, s] as const));
  const usual = model.defaults.inputs;
  const details = Object.entries(given).flatMap(([name, value]) => {
    const slot = slots.get(name) ?? slotOf(name, Object.hasOwn(usual, name) ? usual[name] : undefined);
    const wrong =
      slot === null ? unknownInput(model, [...new Set([...slots.keys(), ...Object.keys(usual)])]) : misfit(slot, value);
    const length = lengthMisfit(name, value, model.limits);
    const message = wrong ?? (length === null ? null : `${length} for ${model.id}`);
    return message === null ? [] : [{ path: `inputs.${name}`, message }];
  });
  const filled = [...slots.values()].flatMap((s) => (s.default === null ? [] : [[s.name, s.default] as const]));
  const inputs = { ...Object.fromEntries(filled), ...usual, ...given };
  const missing = [...slots.values()].filter((s) => s.required && inputs[s.name] === undefined);
  return {
    inputs,
    details: [
      ...details,
      ...missing.map((s) => ({
        path: `inputs.${s.name}`,
        message: s.description === null ? 'expected a value' : `expected a value: ${s.description}`,
      })),
    ],
  };
}

/** Declared inputs by name; the workflow of the earlier route decides what a name means. */
function ownSlots(recipes: readonly Recipe[]): readonly Slot[] {
  const all = recipes.flatMap((r) => r.slots).filter((s) => !isRequestField(s));
  return all.filter((s, i) => all.findIndex((other) => other.name === s.name) === i);
}

function unknownInput(model: Model, known: readonly string[]): string {
  return known.length > 0
    ? `unknown input; ${model.id} has ${known.join(', ')}`
    : `unknown input; ${model.id} has none`;
}

/** A catalog default declares an input of its own type. */
function slotOf(name: string, usual: InputValue | undefined): Slot | null {
  if (usual === undefined) return null;
  const type = typeof usual === 'number' ? 'number' : typeof usual === 'boolean' ? 'boolean' : 'string';
  return {
    name,
    type,
    required: false,
    default: usual,
    min: null,
    max: null,
    choices: null,
    description: null,
    fills: [],
  };
}

function outputOptions({ format, quality, max_side }: NonNullable<GenerationRequest['output']> = {}): OutputOptions {
  return {
    ...(format === undefined ? {} : { format }),
    ...(quality === undefined ? {} : { quality }),
    ...(max_side === undefined ? {} : { maxSide: max_side }),
  };
}

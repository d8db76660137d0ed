// What only the whole catalog can tell: that a model's defaults, fallbacks, routes and workflows fit together.

import { HOSTED_BACKENDS, type Model, normalizeModelName, type Recipe } from '../domain/model.ts';
import type { ModelId } from '../domain/units.ts';
import { DEFAULT_WORKFLOW, type RouteText } from './models-file.ts';
import { lengthMisfit, sideMisfit } from './size.ts';
import type { Workflows } from './workflow.ts';

export type Complain = (path: readonly PropertyKey[], message: string) => void;

export function checkDefaults({ defaults, limits }: Model, complain: Complain): void {
  const { width, height, steps } = defaults;
  for (const [key, value] of [
    ['width', width],
    ['height', height],
  ] as const) {
    const wrong = value === null ? null : sideMisfit(value, limits);
    if (wrong !== null) complain(['defaults', key], wrong);
  }
  if (width !== null && height !== null && width * height > limits.maxPixels) {
    complain(['defaults'], `expected width × height within limits.max_pixels (${limits.maxPixels})`);
  }
  if (steps !== null && steps > limits.maxSteps)
    complain(['defaults', 'steps'], `expected at most limits.max_steps (${limits.maxSteps})`);
  for (const [name, value] of Object.entries(defaults.inputs)) {
    const wrong = lengthMisfit(name, value, limits);
    if (wrong !== null) complain(['defaults', 'inputs', name], `${wrong} of limits.seconds`);
  }
}

export function checkFallback(model: Model, models: ReadonlyMap<ModelId, Model>, complain: Complain): void {
  model.fallback.forEach((id, i) => {
    const target = models.get(id);
    if (target === undefined) complain(['fallback', i], `expected the id of a model, not "${id}"`);
    else if (id === model.id) complain(['fallback', i], 'expected another model');
    else if (target.kind !== model.kind)
      complain(['fallback', i], `expected a model that makes ${model.kind} too; ${id} makes ${target.kind}`);
  });
}

const HOSTED: ReadonlySet<string> = new Set(HOSTED_BACKENDS);

export function checkRoute(route: RouteText, model: Model, workflows: Workflows, complain: Complain): void {
  const { backend } = route;
  const hosted = HOSTED.has(backend);
  if (hosted && route.remote === undefined) complain([], `expected remote: the model's id at ${backend}`);
  const foreign = hosted
    ? (['checkpoint', 'workflow', 'labels'] as const)
    : (['remote', 'account', 'usd', 'price_as_of'] as const);
  for (const key of foreign) {
    if (key === 'labels' ? route.labels.length > 0 : route[key] !== undefined)
      complain([key], `expected no such key for ${backend}`);
  }
  if (route.workflow !== undefined && backend !== 'comfyui')
    complain(['workflow'], 'expected no workflow except for comfyui');
  if (route.checkpoint !== undefined && backend === 'sketch')
    complain(['checkpoint'], 'expected no checkpoint for sketch');
  if (backend === 'comfyui') checkWorkflow(route, model, workflows, complain);
}

function checkWorkflow(route: RouteText, model: Model, { recipes, unusable }: Workflows, complain: Complain): void {
  const name = route.workflow ?? DEFAULT_WORKFLOW;
  const recipe = recipes.get(name);
  const path = route.workflow === undefined ? [] : ['workflow'];
  if (recipe === undefined) {
    const why = unusable.get(name);
    complain(
      path,
      `expected one of the workflows ${[...recipes.keys()].join(', ')}, not "${name}"${why ? ` (${why})` : ''}`,
    );
    return;
  }
  for (const variant of [recipe.variants?.initImage, recipe.variants?.mask]) {
    if (variant != null && !recipes.has(variant))
      complain(path, `expected the variant "${variant}" of workflow ${name} among the workflows`);
  }
  checkCheckpoint(route, recipe, path, complain);
  for (const key of Object.keys(model.defaults.inputs)) {
    if (!recipe.slots.some((s) => s.name === key))
      complain(path, `expected workflow ${name} to declare the slot "${key}" of defaults.inputs`);
  }
}

function checkCheckpoint(
  { checkpoint }: RouteText,
  recipe: Recipe,
  path: readonly PropertyKey[],
  complain: Complain,
): void {
  const slot = recipe.slots.find((s) => s.name === 'checkpoint');
  if (checkpoint === undefined) {
    if (slot?.required) complain(path, `expected a checkpoint beside workflow ${recipe.name}`);
    return;
  }
  const own = recipe.files.some(([, , file]) => normalizeModelName(file) === normalizeModelName(checkpoint));
  if (slot === undefined && !own)
    complain(['checkpoint'], `expected workflow ${recipe.name} to declare a checkpoint slot`);
}

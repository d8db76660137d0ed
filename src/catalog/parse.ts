// models.yaml → models: the shape first, then that everything in it fits together. Every complaint carries its line,
// and all are told at once.

import type { Capability, Defaults, Limits, Model, Route } from '../domain/model.ts';
import { FREE, type Price } from '../domain/price.ts';
import type { ModelId } from '../domain/units.ts';
import { checkYaml, readYaml, YamlError } from '../system/system.ts';
import { type Complain, checkDefaults, checkFallback, checkRoute } from './check.ts';
import { DEFAULT_WORKFLOW, ModelsFile, type ModelText, type RouteText } from './models-file.ts';
import type { Workflows } from './workflow.ts';

export interface ParsedModels {
  readonly models: ReadonlyMap<ModelId, Model>;
  readonly aliases: ReadonlyMap<string, ModelId>;
}

/** Throws YamlError with every complaint. */
export function parseModels(text: string, file: string, workflows: Workflows): ParsedModels {
  const source = readYaml(text, { file });
  const declared = checkYaml(source, ModelsFile);
  const found: { readonly line: number; readonly text: string }[] = [];
  const complain: Complain = (path, message) => {
    found.push({ line: source.lineOf(path), text: source.complaint(path, message) });
  };
  const models = new Map(Object.entries(declared.models).map(([id, it]) => [id, toModel(id, it, workflows)] as const));
  for (const [id, model] of models) {
    const at: Complain = (path, message) => complain(['models', id, ...path], message);
    checkDefaults(model, at);
    checkFallback(model, models, at);
    declared.models[id]?.routes.forEach((route, i) => {
      checkRoute(route, model, workflows, (path, message) => at(['routes', i, ...path], message));
    });
  }
  for (const [alias, id] of Object.entries(declared.aliases)) {
    if (models.has(alias)) complain(['aliases', alias], `expected a name that is not a model's own`);
    if (!models.has(id)) complain(['aliases', alias], `expected the id of a model, not "${id}"`);
  }
  if (found.length > 0) throw new YamlError(found.sort((a, b) => a.line - b.line).map((f) => f.text));
  return { models, aliases: new Map(Object.entries(declared.aliases)) };
}

const ESTIMATES = { image: 20_000, video: 120_000, audio: 30_000 } as const;
const COLD_MS = 20_000;

function toModel(id: ModelId, it: ModelText, { recipes }: Workflows): Model {
  const routes = it.routes.map(toRoute);
  const capabilities = new Set(it.capabilities);
  const limits = toLimits(it, routes, recipes);
  return {
    id,
    name: it.name ?? id,
    kind: it.kind,
    bestFor: it.best_for,
    capabilities,
    price: toPrice(it.price),
    ...(it.price_as_of === undefined ? {} : { priceAsOf: it.price_as_of }),
    limits,
    defaults: toDefaults(it, limits, capabilities),
    estimateMs: it.estimate_seconds ?? ESTIMATES[it.kind],
    coldMs: it.cold_seconds ?? (routes.some((r) => r.backend === 'comfyui' || r.backend === 'sdapi') ? COLD_MS : 0),
    fallback: it.fallback,
    retiresAt: it.retires ?? null,
    routes,
  };
}

function toRoute(it: RouteText): Route {
  const workflow = it.workflow ?? (it.backend === 'comfyui' ? DEFAULT_WORKFLOW : null);
  return {
    backend: it.backend,
    labels: it.labels,
    checkpoint: it.checkpoint ?? null,
    workflow,
    remote: it.remote ?? null,
    account: it.account ?? null,
    ...(it.usd === undefined ? {} : { usd: it.usd }),
    ...(it.price_as_of === undefined ? {} : { priceAsOf: it.price_as_of }),
  };
}

function toPrice(price: ModelText['price']): Price {
  if (typeof price === 'number') return { ...FREE, perOutput: price };
  return {
    perOutput: price.per_output ?? 0,
    perMegapixel: price.per_megapixel ?? 0,
    perStep: price.per_step ?? 0,
    perSecond: price.per_second ?? 0,
    perNodeSecond: price.per_node_second ?? 0,
  };
}

/** `maxSteps` is 0 where nothing that serves the model could be told a number of steps. */
function toLimits({ limits, defaults }: ModelText, routes: readonly Route[], recipes: Workflows['recipes']): Limits {
  const steppable = defaults.steps !== undefined || routes.some((r) => takesSteps(r, recipes));
  return {
    maxPixels: limits.max_pixels ?? 4_194_304,
    minSide: limits.min_side ?? 16,
    maxSide: limits.max_side ?? 8192,
    multipleOf: limits.multiple_of ?? 8,
    maxN: limits.max_n ?? 8,
    maxSteps: limits.max_steps ?? (steppable ? 150 : 0),
    ...(limits.seconds === undefined ? {} : { seconds: limits.seconds }),
  };
}

function takesSteps({ backend, workflow }: Route, recipes: Workflows['recipes']): boolean {
  if (backend === 'sdapi' || backend === 'sketch') return true;
  return workflow !== null && (recipes.get(workflow)?.slots.some((s) => s.name === 'steps') ?? false);
}

const SIZED: readonly Capability[] = ['text-to-image', 'image-to-image', 'inpainting'];

function toDefaults({ kind, defaults }: ModelText, limits: Limits, capabilities: ReadonlySet<Capability>): Defaults {
  const square = kind === 'image' && SIZED.some((c) => capabilities.has(c)) ? largestSquare(limits) : null;
  return {
    width: defaults.width ?? defaults.height ?? square,
    height: defaults.height ?? defaults.width ?? square,
    steps: defaults.steps ?? null,
    guidance: defaults.guidance ?? null,
    sampler: defaults.sampler ?? null,
    scheduler: defaults.scheduler ?? null,
    strength: defaults.strength ?? null,
    negativePrompt: defaults.negative_prompt ?? null,
    inputs: defaults.inputs,
  };
}

/** 1024 × 1024, or as much of it as the limits allow. */
function largestSquare({ maxPixels, maxSide, multipleOf }: Limits): number {
  const most = Math.min(1024, maxSide, Math.floor(Math.sqrt(maxPixels)));
  return Math.floor(most / multipleOf) * multipleOf;
}

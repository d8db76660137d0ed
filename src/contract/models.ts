// A model on the wire: what may be asked for, what it costs, and whether it is usable now.

import { z } from 'zod';
import { CAPABILITIES, HOSTED_BACKENDS, KINDS, LOCAL_BACKENDS, type Model, type Route } from '../domain/model.ts';
import { type Millis, toCredits, toTimestamp } from '../domain/units.ts';
import { listOf } from './lists.ts';

export const RouteBody = z
  .object({
    backend: z.enum([...LOCAL_BACKENDS, ...HOSTED_BACKENDS]),
    labels: z.array(z.string()),
    checkpoint: z.string().nullable(),
    workflow: z.string().nullable(),
    remote: z.string().nullable(),
    account: z.string().nullable(),
    usable: z.boolean(),
    why_not: z.string().nullable(),
    usd: z
      .number()
      .nullable()
      .describe("What the provider lists for one output at the model's defaults, in US dollars; admin keys only."),
    price_as_of: z.iso.date().nullable().describe('When that was read; admin keys only.'),
    gone_since: z.iso
      .datetime()
      .nullable()
      .describe('Its provider said that it no longer has it. Asked again some minutes later, by the next that comes.'),
  })
  .meta({ id: 'Route' });

export const PriceBody = z
  .object({
    per_output: z.number(),
    per_megapixel: z.number(),
    per_step: z.number(),
    per_second: z.number(),
    per_node_second: z.number(),
  })
  .meta({ id: 'Price', description: 'Credits; the parts are summed.' });

export const ModelBody = z
  .object({
    id: z.string(),
    name: z.string(),
    kind: z.enum(KINDS),
    best_for: z.string(),
    capabilities: z.array(z.enum(CAPABILITIES)),
    aliases: z.array(z.string()),
    price: PriceBody,
    price_as_of: z.iso.date().nullable().describe('When the price was last compared with those of providers.'),
    limits: z.object({
      max_pixels: z.int(),
      min_side: z.int(),
      max_side: z.int(),
      multiple_of: z.int(),
      max_n: z.int(),
      max_steps: z.int().nullable().describe('Null: it takes no number of steps.'),
    }),
    defaults: z.object({
      width: z.int().nullable(),
      height: z.int().nullable(),
      steps: z.int().nullable(),
      guidance: z.number().nullable(),
      sampler: z.string().nullable(),
      scheduler: z.string().nullable(),
      strength: z.number().nullable(),
      negative_prompt: z.string().nullable(),
      inputs: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    }),
    estimate_seconds: z.number().describe('For a model that is loaded, from the catalog.'),
    cold_seconds: z.number().describe('Added when the model must be loaded first.'),
    fallback: z.array(z.string()),
    retires_at: z.iso.datetime().nullable(),
    usable: z.boolean(),
    why_not: z.string().nullable(),
    routes: z.array(RouteBody),
  })
  .meta({ id: 'Model' });
export type ModelBody = z.infer<typeof ModelBody>;

export const CatalogBody = z
  .object({
    ok: z.boolean(),
    error: z.string().nullable().describe('The refused edit; the last good catalog keeps serving.'),
    loaded_at: z.iso.datetime(),
  })
  .meta({ id: 'Catalog' });

export const ModelList = listOf(ModelBody).extend({ catalog: CatalogBody }).meta({ id: 'ModelList' });
export const ModelAnswer = ModelBody.extend({ catalog: CatalogBody }).meta({ id: 'ModelAnswer' });

/** A model and how it stands now. */
export interface ModelNow {
  readonly model: Model;
  readonly aliases: readonly string[];
  readonly usable: boolean;
  readonly whyNot: string | null;
  readonly routes: readonly {
    readonly route: Route;
    readonly usable: boolean;
    readonly whyNot: string | null;
    readonly goneSince?: Millis | null;
  }[];
}

const dayOf = (at: Millis | undefined): string | null => (at === undefined ? null : toTimestamp(at).slice(0, 10));

/** `lists`: with the providers' list prices, which are for operators. */
export function renderModel(
  { model: m, aliases, usable, whyNot, routes }: ModelNow,
  { lists }: { readonly lists: boolean },
): ModelBody {
  return {
    id: m.id,
    name: m.name,
    kind: m.kind,
    best_for: m.bestFor,
    capabilities: [...m.capabilities],
    aliases: [...aliases],
    price: {
      per_output: toCredits(m.price.perOutput),
      per_megapixel: toCredits(m.price.perMegapixel),
      per_step: toCredits(m.price.perStep),
      per_second: toCredits(m.price.perSecond),
      per_node_second: toCredits(m.price.perNodeSecond),
    },
    price_as_of: dayOf(m.priceAsOf),
    limits: {
      max_pixels: m.limits.maxPixels,
      min_side: m.limits.minSide,
      max_side: m.limits.maxSide,
      multiple_of: m.limits.multipleOf,
      max_n: m.limits.maxN,
      max_steps: m.limits.maxSteps === 0 ? null : m.limits.maxSteps,
    },
    defaults: {
      width: m.defaults.width,
      height: m.defaults.height,
      steps: m.defaults.steps,
      guidance: m.defaults.guidance,
      sampler: m.defaults.sampler,
      scheduler: m.defaults.scheduler,
      strength: m.defaults.strength,
      negative_prompt: m.defaults.negativePrompt,
      inputs: { ...m.defaults.inputs },
    },
    estimate_seconds: m.estimateMs / 1000,
    cold_seconds: m.coldMs / 1000,
    fallback: [...m.fallback],
    retires_at: m.retiresAt === null ? null : toTimestamp(m.retiresAt),
    usable,
    why_not: whyNot,
    routes: routes.map(({ route, usable, whyNot, goneSince = null }) => ({
      backend: route.backend,
      labels: [...route.labels],
      checkpoint: route.checkpoint,
      workflow: route.workflow,
      remote: route.remote,
      account: route.account,
      usd: lists ? (route.usd ?? null) : null,
      price_as_of: lists ? dayOf(route.priceAsOf) : null,
      usable,
      why_not: whyNot,
      gone_since: goneSince === null ? null : toTimestamp(goneSince),
    })),
  };
}

export function renderCatalog(status: {
  readonly ok: boolean;
  readonly error: string | null;
  readonly loadedAt: number;
}): z.infer<typeof CatalogBody> {
  return { ok: status.ok, error: status.error, loaded_at: toTimestamp(status.loadedAt) };
}

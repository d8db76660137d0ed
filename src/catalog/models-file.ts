// The shape of models.yaml, key by key. Strict: unknown keys are refused by name.

import { z } from 'zod';
import { CAPABILITIES, HOSTED_BACKENDS, KINDS, LOCAL_BACKENDS } from '../domain/model.ts';
import { type Millicredits, toMillicredits } from '../domain/units.ts';

/** What a comfyui route runs that names a checkpoint only. */
export const DEFAULT_WORKFLOW = 'txt2img';

const credits = z
  .number({
    error: 'expected credits: a number, or {per_output, per_megapixel, per_step, per_second, per_node_second}',
  })
  .min(0)
  .max(1e9)
  .refine((v) => Math.abs(v * 1000 - Math.round(v * 1000)) < 1e-6, {
    error: 'expected credits with at most 3 decimals',
  })
  .transform((v): Millicredits => toMillicredits(v));
const modelId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9._-]{0,99}$/, { error: 'expected a name of lower-case letters, digits, ".", "_" and "-"' });
const day = z.iso.date({ error: 'expected a date like 2027-01-31' }).transform((d) => Date.parse(d));
const seconds = z
  .number()
  .min(0)
  .max(86_400)
  .transform((s) => Math.round(s * 1000));
const side = z.int().min(1).max(65_536);
const label = z.string().min(1).max(64);

const PriceText = z.union(
  [
    credits,
    z.strictObject({
      per_output: credits.optional(),
      per_megapixel: credits.optional(),
      per_step: credits.optional(),
      per_second: credits.optional(),
      per_node_second: credits.optional(),
    }),
  ],
  {
    error:
      'expected credits (≥ 0, at most 3 decimals), or {per_output, per_megapixel, per_step, per_second, per_node_second}',
  },
);

export const RouteText = z.strictObject({
  backend: z.enum([...LOCAL_BACKENDS, ...HOSTED_BACKENDS]),
  labels: z.array(label).default([]),
  checkpoint: z.string().min(1).max(300).optional(),
  workflow: z.string().min(1).max(64).optional(),
  remote: z.string().min(1).max(300).optional(),
  account: z.string().min(1).max(64).optional(),
  usd: z.number().min(0).max(1e6).optional(),
  price_as_of: day.optional(),
});
export type RouteText = z.infer<typeof RouteText>;

const ModelText = z.strictObject({
  name: z.string().min(1).max(200).optional(),
  kind: z.enum(KINDS),
  best_for: z.string().max(1000).default(''),
  capabilities: z.array(z.enum(CAPABILITIES)).min(1),
  price: PriceText,
  price_as_of: day.optional(),
  limits: z
    .strictObject({
      max_pixels: z.int().min(1).max(1e9).optional(),
      min_side: side.optional(),
      max_side: side.optional(),
      multiple_of: z.int().min(1).max(512).optional(),
      max_n: z.int().min(1).max(8).optional(),
      max_steps: z.int().min(1).max(1000).optional(),
      seconds: z.array(z.number().positive().max(3600)).min(1).max(100).optional(),
    })
    .default({}),
  defaults: z
    .strictObject({
      width: side.optional(),
      height: side.optional(),
      steps: z.int().min(1).max(1000).optional(),
      guidance: z.number().min(0).max(100).optional(),
      sampler: z.string().min(1).max(100).optional(),
      scheduler: z.string().min(1).max(100).optional(),
      strength: z.number().min(0).max(1).optional(),
      negative_prompt: z.string().max(10_000).optional(),
      inputs: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).default({}),
    })
    .default({ inputs: {} }),
  estimate_seconds: seconds.optional(),
  cold_seconds: seconds.optional(),
  fallback: z.array(z.string()).default([]),
  retires: day.optional(),
  routes: z.array(RouteText).min(1),
});
export type ModelText = z.infer<typeof ModelText>;

export const ModelsFile = z.strictObject({
  models: z
    .record(modelId, ModelText)
    .refine((m) => Object.keys(m).length > 0, { error: 'expected at least one model' }),
  aliases: z.record(z.string().min(1).max(200), z.string()).default({}),
});

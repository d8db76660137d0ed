// The generation on the wire: request, body, list query. Field names are the public contract.

import { z } from 'zod';
import { PRIORITIES, STATUSES } from '../domain/generation.ts';
import { OUTPUT_FORMATS } from '../domain/params.ts';
import { GenerationError } from './errors.ts';
import { commaList, ListQuery } from './lists.ts';

const MAX_PROMPT = 10_000;
const seconds = (max: number) => z.number().positive().max(max);

/** Credits: JSON number, at most 3 decimals. */
export const CreditAmount = z
  .number()
  .refine((v) => Math.abs(v * 1000 - Math.round(v * 1000)) < 1e-6 && Math.abs(v) <= 1e12, {
    message: 'expected an amount of credits with at most 3 decimals',
  });

export const Metadata = z
  .record(z.string().min(1).max(64), z.union([z.string().max(500), z.number(), z.boolean()]))
  .refine((m) => Object.keys(m).length <= 50, { message: 'expected at most 50 keys' })
  .meta({
    id: 'Metadata',
    description: "The caller's own audit trail: returned, filterable, summable; never sent to a model.",
  });

/** An upload id, a previous output, an https: URL or a data: URL. */
export const InputSource = z
  .string()
  .refine(
    (s) => /^(upl_[0-9A-HJKMNP-TV-Z]{26}|gen_[0-9A-HJKMNP-TV-Z]{26}(\/\d)?|https:\/\/.+|data:image\/.+)$/is.test(s),
    {
      message: 'expected an upload id (upl_…), a previous output (gen_… or gen_…/0), an https: URL or a data: URL',
    },
  );

export const GenerationRequest = z
  .strictObject({
    model: z.string().min(1).max(200).optional(),
    prompt: z.string().max(MAX_PROMPT).optional(),
    negative_prompt: z.string().max(MAX_PROMPT).optional(),
    softened_prompt: z.string().max(MAX_PROMPT).optional(),
    width: z.int().positive().max(65_536).optional(),
    height: z.int().positive().max(65_536).optional(),
    size: z
      .string()
      .regex(/^\d{1,5}x\d{1,5}$/, { message: 'expected WIDTHxHEIGHT, like 1024x1024' })
      .optional(),
    aspect_ratio: z
      .string()
      .regex(/^[1-9]\d{0,2}:[1-9]\d{0,2}$/, { message: 'expected a ratio like 16:9' })
      .optional(),
    seed: z.int().min(0).max(Number.MAX_SAFE_INTEGER).optional(),
    guidance: z.number().min(0).max(100).optional(),
    steps: z.int().min(1).max(1000).optional(),
    sampler: z.string().min(1).max(100).optional(),
    scheduler: z.string().min(1).max(100).optional(),
    n: z.int().min(1).max(8).optional(),
    loras: z
      .array(z.strictObject({ name: z.string().min(1).max(300), strength: z.number().min(-10).max(10).default(1) }))
      .max(16)
      .optional(),
    init_image: InputSource.optional(),
    mask: InputSource.optional(),
    strength: z.number().min(0).max(1).optional(),
    inputs: z
      .record(z.string().min(1).max(64), z.union([z.string().max(MAX_PROMPT), z.number(), z.boolean()]))
      .optional(),
    output: z
      .strictObject({
        format: z.enum(OUTPUT_FORMATS).optional(),
        quality: z.int().min(1).max(100).optional(),
        max_side: z.int().min(16).max(16_384).optional(),
      })
      .optional(),
    metadata: Metadata.optional(),
    idempotency_key: z.string().min(1).max(255).optional(),
    wait: z.union([z.boolean(), z.number().min(0)]).optional(),
    fallback: z.enum(['none', 'model']).optional(),
    batch_id: z.string().min(1).max(64).optional(),
    webhook_url: z
      .url({ protocol: /^https?$/ })
      .max(2000)
      .optional(),
    priority: z.enum(PRIORITIES).optional(),
    start_within_seconds: seconds(7 * 86_400).optional(),
    run_within_seconds: seconds(86_400).optional(),
    max_credits: CreditAmount.nonnegative().optional(),
    from: z
      .string()
      .regex(/^gen_[0-9A-HJKMNP-TV-Z]{26}$/, { message: 'expected a generation id (gen_…)' })
      .optional(),
  })
  .meta({ id: 'GenerationRequest' });
export type GenerationRequest = z.infer<typeof GenerationRequest>;

const timestamp = z.iso.datetime();

export const OutputBody = z
  .object({
    index: z.int(),
    url: z.string().nullable().describe('Signed; null once the file was swept.'),
    thumbnail_url: z.string().nullable(),
    media_type: z.string(),
    kind: z.enum(['image', 'video', 'audio', 'text']),
    width: z.int().nullable(),
    height: z.int().nullable(),
    bytes: z.int(),
    sha256: z.string(),
    seed: z.int(),
    expires_at: timestamp,
  })
  .meta({ id: 'Output' });

export const AttemptBody = z
  .object({
    n: z.int(),
    node: z.string(),
    backend: z.string(),
    model: z.string(),
    started_at: timestamp,
    finished_at: timestamp.nullable(),
    outcome: z.string().nullable(),
  })
  .meta({ id: 'Attempt' });

export const QUEUE_REASONS = [
  'waiting_for_slot',
  'loading_model',
  'no_node_online',
  'rate_limited',
  'breaker_open',
  'workspace_limit',
  'paused',
  'retrying',
  'model_not_installed',
] as const;
export type QueueReason = (typeof QUEUE_REASONS)[number];

export const ProgressBody = z
  .object({ fraction: z.number().min(0).max(1), message: z.string() })
  .meta({ id: 'Progress' });

export const GenerationBody = z
  .object({
    id: z.string(),
    status: z.enum(STATUSES),
    model: z.string(),
    requested_model: z.string().optional(),
    created_at: timestamp,
    started_at: timestamp.optional(),
    finished_at: timestamp.optional(),
    estimated_seconds: z.number().optional().describe('Seconds from now until done. Present until final.'),
    poll_after_seconds: z.number().optional(),
    queue_position: z.int().nullable().optional(),
    queue_reason: z.enum(QUEUE_REASONS).nullable().optional(),
    progress: ProgressBody.optional(),
    url: z.string().nullable().optional(),
    output_url: z.string().nullable().optional(),
    outputs: z.array(OutputBody),
    prompt: z.string(),
    negative_prompt: z.string().nullable(),
    seed: z.int(),
    width: z.int().nullable(),
    height: z.int().nullable(),
    steps: z.int().nullable(),
    guidance: z.number().nullable(),
    sampler: z.string().nullable(),
    scheduler: z.string().nullable(),
    strength: z.number().nullable(),
    n: z.int(),
    loras: z.array(z.object({ name: z.string(), strength: z.number() })),
    inputs: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    priority: z.enum(PRIORITIES),
    batch_id: z.string().nullable(),
    metadata: Metadata,
    previous_id: z.string().optional(),
    credits_reserved: z.number().optional(),
    credits_available: z.number().optional(),
    credits_charged: z.number().optional().describe('Present on every final state; 0 when nothing was billed.'),
    reason: z.string().optional(),
    error: GenerationError.optional(),
    attempts: z.array(AttemptBody),
    warnings: z.array(z.string()),
  })
  .meta({ id: 'Generation' });
export type GenerationBody = z.infer<typeof GenerationBody>;

export const GenerationQuery = ListQuery.extend({
  status: commaList(z.enum(STATUSES), 20, `expected ${STATUSES.join(', ')}, or several of them with commas between`)
    .optional()
    .describe('One status, or several with commas between.'),
  model: z.string().optional(),
  batch_id: z.string().optional(),
  since: timestamp.optional(),
});

export const listOf = <T extends z.ZodType>(item: T) =>
  z.object({ data: z.array(item), next_cursor: z.string().nullable() });

// The generation on the wire: request, body, list query. Field names are the public contract.

import { z } from 'zod';
import { PRIORITIES, STATUSES } from '../domain/generation.ts';
import { OUTPUT_FORMATS } from '../domain/params.ts';
import { GenerationError } from './errors.ts';
import { commaList, ListQuery, listOf } from './lists.ts';

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

export const InputSource = z
  .string()
  .refine(
    (s) => /^(upl_[0-9A-HJKMNP-TV-Z]{26}|gen_[0-9A-HJKMNP-TV-Z]{26}(\/\d)?|https:\/\/.+|data:image\/.+)$/is.test(s),
    {
      message: 'expected an upload id (upl_…), a previous output (gen_… or gen_…/0), an https: URL or a data: URL',
    },
  );

const SOURCES = 'an upload id, a previous output (`gen_…` or `gen_…/0`), an `https:` URL or a `data:` URL';

export const GenerationRequest = z
  .strictObject({
    model: z
      .string()
      .min(1)
      .max(200)
      .optional()
      .describe('Id or alias from the catalog; without it, the default model.'),
    prompt: z.string().max(MAX_PROMPT).optional().describe('What to make.'),
    negative_prompt: z
      .string()
      .max(MAX_PROMPT)
      .optional()
      .describe('What to keep out; a model that cannot take it answers with a warning.'),
    softened_prompt: z
      .string()
      .max(MAX_PROMPT)
      .optional()
      .describe(
        'Used instead of `prompt`, once and with the same seed, when that was refused or its picture withheld.',
      ),
    width: z
      .int()
      .positive()
      .max(65_536)
      .optional()
      .describe('Pixels; within the limits of the model and on its grid.'),
    height: z.int().positive().max(65_536).optional().describe('Pixels; as `width`.'),
    size: z
      .string()
      .regex(/^\d{1,5}x\d{1,5}$/, { message: 'expected WIDTHxHEIGHT of at most 5 digits each, like 1024x1024' })
      .optional()
      .describe('`1024x1024`; instead of `width` and `height`.'),
    aspect_ratio: z
      .string()
      .regex(/^[1-9]\d{0,2}:[1-9]\d{0,2}$/, { message: 'expected a ratio like 16:9' })
      .optional()
      .describe('`16:9`; about as many pixels as the model makes by default. Instead of `width`, `height` and `size`.'),
    seed: z
      .int()
      .min(0)
      .max(Number.MAX_SAFE_INTEGER)
      .optional()
      .describe('Repeats a picture; drawn at submit when absent. Output k of `n` uses seed + k.'),
    guidance: z.number().min(0).max(100).optional().describe('How closely to follow the prompt.'),
    steps: z.int().min(1).max(1000).optional().describe('Denoising steps; at most `limits.max_steps` of the model.'),
    sampler: z.string().min(1).max(100).optional().describe('As the node that runs it names it.'),
    scheduler: z.string().min(1).max(100).optional().describe('As the node that runs it names it.'),
    n: z.int().min(1).max(8).optional().describe('Outputs; 1 when absent, at most `limits.max_n` of the model.'),
    loras: z
      .array(
        z.strictObject({
          name: z.string().min(1).max(300).describe('As a node reports it.'),
          strength: z.number().min(-10).max(10).default(1).describe('Its weight.'),
        }),
      )
      .max(16)
      .optional()
      .describe('Checked against what the nodes really have.'),
    init_image: InputSource.optional().describe(`The picture to start from: ${SOURCES}.`),
    mask: InputSource.optional().describe(`What of \`init_image\` to paint anew, in white: ${SOURCES}.`),
    strength: z
      .number()
      .min(0)
      .max(1)
      .optional()
      .describe('How far to depart from `init_image`: 0 keeps it, 1 ignores it.'),
    inputs: z
      .record(z.string().min(1).max(64), z.union([z.string().max(MAX_PROMPT), z.number(), z.boolean()]))
      .optional()
      .describe('Values for the slots that the workflow of the model declares, by name.'),
    output: z
      .strictObject({
        format: z.enum(OUTPUT_FORMATS).optional().describe('What to store the picture as.'),
        quality: z.int().min(1).max(100).optional().describe('Of formats that lose some.'),
        max_side: z.int().min(16).max(16_384).optional().describe('Pixels; a larger picture is scaled down.'),
      })
      .optional()
      .describe('What becomes of a finished picture before it is stored.'),
    metadata: Metadata.optional().describe(
      "The caller's own audit trail: returned, filterable, summable; never sent to a model.",
    ),
    idempotency_key: z
      .string()
      .min(1)
      .max(255)
      .optional()
      .describe('Kept 24 hours: the same request with the same key is the same generation, charged once.'),
    wait: z
      .union([z.boolean(), z.number().min(0)])
      .optional()
      .describe('Seconds to hold the answer until it is final; `true`, or more than 60, means 60.'),
    fallback: z
      .enum(['none', 'model'])
      .optional()
      .describe(
        "May the catalog's equivalent model stand in when every route of this one is down or limited? When absent, yes where it lists one.",
      ),
    batch_id: z.string().min(1).max(64).optional().describe('A name that generations made together share.'),
    webhook_url: z
      .url({ protocol: /^https?$/ })
      .max(2000)
      .optional()
      .describe(
        "Called when this generation has ended, besides the workspace's webhooks; signed with the secret of `GET /v1/webhooks/secret`. Private addresses only where `outbound.allow_private` says so.",
      ),
    priority: z.enum(PRIORITIES).optional().describe('`batch` work gives way to `interactive` work.'),
    start_within_seconds: seconds(7 * 86_400)
      .optional()
      .describe('Ends as `timeout` when it has not begun to run by then; no limit when absent.'),
    run_within_seconds: seconds(86_400)
      .optional()
      .describe('Ends as `timeout` when an attempt runs longer; 10 minutes or 20 × the estimate when absent.'),
    max_credits: CreditAmount.nonnegative().optional().describe('Refused when it would cost more than this.'),
    from: z
      .string()
      .regex(/^gen_[0-9A-HJKMNP-TV-Z]{26}$/, { message: 'expected a generation id (gen_…)' })
      .optional()
      .describe('A finished generation to copy prompt, seed, size and metadata from; what is given here overrides.'),
  })
  .meta({ id: 'GenerationRequest' });
export type GenerationRequest = z.infer<typeof GenerationRequest>;

const timestamp = z.iso.datetime();

export const OutputBody = z
  .object({
    index: z.int().describe('From 0; its place among the `n`.'),
    url: z.string().nullable().describe('Signed; null once the file was swept.'),
    thumbnail_url: z.string().nullable().describe('Signed; null where there is no picture.'),
    media_type: z.string(),
    kind: z.enum(['image', 'video', 'audio', 'text']),
    width: z.int().nullable(),
    height: z.int().nullable(),
    bytes: z.int(),
    sha256: z.string().describe('Of the file that `url` serves, hex.'),
    seed: z.int().describe('The one that made this output.'),
    expires_at: timestamp.describe('When the links end.'),
  })
  .meta({ id: 'Output' });

export const AttemptBody = z
  .object({
    n: z.int().describe('From 1.'),
    node: z.string().describe('The node or account that ran it.'),
    backend: z.string(),
    model: z.string().describe('Another than asked for when a fallback ran.'),
    started_at: timestamp,
    finished_at: timestamp.nullable(),
    outcome: z.string().nullable().describe('Null while it runs.'),
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
    id: z.string().describe('`gen_` and a ULID.'),
    status: z.enum(STATUSES).describe('The last four are final.'),
    model: z.string().describe('Canonical id of the model that serves it.'),
    requested_model: z
      .string()
      .optional()
      .describe('The name asked for, where it was an alias or a fallback serves it.'),
    created_at: timestamp,
    started_at: timestamp.optional(),
    finished_at: timestamp.optional(),
    estimated_seconds: z.number().optional().describe('Seconds from now until done; present until final.'),
    poll_after_seconds: z.number().optional().describe('When the next poll makes sense; also in Retry-After.'),
    queue_position: z.int().nullable().optional().describe('An estimate, while queued.'),
    queue_reason: z.enum(QUEUE_REASONS).nullable().optional().describe('Why it is not running.'),
    progress: ProgressBody.optional().describe('While running.'),
    url: z
      .string()
      .nullable()
      .optional()
      .describe('Of the first output; signed, so it needs no key. Null once the file was swept.'),
    output_url: z.string().nullable().optional().describe('The same as `url`.'),
    outputs: z.array(OutputBody).describe('Empty until it has succeeded.'),
    prompt: z.string(),
    negative_prompt: z.string().nullable(),
    seed: z.int().describe('The one given, or the one drawn at submit.'),
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
    batch_id: z.string().nullable().describe('As given.'),
    metadata: Metadata,
    previous_id: z.string().optional().describe('The failed generation whose idempotency key this one took over.'),
    credits_reserved: z.number().optional().describe('Set aside until it is final; also in the answer to a submit.'),
    credits_available: z.number().optional().describe('What the workspace has left; in the answer to a submit only.'),
    credits_charged: z.number().optional().describe('Present on every final state; 0 when nothing was billed.'),
    reason: z.string().optional().describe('What went wrong, for people; `error.code` is for programs.'),
    error: GenerationError.optional().describe('On `failed`, `timeout` and `cancelled`.'),
    attempts: z.array(AttemptBody),
    warnings: z.array(z.string()).describe('What of the request was left out, and why.'),
  })
  .meta({ id: 'Generation' });
export type GenerationBody = z.infer<typeof GenerationBody>;
export const GenerationList = listOf(GenerationBody).meta({ id: 'GenerationList' });

export const GenerationQuery = ListQuery.extend({
  status: commaList(
    z.enum(STATUSES),
    20,
    `expected ${STATUSES.join(', ')}, or several of them with commas between`,
  ).describe('One status, or several with commas between.'),
  model: z.string().optional().describe('The canonical id that serves it.'),
  batch_id: z.string().optional().describe('As given at submit.'),
  since: timestamp.optional().describe('Created then or later.'),
  metadata: z
    .record(z.string(), z.string())
    .optional()
    .describe('One parameter for each key, `metadata.KEY=VALUE`: compared as text, all must match.')
    .meta({
      param: { style: 'form', explode: true, example: { 'metadata.ticket': 'MKT-2241' } },
      override: { propertyNames: { pattern: '^metadata\\..' } },
    }),
});

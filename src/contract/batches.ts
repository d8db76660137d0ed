// Batches on the wire: what is asked for, how it stands, and what lies on the desk in the morning.

import { z } from 'zod';
import { BATCH_STATUSES, type Batch, type Item, reconcile, type Tally } from '../domain/batch.ts';
import { DEFAULT_BREAKER } from '../domain/breaker.ts';
import { type Generation, STATUSES } from '../domain/generation.ts';
import { type Millicredits, type Millis, toCredits, toTimestamp } from '../domain/units.ts';
import { ErrorCode, GenerationError, renderGenerationError } from './errors.ts';
import { CreditAmount, GenerationBody, Metadata } from './generations.ts';
import { ListQuery, listOf } from './lists.ts';

export const MAX_BATCH_ITEMS = 10_000;

export const BreakerRequest = z
  .strictObject({
    window_seconds: z
      .number()
      .min(1)
      .max(86_400)
      .default(DEFAULT_BREAKER.windowMs / 1000)
      .describe('How far back it looks.'),
    min_finished: z
      .int()
      .min(1)
      .max(MAX_BATCH_ITEMS)
      .default(DEFAULT_BREAKER.minFinished)
      .describe('Fewer that finished in the window prove nothing.'),
    threshold: z
      .number()
      .min(0)
      .max(1)
      .default(DEFAULT_BREAKER.threshold)
      .describe('A larger share of failures trips it.'),
    cooldown_seconds: z
      .number()
      .min(1)
      .max(86_400)
      .default(DEFAULT_BREAKER.cooldownMs / 1000)
      .describe('How long a trip pauses the batch.'),
    trips: z.int().min(1).max(1000).default(DEFAULT_BREAKER.trips).describe('The consecutive trip that halts it.'),
  })
  .meta({ id: 'BreakerRules' });

/** Items are parsed one by one (`GenerationRequest`), so that thousands do not hold everybody up. */
const items = z
  .array(z.unknown())
  .max(MAX_BATCH_ITEMS)
  .meta({
    override: { type: 'array', maxItems: MAX_BATCH_ITEMS, items: { $ref: '#/components/schemas/GenerationRequest' } },
  });

export const BatchRequest = z
  .strictObject({
    name: z.string().min(1).max(200).optional(),
    items: items.default([]).describe('Generation requests; more may be appended while it runs or is paused.'),
    concurrency: z
      .int()
      .min(1)
      .max(10_000)
      .default(50)
      .describe("Items in work at once; never more than the workspace's own limit."),
    max_credits: CreditAmount.nonnegative()
      .optional()
      .describe('What it costs never crosses this; items that would are cancelled.'),
    breaker: z
      .union([z.literal(false), BreakerRequest])
      .default(BreakerRequest.parse({}))
      .describe('Pauses the batch when too many items fail, and halts it when they go on failing; `false`: never.'),
    fallback: z.enum(['none', 'model']).optional().describe('For items that do not say.'),
    metadata: Metadata.default({}),
    dry_run: z.boolean().default(false).describe('Only say what it would cost; nothing is stored.'),
    idempotency_key: z
      .string()
      .min(1)
      .max(255)
      .optional()
      .describe('The same request with the same key is the same batch.'),
  })
  .meta({ id: 'BatchRequest' });
export type BatchRequest = z.infer<typeof BatchRequest>;

export const ItemsRequest = z.strictObject({ items }).meta({ id: 'ItemsRequest' });

const timestamp = z.iso.datetime();
const counts = z.object(
  Object.fromEntries(STATUSES.map((s) => [s, z.int()])) as Record<(typeof STATUSES)[number], z.ZodInt>,
);

export const BatchBody = z
  .object({
    id: z.string().describe('`batch_` and a ULID.'),
    name: z.string().nullable(),
    status: z.enum(BATCH_STATUSES).describe("`paused` is a person's doing; a pause of the breaker shows in `breaker`."),
    total: z.int(),
    counts,
    credits: z.object({
      projected: z.number().describe('What all items cost if each succeeds.'),
      charged: z.number(),
      reserved: z.number().describe('Set aside for items in work.'),
      max_credits: z.number().nullable(),
    }),
    breaker: z.object({
      state: z.enum(['closed', 'paused', 'halted']),
      trips: z.int().describe('Consecutive ones.'),
      resumes_at: timestamp.nullable(),
    }),
    eta_seconds: z
      .number()
      .nullable()
      .describe('Seconds from now until its last item ends; null when it has, or nobody can say.'),
    concurrency: z.int().describe("As asked; the workspace's own limit counts beside it."),
    created_at: timestamp,
    finished_at: timestamp.nullable().describe('When its last item had ended.'),
    metadata: Metadata,
  })
  .meta({ id: 'Batch' });
export type BatchBody = z.infer<typeof BatchBody>;
export const BatchList = listOf(BatchBody).meta({ id: 'BatchList' });

export const DryRunBody = z
  .object({
    items: z.int(),
    projected_credits: z.number(),
    available: z.number(),
    max_credits: z.number().nullable(),
    fits: z.boolean().describe('Within what is available and within `max_credits`.'),
    by_model: z.record(z.string(), z.object({ items: z.int(), credits: z.number() })),
    attached: z.int().describe('Items whose key has a generation already: they cost nothing.'),
    refused: z
      .array(z.object({ index: z.int(), code: ErrorCode, message: z.string() }))
      .describe('Items that would fail at once.'),
  })
  .meta({ id: 'DryRun' });
export type DryRunBody = z.infer<typeof DryRunBody>;

export const ItemBody = z.object({ index: z.int(), key: z.string(), generation: GenerationBody }).meta({ id: 'Item' });
export const ItemList = listOf(ItemBody).meta({ id: 'ItemList' });
export type ItemList = z.infer<typeof ItemList>;

export const ItemsQuery = ListQuery.extend({
  status: z.enum(STATUSES).optional().describe('Only items in this state.'),
});

/** Of a prompt in the report; the item has the whole. */
const MAX_TOLD_PROMPT = 300;
/** Failures in one report: all of a night's work. */
export const MAX_TOLD_FAILURES = 2000;

export const ReportBody = BatchBody.extend({
  failures: z
    .array(
      z.object({
        id: z.string(),
        index: z.int(),
        key: z.string(),
        prompt: z.string().describe(`Its first ${MAX_TOLD_PROMPT} characters.`),
        model: z.string(),
        reason: z.string(),
        error: GenerationError,
        attempts: z.int(),
      }),
    )
    .describe(`The first ${MAX_TOLD_FAILURES}, in order; page through all with \`GET …/items?status=failed\`.`),
  failures_total: z.int().describe('How many did not succeed, listed here or not.'),
  reconciliation: z.object({
    projected: z.number(),
    charged: z.number(),
    delta_percent: z.number().describe('Signed.'),
    flagged: z.boolean().describe('Off by more than 5 %.'),
  }),
  seconds_per_job: z
    .object({ mean: z.number().nullable(), p50: z.number().nullable(), p95: z.number().nullable() })
    .describe('Of items that succeeded, on their node; all null when none has.'),
  outputs: z.string().describe('Where to page through the pictures.'),
}).meta({ id: 'BatchReport' });
export type ReportBody = z.infer<typeof ReportBody>;

export function renderBatch(b: Batch, t: Tally, etaSeconds: number | null): BatchBody {
  return {
    id: b.id,
    name: b.name,
    status: b.status,
    total: b.total,
    counts: { ...t.counts },
    credits: {
      projected: toCredits(b.projected),
      charged: toCredits(t.charged),
      reserved: toCredits(t.reserved),
      max_credits: b.maxCredits === null ? null : toCredits(b.maxCredits),
    },
    breaker: {
      state: b.breaker.state,
      trips: b.breaker.trips,
      resumes_at: b.breaker.resumesAt === null ? null : toTimestamp(b.breaker.resumesAt),
    },
    eta_seconds: etaSeconds,
    concurrency: b.concurrency,
    created_at: toTimestamp(b.createdAt),
    finished_at: b.finishedAt === null ? null : toTimestamp(b.finishedAt),
    metadata: { ...b.metadata },
  };
}

/** `failures`: the first items that did not succeed. `nodeMs`: of the items that succeeded, in any order. */
export function renderReport(
  b: Batch,
  t: Tally,
  etaSeconds: number | null,
  failures: readonly Item<Generation>[],
  nodeMs: readonly Millis[],
): ReportBody {
  const r = reconcile(b.projected, t.charged);
  return {
    ...renderBatch(b, t, etaSeconds),
    failures: failures.flatMap(({ index, key, generation: g }) =>
      'failure' in g.state
        ? [
            {
              id: g.id,
              index,
              key,
              prompt: cut(g.params.prompt),
              model: g.model,
              reason: g.state.failure.message,
              error: renderGenerationError(g.state.failure),
              attempts: g.attempts.length,
            },
          ]
        : [],
    ),
    failures_total: t.counts.failed + t.counts.timeout + t.counts.cancelled,
    reconciliation: {
      projected: toCredits(r.projected),
      charged: toCredits(r.charged),
      delta_percent: r.deltaPercent,
      flagged: r.flagged,
    },
    seconds_per_job: spread(nodeMs),
    outputs: `/v1/generations?batch_id=${b.id}`,
  };
}

/** Whole characters only. */
const cut = (prompt: string): string =>
  prompt.length <= MAX_TOLD_PROMPT
    ? prompt
    : `${prompt.slice(0, MAX_TOLD_PROMPT - 1).replace(/[\uD800-\uDBFF]$/, '')}…`;

function spread(nodeMs: readonly Millis[]): ReportBody['seconds_per_job'] {
  if (nodeMs.length === 0) return { mean: null, p50: null, p95: null };
  const sorted = [...nodeMs].sort((a, b) => a - b);
  const at = (share: number) => seconds(sorted[Math.ceil(share * sorted.length) - 1] ?? 0);
  return { mean: seconds(sorted.reduce((a, b) => a + b, 0) / sorted.length), p50: at(0.5), p95: at(0.95) };
}

const seconds = (ms: Millis): number => Math.round(ms) / 1000;

/** What a batch would cost, before it is asked for. */
export interface Projection {
  readonly items: number;
  readonly projected: Millicredits;
  readonly available: Millicredits;
  readonly maxCredits: Millicredits | null;
  readonly byModel: ReadonlyMap<string, { readonly items: number; readonly credits: Millicredits }>;
  readonly attached: number;
  readonly refused: DryRunBody['refused'];
}

export function renderProjection(p: Projection): DryRunBody {
  return {
    items: p.items,
    projected_credits: toCredits(p.projected),
    available: toCredits(p.available),
    max_credits: p.maxCredits === null ? null : toCredits(p.maxCredits),
    fits: p.projected <= p.available && (p.maxCredits === null || p.projected <= p.maxCredits),
    by_model: Object.fromEntries(
      [...p.byModel].map(([id, { items, credits }]) => [id, { items, credits: toCredits(credits) }]),
    ),
    attached: p.attached,
    refused: p.refused,
  };
}

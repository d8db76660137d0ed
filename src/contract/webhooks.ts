// Webhooks on the wire: receivers a workspace names, the log of what was sent them, and the bodies themselves.

import { z } from 'zod';
import type { Batch, Tally } from '../domain/batch.ts';
import { DELIVERY_STATES, type Delivery, HOOK_EVENTS, type Webhook } from '../domain/delivery.ts';
import type { Generation } from '../domain/generation.ts';
import { toCredits, toTimestamp } from '../domain/units.ts';
import { ListQuery, listOf } from './lists.ts';

const url = z
  .url({ protocol: /^https?$/, error: 'expected an http:// or https:// URL' })
  .max(2000)
  .describe('Private addresses only where `outbound.allow_private` says so; redirects are not followed.');
const events = z
  .array(z.enum(HOOK_EVENTS))
  .min(1)
  .max(HOOK_EVENTS.length)
  .describe('Which events it is told of; all when absent.');
const description = z.string().max(500).nullable();

export const WebhookRequest = z
  .strictObject({ url, events: events.optional(), description: description.optional() })
  .meta({ id: 'WebhookRequest' });

export const WebhookPatch = z
  .strictObject({ url: url.optional(), events: events.optional(), description: description.optional() })
  .meta({ id: 'WebhookPatch' });

const secret = z.string().describe('`whsec_…`, by the Standard Webhooks rules. Shown once.');

/** How its receiver does; `failing` ones are tried one delivery at a time until one arrives. */
const Health = z.object({
  state: z.enum(['ok', 'failing']),
  failures: z.int().describe('Tries in a row that failed.'),
  since: z.iso.datetime().nullable(),
  last_error: z.string().nullable(),
  waiting: z.int().describe('Deliveries not yet arrived.'),
});

export const WebhookBody = z
  .object({
    id: z.string(),
    url: z.string(),
    events: z.array(z.enum(HOOK_EVENTS)),
    description: z.string().nullable(),
    created_at: z.iso.datetime(),
    health: Health,
  })
  .meta({ id: 'Webhook' });
export type WebhookBody = z.infer<typeof WebhookBody>;
export const WebhookAnswer = WebhookBody.extend({ secret }).meta({ id: 'WebhookAnswer' });
export const WebhookList = listOf(WebhookBody).meta({ id: 'WebhookList' });
export const SecretBody = z.object({ secret }).meta({ id: 'WebhookSecret' });

export const DeliveryBody = z
  .object({
    id: z.string().describe('The `webhook-id` of every try.'),
    webhook_id: z.string().nullable().describe("Null: the generation's own `webhook_url`."),
    url: z.string(),
    event: z.enum([...HOOK_EVENTS, 'ping']),
    generation_id: z.string().nullable(),
    batch_id: z.string().nullable(),
    state: z.enum(DELIVERY_STATES),
    created_at: z.iso.datetime(),
    next_attempt_at: z.iso.datetime().nullable(),
    attempts: z.array(
      z.object({
        at: z.iso.datetime(),
        status_code: z.int().nullable().describe('Null: no answer came.'),
        error: z.string().nullable(),
        ms: z.int(),
      }),
    ),
  })
  .meta({ id: 'Delivery' });
export type DeliveryBody = z.infer<typeof DeliveryBody>;
export const DeliveryList = listOf(DeliveryBody).meta({ id: 'DeliveryList' });
export const DeliveriesQuery = ListQuery.extend({ state: z.enum(DELIVERY_STATES).optional() });

export interface HookHealth {
  readonly failing: boolean;
  readonly failures: number;
  readonly since: number | null;
  readonly lastError: string | null;
  readonly waiting: number;
}

export function renderWebhook(w: Webhook, h: HookHealth): WebhookBody {
  return {
    id: w.id,
    url: w.url,
    events: [...w.events],
    description: w.description,
    created_at: toTimestamp(w.createdAt),
    health: {
      state: h.failing ? 'failing' : 'ok',
      failures: h.failures,
      since: h.since === null ? null : toTimestamp(h.since),
      last_error: h.lastError,
      waiting: h.waiting,
    },
  };
}

export function renderDelivery(d: Delivery): DeliveryBody {
  return {
    id: d.id,
    webhook_id: d.webhookId,
    url: d.url,
    event: d.event,
    generation_id: d.generationId,
    batch_id: d.batchId,
    state: d.state,
    created_at: toTimestamp(d.createdAt),
    next_attempt_at: d.nextAttemptAt === null ? null : toTimestamp(d.nextAttemptAt),
    attempts: d.attempts.map((a) => ({
      at: toTimestamp(a.at),
      status_code: a.statusCode,
      error: a.error,
      ms: a.ms,
    })),
  };
}

/** The body of a generation's webhook: flat and small. `url`: of its first output, null unless it succeeded. */
export function hookBody(g: Generation, url: string | null): Record<string, unknown> {
  const { state } = g;
  const failed = 'failure' in state ? state.failure : null;
  return {
    event: `generation.${state.status}`,
    id: g.id,
    url,
    model: g.model,
    credits_charged: toCredits(g.charged),
    created_at: toTimestamp(g.createdAt),
    metadata: { ...g.metadata },
    batch_id: g.batchId,
    ...(failed && { reason: failed.message, error: { code: failed.code } }),
  };
}

/** The body of a test: as small as it gets. */
export function pingBody(w: Webhook, at: number): Record<string, unknown> {
  return { event: 'ping', id: w.id, created_at: toTimestamp(at) };
}

/** The body that tells of a batch's end. */
export function batchHookBody(b: Batch, t: Tally): Record<string, unknown> {
  return {
    event: 'batch.finished',
    id: b.id,
    name: b.name,
    status: b.status,
    counts: { ...t.counts },
    credits_charged: toCredits(t.charged),
    created_at: toTimestamp(b.createdAt),
    metadata: { ...b.metadata },
  };
}

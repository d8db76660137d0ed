// Webhooks and deliveries ↔ their rows. A delivery's id follows from what it tells and whom, so the same change can
// never be told twice under two ids.

import { hash } from 'node:crypto';
import type { Delivery, DeliveryAttempt, HookEvent, NewDelivery, Secret, Webhook } from '../domain/delivery.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import { claimId, text } from './rows.ts';
import type { DeliveryRow, WebhookRow } from './schema.ts';

export const webhookRow = (w: Webhook): WebhookRow => ({
  id: w.id,
  workspace_id: w.workspaceId,
  url: text(w.url),
  events: JSON.stringify(w.events),
  description: w.description === null ? null : text(w.description),
  secrets: JSON.stringify(w.secrets),
  created_at: w.createdAt,
});

export const toWebhook = (row: WebhookRow): Webhook => ({
  id: row.id,
  workspaceId: row.workspace_id,
  url: row.url,
  events: JSON.parse(row.events) as HookEvent[],
  description: row.description,
  secrets: JSON.parse(row.secrets) as Secret[],
  createdAt: row.created_at,
});

/** URLs are longer than an index entry may be. */
export const receiverOf = (workspaceId: WorkspaceId, url: string): string => claimId(workspaceId, url);

export const DELIVERY_COLUMNS = [
  'id',
  'workspace_id',
  'webhook_id',
  'url',
  'receiver',
  'event',
  'generation_id',
  'batch_id',
  'state',
  'created_at',
  'since',
  'next_attempt_at',
  'ended_at',
  'body',
  'attempts',
] as const;

export const deliveryRow = (d: Delivery): DeliveryRow => ({
  id: d.id,
  workspace_id: d.workspaceId,
  webhook_id: d.webhookId,
  url: text(d.url),
  receiver: receiverOf(d.workspaceId, text(d.url)),
  event: d.event,
  generation_id: d.generationId,
  batch_id: d.batchId,
  state: d.state,
  created_at: d.createdAt,
  since: d.since,
  next_attempt_at: d.nextAttemptAt,
  ended_at: d.state === 'pending' ? null : (d.attempts.at(-1)?.at ?? d.createdAt),
  body: d.body,
  attempts: JSON.stringify(d.attempts),
});

export const toDelivery = (row: DeliveryRow): Delivery => ({
  id: row.id,
  workspaceId: row.workspace_id,
  webhookId: row.webhook_id,
  url: row.url,
  event: row.event,
  generationId: row.generation_id,
  batchId: row.batch_id,
  createdAt: row.created_at,
  since: row.since,
  state: row.state,
  nextAttemptAt: row.next_attempt_at,
  body: row.body,
  attempts: JSON.parse(row.attempts) as DeliveryAttempt[],
});

/** Due at once. `seq`: the number of the change it tells of. */
export const dueAtOnce = (
  one: NewDelivery,
  seq: number,
  workspaceId: WorkspaceId,
  at: Millis,
  body: string | null,
): Delivery => ({
  ...one,
  id: deliveryId(one, seq),
  workspaceId,
  createdAt: at,
  since: at,
  state: 'pending',
  nextAttemptAt: at,
  body,
  attempts: [],
});

/** 130 bits as 26 characters of base32 (0–9, a–v). */
function deliveryId({ webhookId, url, generationId, batchId }: NewDelivery, seq: number): string {
  const digest = hash('sha256', JSON.stringify([webhookId ?? url, generationId ?? batchId, seq]));
  return `msg_${(BigInt(`0x${digest.slice(0, 33)}`) >> 2n).toString(32).padStart(26, '0')}`;
}

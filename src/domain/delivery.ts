// A delivery: one webhook to send, written with the change it tells of, tried until it arrives or a day has passed.
// Pure: which deliveries follow from a change, and when the next try is due.

import type { Batch, BatchEvent } from './batch.ts';
import { type FinalStatus, type Generation, isFinal } from './generation.ts';
import type { GenerationId, Millis, WorkspaceId } from './units.ts';

export const HOOK_EVENTS = [
  'generation.succeeded',
  'generation.failed',
  'generation.timeout',
  'generation.cancelled',
  'batch.finished',
] as const;
export type HookEvent = (typeof HOOK_EVENTS)[number];

/** `whsec_` + base64; `until`: it signs no longer after this (a rotated one), null: it is the current one. */
export interface Secret {
  readonly key: string;
  readonly until: Millis | null;
}

/** How long a rotated secret signs beside the new one. */
export const ROTATION_MS = 24 * 3_600_000;

/** A receiver that a workspace named. */
export interface Webhook {
  /** `wh_` + ULID. */
  readonly id: string;
  readonly workspaceId: WorkspaceId;
  readonly url: string;
  readonly events: readonly HookEvent[];
  readonly description: string | null;
  /** Newest first. */
  readonly secrets: readonly Secret[];
  readonly createdAt: Millis;
}

export interface DeliveryAttempt {
  readonly at: Millis;
  /** Null: no answer came. */
  readonly statusCode: number | null;
  readonly error: string | null;
  readonly ms: Millis;
}

export const DELIVERY_STATES = ['pending', 'delivered', 'dead'] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];

/** What a change asks for. */
export interface NewDelivery {
  /** Null: the generation's own `webhook_url`, signed by the workspace's default secret. */
  readonly webhookId: string | null;
  readonly url: string;
  readonly event: HookEvent | 'ping';
  readonly generationId: GenerationId | null;
  readonly batchId: string | null;
}

export interface Delivery extends NewDelivery {
  /** `msg_` + 26 characters; the `webhook-id` of every try. */
  readonly id: string;
  readonly workspaceId: WorkspaceId;
  readonly createdAt: Millis;
  /** When its day began: when it was made, or last redelivered. */
  readonly since: Millis;
  readonly state: DeliveryState;
  /** Null unless pending. */
  readonly nextAttemptAt: Millis | null;
  /** The exact text sent; null until it was first sent (a generation's is rendered then). */
  readonly body: string | null;
  readonly attempts: readonly DeliveryAttempt[];
}

const eventOf = (status: FinalStatus): HookEvent => `generation.${status}`;

/** Deliveries that follow when a generation has moved to this state. Only final states are told. */
export function deliveriesFor(g: Generation, hooks: readonly Webhook[]): readonly NewDelivery[] {
  if (!isFinal(g)) return [];
  const event = eventOf(g.state.status as FinalStatus);
  const about = { event, generationId: g.id, batchId: null } as const;
  const wanted = hooks.filter((h) => h.workspaceId === g.workspaceId && h.events.includes(event));
  return [
    ...wanted.map((h) => ({ webhookId: h.id, url: h.url, ...about })),
    ...(g.webhookUrl === null ? [] : [{ webhookId: null, url: g.webhookUrl, ...about }]),
  ];
}

/** Deliveries that follow from a batch event: one per hook each time it has come to its end. */
export function deliveriesForBatch(b: Batch, event: BatchEvent, hooks: readonly Webhook[]): readonly NewDelivery[] {
  if (event.type !== 'finished' && event.type !== 'settled') return [];
  return hooks
    .filter((h) => h.workspaceId === b.workspaceId && h.events.includes('batch.finished'))
    .map((h) => ({ webhookId: h.id, url: h.url, event: 'batch.finished', generationId: null, batchId: b.id }));
}

/** The secrets after a rotation: the new one first; those before sign for a day from when they were replaced. */
export function rotated(secrets: readonly Secret[], key: string, now: Millis): readonly Secret[] {
  const before = liveSecrets(secrets, now).map((s) => ({ ...s, until: s.until ?? now + ROTATION_MS }));
  return [{ key, until: null }, ...before].slice(0, MOST_SECRETS);
}

/** However often it is rotated, the header stays short. */
const MOST_SECRETS = 10;

/** Those that sign now, newest first. */
export const liveSecrets = (secrets: readonly Secret[], now: Millis): readonly Secret[] =>
  secrets.filter((s) => s.until === null || s.until > now);

const FIRST_RETRY_MS = [2_000, 5_000] as const;
const GROWTH = 3;
const LONGEST_RETRY_MS = 3_600_000;
/** Where others arrive: what failed there was more likely bad luck than an outage. */
const LONGEST_WHERE_OTHERS_ARRIVE_MS = 300_000;
/** After this it is dead. */
export const DELIVERY_KEPT_MS = 24 * 3_600_000;

/** Its day is over: it is not tried again. */
export const isOverdue = (d: Pick<Delivery, 'since'>, now: Millis): boolean => now > d.since + DELIVERY_KEPT_MS;

/**
 * When to try again after `failures` failed tries (≥ 1), the last at `now`; null: a day is over. 2–5 s first, then three
 * times as long each, with jitter 0.85–1.15, at most an hour. `chance`: 0…1.
 */
export function nextTry(
  since: Millis,
  failures: number,
  now: Millis,
  chance: number,
  longestMs: Millis = LONGEST_RETRY_MS,
): Millis | null {
  const [least, most] = FIRST_RETRY_MS;
  const first = least + (most - least) * chance;
  const middle = (least + most) / 2;
  const wait = failures <= 1 ? first : middle * GROWTH ** (failures - 1) * (0.85 + 0.3 * chance);
  const at = now + Math.round(Math.min(longestMs, wait));
  return at > since + DELIVERY_KEPT_MS ? null : at;
}

/** One try, and what its receiver asked for. */
export interface Tried {
  readonly attempt: DeliveryAttempt;
  /** `Retry-After` of a 429 or 503. */
  readonly retryAfterMs: Millis | null;
  /** Others have arrived there since the last try of this one. */
  readonly othersArrive: boolean;
}

/** What follows from a try that ended at `now`. 2xx: delivered. Else: later, or dead. */
export function afterTry(
  d: Pick<Delivery, 'since' | 'attempts'>,
  { attempt, retryAfterMs, othersArrive }: Tried,
  now: Millis,
  chance: number,
): { readonly state: DeliveryState; readonly nextAttemptAt: Millis | null } {
  if (hasArrived(attempt)) return { state: 'delivered', nextAttemptAt: null };
  const failures = 1 + d.attempts.filter((a) => a.at >= d.since).length;
  const longest = othersArrive ? LONGEST_WHERE_OTHERS_ARRIVE_MS : LONGEST_RETRY_MS;
  const planned = nextTry(d.since, failures, now, chance, longest);
  if (planned === null) return { state: 'dead', nextAttemptAt: null };
  const asked = now + Math.min(retryAfterMs ?? 0, LONGEST_RETRY_MS);
  const at = Math.max(planned, asked);
  return at > d.since + DELIVERY_KEPT_MS
    ? { state: 'dead', nextAttemptAt: null }
    : { state: 'pending', nextAttemptAt: at };
}

export const hasArrived = ({ statusCode }: Pick<DeliveryAttempt, 'statusCode'>): boolean =>
  statusCode !== null && statusCode >= 200 && statusCode < 300;

// What goes to a receiver: the text of a delivery, who signs it, and the call itself. Knows nothing of receivers' standing
// and notes nothing: what is made of an answer is delivering.ts.

import { hookBody } from '../contract/webhooks.ts';
import type { Delivery, DeliveryAttempt, Secret } from '../domain/delivery.ts';
import type { Generation } from '../domain/generation.ts';
import type { GenerationId, Millis } from '../domain/units.ts';
import { HttpError, type HttpResponse } from '../system/system.ts';
import type { Rooms } from './rooms.ts';
import { defaultSecrets, signatureHeaders } from './signing.ts';

const TRY_MS = 10_000;
const ANSWER_BYTES = 4_096;

export interface Post {
  readonly rooms: Rooms;
  readonly generation: (id: GenerationId) => Promise<Generation | null>;
  /** Absolute URL of its first output; null when the file is gone or there is none. */
  readonly link: (g: Generation, baseUrl: string) => Promise<string | null>;
  /** Calls under way are cut off when it aborts. */
  readonly signal: AbortSignal;
}

export interface Letter {
  readonly body: string;
  readonly secrets: readonly Secret[];
}

export interface Sent {
  readonly attempt: DeliveryAttempt;
  /** What the receiver asked for. */
  readonly retryAfterMs: Millis | null;
}

/** Its text, and who signs it. */
export async function written(
  { rooms, generation, link }: Post,
  d: Delivery,
): Promise<Letter | { readonly unsendable: string }> {
  const secrets =
    d.webhookId === null
      ? await defaultSecrets(rooms, d.workspaceId)
      : (await rooms.store.webhooks.get(d.workspaceId, d.webhookId))?.secrets;
  if (secrets === undefined) return { unsendable: 'the webhook was deleted' };
  if (d.body) return { body: d.body, secrets };
  const g = d.generationId === null ? null : await generation(d.generationId);
  if (g === null) return { unsendable: 'what it tells of is gone' };
  return { body: JSON.stringify(hookBody(g, await link(g, await rooms.settings.baseUrl))), secrets };
}

/** One try, ten seconds in all. The status decides; what the receiver writes besides is not needed. */
export async function send({ rooms, signal }: Post, { id, url }: Delivery, { body, secrets }: Letter): Promise<Sent> {
  const { clock, http } = rooms.system;
  const at = clock.now();
  const started = clock.monotonic();
  const late = new AbortController();
  using _deadline = clock.timer(TRY_MS, () => late.abort(new HttpError('timeout', 'no complete answer in time')));
  const noted = (statusCode: number | null, error: string | null, retryAfterMs: Millis | null) => ({
    attempt: { at, statusCode, error, ms: Math.round(clock.monotonic() - started) },
    retryAfterMs,
  });
  try {
    const response = await http.request(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'user-agent': rooms.settings.software.replace(' ', '/'),
        ...signatureHeaders(id, body, secrets, at),
      },
      body,
      trust: 'public',
      timeoutMs: TRY_MS,
      maxBytes: ANSWER_BYTES,
      signal: AbortSignal.any([signal, late.signal]),
    });
    await response.bytes().catch(() => undefined);
    signal.throwIfAborted();
    const { ok, status } = response;
    return noted(status, ok ? null : `answered ${status}`, retryAfter(response, clock.now()));
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof HttpError)) throw error;
    return noted(error.status, error.message, null);
  }
}

const ASKS_FOR_TIME = new Set([429, 503]);

/** `Retry-After` in either of its forms; null: it does not ask for time. */
function retryAfter({ status, header }: HttpResponse, now: Millis): Millis | null {
  const text = header('retry-after');
  if (text === null || !ASKS_FOR_TIME.has(status)) return null;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isFinite(ms) && ms > 0 ? ms : null;
}

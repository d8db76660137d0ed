// The sender of webhooks. What is to be sent was written with the change it tells of; this reads what is due, tries it,
// and notes how that went. A try that was not noted, because the gateway stopped, is made again: receivers know a
// delivery by its id. All reading happens in one loop, so nothing is ever sent twice at a time.

import { hookBody } from '../contract/webhooks.ts';
import {
  afterTry,
  type Delivery,
  type DeliveryAttempt,
  hasArrived,
  isOverdue,
  type Secret,
} from '../domain/delivery.ts';
import type { Generation } from '../domain/generation.ts';
import type { GenerationId, Millis } from '../domain/units.ts';
import type { Receiver } from '../store/store.ts';
import { HttpError, type HttpResponse, startLoop } from '../system/system.ts';
import { createReceivers, hostOf, keyOf, PER_RECEIVER, type ReceiverHealth } from './receivers.ts';
import type { Rooms } from './rooms.ts';
import { defaultSecrets, signatureHeaders } from './signing.ts';

const TRY_MS = 10_000;
const ANSWER_BYTES = 4_096;
const RECEIVERS_AT_ONCE = 2_000;
const KEPT_MS = 30 * 24 * 3_600_000;
const PRUNE_EVERY_MS = 3_600_000;
/** After an error of our own: the store does not take notes, so nothing more is sent there for a while. */
const OWN_ERROR_REST_MS = 5_000;

export interface Sender {
  /** Something became due. */
  wake(): void;
  health(receiver: Receiver): ReceiverHealth;
  readonly stats: SenderStats;
  /** At once: tries in flight are cut off, not noted, and made again after the next start. */
  stop(): Promise<void>;
}

export interface SenderStats {
  /** Ended since start. */
  readonly delivered: number;
  readonly dead: number;
  readonly tries: { readonly arrived: number; readonly failed: number };
  readonly failingReceivers: number;
}

export interface SenderOptions {
  readonly rooms: Rooms;
  readonly generation: (id: GenerationId) => Promise<Generation | null>;
  /** Absolute URL of its first output; null when the file is gone or there is none. */
  readonly link: (g: Generation, baseUrl: string) => Promise<string | null>;
}

/** Call it before anything else looks at the deliveries: after a restart all that wait are due. */
export async function startSender({ rooms, generation, link }: SenderOptions): Promise<Sender> {
  const { settings } = rooms;
  const { clock, random, log, http } = rooms.system;
  const { deliveries, webhooks } = rooms.store;
  const receivers = createReceivers();
  const stopping = new AbortController();
  const stopped = new Promise<never>((_resolve, reject) => {
    stopping.signal.addEventListener('abort', () => reject(stopping.signal.reason), { once: true });
  });
  stopped.catch(() => undefined);
  /** In flight, or landed since the tick under way began to read: what it read of them may be old. */
  const flying = new Set<string>();
  const landed = new Set<string>();
  const tries = new Set<Promise<void>>();
  let baseUrl = '';
  /** Receivers with new room, to be looked at; null: all. */
  let roomy: Map<string, Receiver> | null = null;
  /** When all have to be looked at again. */
  let dueAt = 0;
  /** Somebody waits for room that others take. */
  let crowded = false;
  let pruneAt = clock.now();
  const ended = { delivered: 0, dead: 0 };
  const tried = { arrived: 0, failed: 0 };
  const userAgent = settings.software.replace(' ', '/');
  await deliveries.dueNow(clock.now());
  const loop = startLoop({ name: 'webhooks', clock, log, tick });

  /** Nothing is sent before the doors listen: receivers fetch what they are told of. */
  async function tick(): Promise<number> {
    if (baseUrl === '') baseUrl = await Promise.race([settings.baseUrl, stopped]);
    for (const id of landed) flying.delete(id);
    landed.clear();
    if (pruneAt <= clock.now()) await prune();
    const now = clock.now();
    const wanted = dueAt <= now ? null : roomy;
    roomy = new Map();
    dueAt = 0;
    if (wanted === null) crowded = false;
    const due = wanted === null ? await deliveries.receivers(now, RECEIVERS_AT_ONCE) : wanted.values();
    for (const receiver of due) await fill(receiver, now);
    const times = [await deliveries.next(now), receivers.nextRested(now), pruneAt];
    dueAt = Math.min(...times.filter((time) => time !== null));
    return Math.max(1, dueAt - clock.now());
  }

  async function prune(): Promise<void> {
    pruneAt = clock.now() + PRUNE_EVERY_MS;
    await deliveries.prune(clock.now() - KEPT_MS);
  }

  /** Starts as many tries as there is room for. */
  async function fill(receiver: Receiver, now: Millis): Promise<void> {
    const room = receivers.room(receiver, now);
    if (room <= 0) {
      crowded ||= receivers.crowdedOut(receiver, now);
      return;
    }
    for (const delivery of await deliveries.due(receiver, now, room + PER_RECEIVER)) {
      if (flying.has(delivery.id)) continue;
      if (stopping.signal.aborted || receivers.room(receiver, now) <= 0) break;
      launch(receiver, delivery);
    }
  }

  function launch(receiver: Receiver, delivery: Delivery): void {
    flying.add(delivery.id);
    const begun = receivers.begin(receiver, clock.now());
    const one = attempt(receiver, delivery)
      .catch((error: unknown) => {
        if (stopping.signal.aborted) return;
        log.error({ err: error, delivery: delivery.id }, 'a webhook could not be sent or noted; trying again');
        receivers.rest(receiver, clock.now() + OWN_ERROR_REST_MS, clock.now());
      })
      .finally(() => {
        begun[Symbol.dispose]();
        tries.delete(one);
        landed.add(delivery.id);
        if (crowded) roomy = null;
        roomy?.set(keyOf(receiver), receiver);
        loop.wake();
      });
    tries.add(one);
  }

  async function attempt(receiver: Receiver, delivery: Delivery): Promise<void> {
    const letter = await written(delivery);
    if ('unsendable' in letter) return bury(delivery, letter.unsendable);
    if (receivers.health(receiver).failing && isOverdue(delivery, clock.now()))
      return bury(delivery, 'not tried again: its day is over, and the receiver still fails');
    const { attempt: made, retryAfterMs } = await send(delivery, letter);
    const now = clock.now();
    const othersArrive = receivers.arrivedSince(receiver, delivery.attempts.at(-1)?.at ?? Number.MAX_SAFE_INTEGER);
    const then = afterTry(delivery, { attempt: made, retryAfterMs, othersArrive }, now, random.fraction());
    const recovered = hasArrived(made) && arrived(receiver, delivery);
    if (!hasArrived(made)) failed(receiver, delivery, made, retryAfterMs);
    await note(delivery, made, { ...then, body: letter.body });
    if (recovered) await deliveries.dueNow(clock.now(), receiver);
  }

  /** What follows will reach nobody: dead without a try. */
  async function bury(delivery: Delivery, error: string): Promise<void> {
    const made = { at: clock.now(), statusCode: null, error, ms: 0 };
    await note(delivery, made, { state: 'dead', nextAttemptAt: null, body: delivery.body ?? '' });
  }

  /** Counts what it ended; nothing, when that had ended meanwhile. */
  async function note(...args: Parameters<typeof deliveries.attempted>): Promise<void> {
    const state = (await deliveries.attempted(...args))?.state ?? 'pending';
    if (state !== 'pending') ended[state]++;
  }

  /** Its text, and who signs it. */
  async function written(d: Delivery): Promise<Letter | { readonly unsendable: string }> {
    const secrets =
      d.webhookId === null
        ? await defaultSecrets(rooms, d.workspaceId)
        : (await webhooks.get(d.workspaceId, d.webhookId))?.secrets;
    if (secrets === undefined) return { unsendable: 'the webhook was deleted' };
    if (d.body) return { body: d.body, secrets };
    const g = d.generationId === null ? null : await generation(d.generationId);
    if (g === null) return { unsendable: 'what it tells of is gone' };
    return { body: JSON.stringify(hookBody(g, await link(g, baseUrl))), secrets };
  }

  /** One try, ten seconds in all. The status decides; what the receiver writes besides is not needed. */
  async function send(delivery: Delivery, { body, secrets }: Letter): Promise<Sent> {
    const at = clock.now();
    const started = clock.monotonic();
    const late = new AbortController();
    using _deadline = clock.timer(TRY_MS, () => late.abort(new HttpError('timeout', 'no complete answer in time')));
    const noted = (statusCode: number | null, error: string | null) => ({
      attempt: { at, statusCode, error, ms: Math.round(clock.monotonic() - started) },
      retryAfterMs: null,
    });
    try {
      const response = await http.request(delivery.url, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          'user-agent': userAgent,
          ...signatureHeaders(delivery.id, body, secrets, at),
        },
        body,
        trust: 'public',
        timeoutMs: TRY_MS,
        maxBytes: ANSWER_BYTES,
        signal: AbortSignal.any([stopping.signal, late.signal]),
      });
      await response.bytes().catch(() => undefined);
      stopping.signal.throwIfAborted();
      const { ok, status } = response;
      return { ...noted(status, ok ? null : `answered ${status}`), retryAfterMs: retryAfter(response, clock.now()) };
    } catch (error) {
      stopping.signal.throwIfAborted();
      if (!(error instanceof HttpError)) throw error;
      return noted(error.status, error.message);
    }
  }

  /** True: it had been failing; what waits for it need wait no longer. */
  function arrived(receiver: Receiver, { webhookId }: Delivery): boolean {
    tried.arrived++;
    const recovered = receivers.arrived(receiver, clock.now());
    if (recovered) log.info({ webhook: webhookId, host: hostOf(receiver.url) }, 'a webhook receiver has recovered');
    return recovered;
  }

  function failed(receiver: Receiver, { webhookId }: Delivery, made: DeliveryAttempt, retryAfterMs: Millis | null) {
    tried.failed++;
    const now = clock.now();
    const about = { webhook: webhookId, host: hostOf(receiver.url), error: made.error };
    if (retryAfterMs !== null) receivers.rest(receiver, now + Math.min(retryAfterMs, LONGEST_REST_MS), now);
    if (receivers.failed(receiver, now, made.error)) {
      log.warn(about, 'a webhook receiver fails; one delivery at a time is tried until one arrives');
    }
    if (made.statusCode === 410) log.warn(about, 'a webhook receiver says it is gone; delete the webhook');
  }

  return {
    wake() {
      roomy = null;
      loop.wake();
    },
    health: receivers.health,
    get stats() {
      return { ...ended, tries: { ...tried }, failingReceivers: receivers.failing };
    },
    async stop() {
      stopping.abort(new Error('the gateway stops'));
      await loop.stop();
      await Promise.allSettled(tries);
    },
  };
}

interface Letter {
  readonly body: string;
  readonly secrets: readonly Secret[];
}

interface Sent {
  readonly attempt: DeliveryAttempt;
  readonly retryAfterMs: Millis | null;
}

const LONGEST_REST_MS = 3_600_000;
const ASKS_FOR_TIME = new Set([429, 503]);

/** `Retry-After` in either of its forms; null: it does not ask for time. */
function retryAfter({ status, header }: HttpResponse, now: Millis): Millis | null {
  const text = header('retry-after');
  if (text === null || !ASKS_FOR_TIME.has(status)) return null;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return Number.isFinite(ms) && ms > 0 ? ms : null;
}

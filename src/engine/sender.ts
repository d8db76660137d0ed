// The sender of webhooks. What is to be sent was written with the change it tells of; this reads what is due and starts
// as many tries as receivers have room for. All reading happens in one loop, so nothing is ever sent twice at a time.

import type { Delivery } from '../domain/delivery.ts';
import type { Millis } from '../domain/units.ts';
import type { Deliveries, Receiver } from '../store/store.ts';
import { startLoop } from '../system/system.ts';
import { createDelivering, type Delivering } from './delivering.ts';
import type { Post } from './letter.ts';
import { createReceivers, keyOf, PER_RECEIVER, type ReceiverHealth } from './receivers.ts';

const RECEIVERS_AT_ONCE = 2_000;
const KEPT_MS = 30 * 24 * 3_600_000;
const PRUNE_EVERY_MS = 3_600_000;
/** Beyond it the clock was set back, and the times that were noted mean nothing. */
const CLOCK_SET_BACK_MS = 60_000;
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
  readonly tries: Delivering['tries'];
  readonly failingReceivers: number;
  /** Counts those that wait to be sent or tried again. */
  pending(): Promise<number>;
}

/** Call it before anything else looks at the deliveries: after a restart all that wait are due. */
export async function startSender(options: Omit<Post, 'signal'>): Promise<Sender> {
  const { system, store, settings } = options.rooms;
  const { clock, log } = system;
  const { deliveries } = store;
  const stopping = new AbortController();
  const receivers = createReceivers();
  const delivering = createDelivering({ ...options, signal: stopping.signal }, receivers);
  const agenda = createAgenda(deliveries);
  const flights = createFlights();
  /** Nothing is sent before the doors listen: receivers fetch what they are told of. */
  const listening = Promise.race([settings.baseUrl, aborted(stopping.signal)]);
  listening.catch(() => undefined);
  let pruneAt = clock.now();
  let seenAt = clock.now();
  await deliveries.dueNow(clock.now());
  const loop = startLoop({ name: 'webhooks', clock, log, tick });

  async function tick(): Promise<number> {
    await listening;
    flights.clear();
    if (pruneAt <= clock.now()) await prune();
    const now = clock.now();
    if (now < seenAt - CLOCK_SET_BACK_MS) await deliveries.dueNow(now);
    seenAt = now;
    for (const receiver of await agenda.open(now)) await fill(receiver, now);
    const times = [await deliveries.next(now), receivers.nextRested(now), pruneAt];
    return Math.max(1, agenda.close(Math.min(...times.filter((time) => time !== null))) - clock.now());
  }

  async function prune(): Promise<void> {
    pruneAt = clock.now() + PRUNE_EVERY_MS;
    await deliveries.prune(clock.now() - KEPT_MS);
  }

  /** Starts as many tries as there is room for. */
  async function fill(receiver: Receiver, now: Millis): Promise<void> {
    const room = receivers.room(receiver, now);
    if (room <= 0) {
      if (receivers.crowdedOut(receiver, now)) agenda.crowdedOut(receiver);
      return;
    }
    for (const delivery of await deliveries.due(receiver, now, room + PER_RECEIVER)) {
      if (flights.has(delivery)) continue;
      if (stopping.signal.aborted || receivers.room(receiver, now) <= 0) break;
      flights.begin(delivery, launch(receiver, delivery));
    }
  }

  async function launch(receiver: Receiver, delivery: Delivery): Promise<void> {
    using _begun = receivers.begin(receiver, clock.now());
    try {
      await delivering.attempt(receiver, delivery);
    } catch (error) {
      if (stopping.signal.aborted) return;
      log.error({ err: error, delivery: delivery.id }, 'a webhook could not be sent or noted; trying again');
      receivers.rest(receiver, clock.now() + OWN_ERROR_REST_MS, clock.now());
    } finally {
      flights.landed(delivery);
      agenda.hasRoom(receiver);
      loop.wake();
    }
  }

  return {
    wake() {
      agenda.all();
      loop.wake();
    },
    health: receivers.health,
    get stats() {
      return {
        ...delivering.ended,
        tries: { ...delivering.tries },
        failingReceivers: receivers.failing,
        pending: () => deliveries.waiting(),
      };
    },
    async stop() {
      stopping.abort(new Error('the gateway stops'));
      await loop.stop();
      await flights.over();
    },
  };
}

/** Whom to look at: all who have something due, or only those for whom there may be new room. */
function createAgenda(deliveries: Pick<Deliveries, 'receivers'>) {
  /** Null: all. */
  let roomy: Map<string, Receiver> | null = null;
  /** They could be called, were there not so many others; in the order in which it will be their turn. */
  let crowded = new Map<string, Receiver>();
  /** When all have to be looked at again. */
  let dueAt = 0;
  /** Not all were read when all were to be looked at. */
  let more = false;
  let partial = false;

  return {
    all() {
      roomy = null;
    },
    hasRoom: (receiver: Receiver) => void roomy?.set(keyOf(receiver), receiver),
    crowdedOut: (receiver: Receiver) => void crowded.set(keyOf(receiver), receiver),
    /** Those to look at in this tick. If it fails, all are looked at in the next. */
    async open(now: Millis): Promise<Iterable<Receiver>> {
      const some = dueAt <= now || roomy === null ? null : new Map([...crowded, ...roomy]);
      roomy = new Map();
      crowded = new Map();
      dueAt = 0;
      partial = some !== null;
      if (some !== null) return some.values();
      const due = await deliveries.receivers(now, RECEIVERS_AT_ONCE);
      more = due.length === RECEIVERS_AT_ONCE;
      return due;
    },
    /** The tick saw them all; when to look at all again, given when something will be due. */
    close(next: Millis): Millis {
      dueAt = partial && more && crowded.size === 0 ? 0 : next;
      return dueAt;
    },
  };
}

/** Deliveries in flight, and those that landed since the tick under way began to read: what it read of them may be old. */
function createFlights() {
  const flying = new Map<string, Promise<void>>();
  const landed = new Set<string>();
  return {
    has: ({ id }: Delivery) => flying.has(id),
    begin: ({ id }: Delivery, flight: Promise<void>) => void flying.set(id, flight),
    landed: ({ id }: Delivery) => void landed.add(id),
    /** A tick begins to read. */
    clear() {
      for (const id of landed) flying.delete(id);
      landed.clear();
    },
    over: () => Promise.allSettled(flying.values()),
  };
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

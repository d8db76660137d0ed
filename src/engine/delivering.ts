// One try of one delivery, from its letter to the note in the log, and what its receiver's standing becomes by it. A try
// that was not noted, because the gateway stopped or the store took no notes, is made again: receivers know a delivery
// by its id.

import { afterTry, type Delivery, hasArrived, isOverdue } from '../domain/delivery.ts';
import type { Deliveries, Receiver } from '../store/store.ts';
import { type Post, type Sent, send, written } from './letter.ts';
import { hostOf, type Receivers } from './receivers.ts';

const LONGEST_REST_MS = 3_600_000;

export interface Delivering {
  /** Throws when it could not be sent or noted for a reason of our own. */
  attempt(receiver: Receiver, delivery: Delivery): Promise<void>;
  /** Ended since start. */
  readonly ended: { readonly delivered: number; readonly dead: number };
  readonly tries: { readonly arrived: number; readonly failed: number };
}

export function createDelivering(post: Post, receivers: Receivers): Delivering {
  const { clock, random, log } = post.rooms.system;
  const { deliveries } = post.rooms.store;
  const ended = { delivered: 0, dead: 0 };
  const tries = { arrived: 0, failed: 0 };

  /** Counts what it ended; nothing, when that had ended meanwhile. */
  const note: (...args: Parameters<Deliveries['attempted']>) => Promise<void> = async (...args) => {
    const state = (await deliveries.attempted(...args))?.state ?? 'pending';
    if (state !== 'pending') ended[state]++;
  };
  /** What follows will reach nobody: dead without a try. */
  const bury = (delivery: Delivery, error: string) => {
    const made = { at: clock.now(), statusCode: null, error, ms: 0 };
    return note(delivery, made, { state: 'dead', nextAttemptAt: null, body: delivery.body ?? '' });
  };
  /** True: it had been failing; what waits for it need wait no longer. */
  const arrived = (receiver: Receiver, { webhookId }: Delivery): boolean => {
    tries.arrived++;
    const recovered = receivers.arrived(receiver, clock.now());
    if (recovered) log.info({ webhook: webhookId, host: hostOf(receiver.url) }, 'a webhook receiver has recovered');
    return recovered;
  };
  const failed = (receiver: Receiver, { webhookId }: Delivery, { attempt: { error }, retryAfterMs }: Sent) => {
    tries.failed++;
    const now = clock.now();
    const about = { webhook: webhookId, host: hostOf(receiver.url), error };
    if (retryAfterMs !== null) receivers.rest(receiver, now + Math.min(retryAfterMs, LONGEST_REST_MS), now);
    if (receivers.failed(receiver, now, error)) {
      log.warn(about, 'a webhook receiver fails; one delivery at a time is tried until one arrives');
    }
  };

  return {
    async attempt(receiver, delivery) {
      const letter = await written(post, delivery);
      if ('unsendable' in letter) return bury(delivery, letter.unsendable);
      if (receivers.health(receiver).failing && isOverdue(delivery, clock.now()))
        return bury(delivery, 'not tried again: its day is over, and the receiver still fails');
      const sent = await send(post, delivery, letter);
      const othersArrive = receivers.arrivedSince(receiver, delivery.attempts.at(-1)?.at ?? Number.MAX_SAFE_INTEGER);
      const then = afterTry(delivery, { ...sent, othersArrive }, clock.now(), random.fraction());
      const recovered = hasArrived(sent.attempt) && arrived(receiver, delivery);
      if (!hasArrived(sent.attempt)) failed(receiver, delivery, sent);
      await note(delivery, sent.attempt, { ...then, body: letter.body });
      if (recovered) await deliveries.dueNow(clock.now(), receiver);
    },
    ended,
    tries,
  };
}

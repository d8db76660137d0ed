// The job of a submit whose answer was lost, looked for in the provider's list where it keeps one. A job that is somebody's
// is nobody else's, and of two that are alike nobody can tell: then there is none.

import type { Millis } from '../../domain/units.ts';
import type { Clock } from '../../system/system.ts';
import { ok, unanswered } from './answered.ts';
import type { Call, Order, Provider, Reference, Reply } from './provider.ts';

const FIRST_PAUSE_MS: Millis = 1_000;
/** Looks through the list. */
const SEARCHES = 3;
/** Lists that could not be had, such as while the network comes up again: about a minute and a half of them. */
const UNREAD = 20;
const LONGEST_SEARCH_PAUSES = 5;
/** Pages of a provider's list, each time. */
const PAGES = 20;
/** Clocks differ: a lost job is looked for from a little before it was sent. */
const SKEW_MS: Millis = 120_000;
/** References that are somebody's, remembered so that a search does not take them for its own. */
const CLAIMS = 10_000;

export interface LostAndFoundOptions {
  readonly provider: Pick<Provider, 'search' | 'answerMs'>;
  readonly clock: Clock;
  readonly ask: (call: Call, signal: AbortSignal) => Promise<Reply>;
}

export interface LostAndFound {
  /** It is somebody's from now on. */
  claim(reference: Reference): Reference;
  /** The job of a submit at `since`, which is claimed; null: it cannot be told, or there is none. */
  find(order: Order, since: Millis, signal: AbortSignal): Promise<Reference | null>;
}

export function createLostAndFound({ provider, clock, ask }: LostAndFoundOptions): LostAndFound {
  const claims = new Set<string>();

  const claim = (reference: Reference): Reference => {
    if (provider.search === undefined) return reference;
    const [oldest] = claims;
    if (oldest !== undefined && claims.size >= CLAIMS) claims.delete(oldest);
    claims.add(nameOf(reference));
    return reference;
  };

  /** Every job of the list that could be it and is nobody's; null: the list could not be read. */
  const candidates = async (order: Order, since: Millis, signal: AbortSignal): Promise<Reference[] | null> => {
    const { search } = provider;
    const all: Reference[] = [];
    let call = search?.call(since - SKEW_MS, since + provider.answerMs + SKEW_MS) ?? null;
    for (let page = 0; search !== undefined && call !== null && page < PAGES; page++) {
      const reply: Reply | null = await ask(call, signal).catch(unanswered(signal));
      if (reply === null || !ok(reply) || reply.body === undefined) return null;
      const found = search.found(reply, order);
      all.push(...found.candidates.filter((one) => !claims.has(nameOf(one))));
      call = found.next;
    }
    return all;
  };

  const find: LostAndFound['find'] = async (order, since, signal) => {
    let unread = 0;
    for (let k = 1; provider.search !== undefined && k - unread <= SEARCHES && unread < UNREAD; k++) {
      await clock.sleep(FIRST_PAUSE_MS * Math.min(k, LONGEST_SEARCH_PAUSES), signal);
      const list = await candidates(order, since, signal);
      if (list === null) unread++;
      const [one, ...others] = list ?? [];
      // of two that are alike nobody can tell which is ours, until the other's answer is in
      if (one !== undefined && others.length === 0) return claim(one);
    }
    return null;
  };

  return { claim, find };
}

/** A store may have changed the order of its keys. */
const nameOf = (reference: Reference): string => JSON.stringify(Object.entries(reference).toSorted());

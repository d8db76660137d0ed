// How receivers of webhooks stand, in memory: what is in flight to whom, who failed how often in a row, who asked to be
// left alone. The bounds below keep slow and dead receivers from taking every place. Remembered is who was called, the
// idle only while there are not too many; a restart forgets all, and finds out again with the first tries.

import type { Millis, WorkspaceId } from '../domain/units.ts';
import type { Receiver } from '../store/store.ts';

export const PER_RECEIVER = 4;
/** URLs that differ by the job are many receivers on one host. */
const PER_HOST = 8;
const PER_WORKSPACE = 16;
const IN_ALL = 64;
/** Tries in a row that fail, until only one at a time goes there. */
const FAILING_AFTER = 5;
/** Tries in a row that fail, until it rests after each: one that fails every second time hardly ever comes to that. */
const RESTS_AFTER = 10;
/** How long: this, doubling. */
const FIRST_REST_MS = 1_000;
const LONGEST_REST_MS = 60_000;
/** Receivers remembered, besides those that are being called or rest. */
const KNOWN = 5_000;

export interface ReceiverHealth {
  readonly failing: boolean;
  /** Tries in a row that failed. */
  readonly failures: number;
  /** When the first of them did. */
  readonly since: Millis | null;
  readonly lastError: string | null;
}

export interface Receivers {
  /** How many more tries may go there now. */
  room(receiver: Receiver, now: Millis): number;
  /** It could be called, were there not so many others. */
  crowdedOut(receiver: Receiver, now: Millis): boolean;
  /** A try is on its way until this is disposed. */
  begin(receiver: Receiver, now: Millis): Disposable;
  /** True: it had been failing until now. */
  arrived(receiver: Receiver, now: Millis): boolean;
  /** True: it is failing from now on. One that goes on failing rests after each try. */
  failed(receiver: Receiver, now: Millis, error: string | null): boolean;
  /** Nothing goes there before. */
  rest(receiver: Receiver, until: Millis, now: Millis): void;
  /** When the next one that rests may be called again. */
  nextRested(now: Millis): Millis | null;
  /** Something arrived there later than `at`. */
  arrivedSince(receiver: Receiver, at: Millis): boolean;
  health(receiver: Receiver): ReceiverHealth;
  /** How many are failing. */
  readonly failing: number;
}

interface Standing {
  readonly workspaceId: WorkspaceId;
  readonly host: string;
  inFlight: number;
  failures: number;
  since: Millis | null;
  lastError: string | null;
  arrivedAt: Millis | null;
  restUntil: Millis;
}

export const keyOf = ({ workspaceId, url }: Receiver): string => `${workspaceId} ${url}`;
export const hostOf = (url: string): string => URL.parse(url)?.host ?? '';

export function createReceivers(): Receivers {
  const known = new Map<string, Standing>();
  const busy = new Set<Standing>();

  /** A look at one that was never called leaves no trace. */
  const find = (receiver: Receiver) => known.get(keyOf(receiver)) ?? UNKNOWN;
  const remember = (receiver: Receiver, now: Millis): Standing => {
    const key = keyOf(receiver);
    const found = known.get(key);
    if (found === undefined) makeRoom(now);
    const one = found ?? { workspaceId: receiver.workspaceId, host: hostOf(receiver.url), ...UNKNOWN };
    known.delete(key);
    known.set(key, one);
    return one;
  };
  /** The longest idle go first. */
  const makeRoom = (now: Millis) => {
    for (const [key, one] of known) {
      if (known.size < KNOWN) return;
      if (one.inFlight === 0 && one.restUntil <= now) known.delete(key);
    }
  };
  const inFlight = (which: (s: Standing) => boolean) => {
    let sum = 0;
    for (const s of busy) if (which(s)) sum += s.inFlight;
    return sum;
  };

  return {
    room(receiver, now) {
      const { inFlight: here, failures, restUntil } = find(receiver);
      if (restUntil > now) return 0;
      const { workspaceId } = receiver;
      const host = hostOf(receiver.url);
      return Math.min(
        (failures >= FAILING_AFTER ? 1 : PER_RECEIVER) - here,
        PER_HOST - inFlight((s) => s.workspaceId === workspaceId && s.host === host),
        PER_WORKSPACE - inFlight((s) => s.workspaceId === workspaceId),
        IN_ALL - inFlight(() => true),
      );
    },
    crowdedOut(receiver, now) {
      const { inFlight: here, restUntil } = find(receiver);
      return here === 0 && restUntil <= now;
    },
    begin(receiver, now) {
      const one = remember(receiver, now);
      one.inFlight++;
      busy.add(one);
      return {
        [Symbol.dispose]() {
          if (--one.inFlight === 0) busy.delete(one);
        },
      };
    },
    arrived(receiver, now) {
      const one = remember(receiver, now);
      const recovered = one.failures >= FAILING_AFTER;
      Object.assign(one, { failures: 0, since: null, lastError: null, arrivedAt: now, restUntil: 0 });
      return recovered;
    },
    failed(receiver, now, error) {
      const one = remember(receiver, now);
      one.failures++;
      one.since ??= now;
      one.lastError = error;
      const beyond = one.failures - RESTS_AFTER;
      if (beyond >= 0) {
        const rest = Math.min(LONGEST_REST_MS, FIRST_REST_MS * 2 ** Math.min(beyond, 10));
        one.restUntil = Math.max(one.restUntil, now + rest);
      }
      return one.failures === FAILING_AFTER;
    },
    rest(receiver, until, now) {
      const one = remember(receiver, now);
      one.restUntil = Math.max(one.restUntil, until);
    },
    nextRested(now) {
      let next: Millis | null = null;
      for (const { restUntil } of known.values()) {
        if (restUntil > now && (next === null || restUntil < next)) next = restUntil;
      }
      return next;
    },
    arrivedSince: (receiver, at) => (find(receiver).arrivedAt ?? -1) > at,
    health(receiver) {
      const { failures, since, lastError } = find(receiver);
      return { failing: failures >= FAILING_AFTER, failures, since, lastError };
    },
    get failing() {
      let count = 0;
      for (const { failures } of known.values()) if (failures >= FAILING_AFTER) count++;
      return count;
    },
  };
}

const UNKNOWN = { inFlight: 0, failures: 0, since: null, lastError: null, arrivedAt: null, restUntil: 0 } as const;

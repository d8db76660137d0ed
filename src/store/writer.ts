// Group commit. Writes asked for in one turn of the event loop, and those that arrive while a commit is under way, share
// one transaction and one fsync; each is answered when the commit is durable, and told to the listeners before. One broken
// write never harms its group: the group is rolled back and each is run alone. While the disk takes no sync nobody is
// answered: what is committed stands and others see it, so neither yes nor no would be true.

import { setImmediate as turn } from 'node:timers/promises';
import { GatewayError } from '../domain/failure.ts';
import type { Clock } from '../system/system.ts';
import type { Database } from './database.ts';
import type { Recorded } from './recorded.ts';
import { type Needs, type Transaction, transactions } from './transaction.ts';

/** Rows a group takes at most; also how many are worked on in one turn of the event loop. */
export const GROUP = 128;

export interface Write<T> {
  /** Its share of a group. */
  readonly weight: number;
  readonly needs: Needs;
  /** A GatewayError refuses this write alone, so it must come before anything is written. */
  run(tx: Transaction): T | Promise<T>;
}

export interface Writer {
  submit<T>(write: Write<T>): Promise<T>;
  onCommit(listener: (recorded: readonly Recorded[]) => void): Disposable;
  /** Something about this generation or batch is written, but not yet durable and told: nobody outside may hear of it. */
  isUntold(id: string): boolean;
  readonly commits: number;
  /** Finishes what is waiting; later writes are refused. What still cannot be made durable is rejected. */
  close(): Promise<void>;
}

/** Event-loop turns a group may stay open for those who come in meanwhile. */
const GATHER_TURNS = 4;

/** Pauses between syncs that fail. */
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 5_000;

interface Waiting {
  readonly weight: number;
  readonly needs: Needs;
  run(tx: Transaction): Promise<void>;
  answer(): void;
  reject(error: unknown): void;
}

export function createWriter(
  database: Pick<Database, 'write' | 'durable' | 'tidy'>,
  clock: Pick<Clock, 'sleep'>,
): Writer {
  const begin = transactions();
  const listeners = new Set<(recorded: readonly Recorded[]) => void>();
  const queue: Waiting[] = [];
  /** Committed, not yet known to be durable. */
  const committed: { readonly group: readonly Waiting[]; readonly recorded: readonly Recorded[] }[] = [];
  /** Generations and batches with deliveries that nobody has been told of, and how many. */
  const untold = new Map<string, number>();
  const count = (recorded: readonly Recorded[], by: 1 | -1) => {
    for (const one of recorded) {
      if (one.deliveries === 0) continue;
      const id = one.type === 'generation' ? one.generation.id : one.batch.id;
      const left = (untold.get(id) ?? 0) + by;
      if (left > 0) untold.set(id, left);
      else untold.delete(id);
    }
  };
  let working: Promise<void> | null = null;
  let answering: Promise<void> | null = null;
  const closing = new AbortController();
  let commits = 0;

  const commit = async (group: readonly Waiting[]) => {
    let decided = false;
    let recorded: readonly Recorded[] = [];
    try {
      recorded = await database.write.transaction().execute(async (db) => {
        const tx = await begin(db);
        await tx.load(group.map((one) => one.needs));
        for (const one of group) await one.run(tx);
        await tx.flush();
        decided = true;
        recorded = tx.recorded;
        count(recorded, 1); // before anybody can read it
        return tx.recorded;
      });
    } catch (error) {
      count(recorded, -1);
      if (group.length > 1 && !decided) return alone(group);
      for (const one of group) one.reject(error);
      return;
    }
    commits++;
    committed.push({ group, recorded });
    answering ??= answer();
  };
  /** Answers what is committed once it is durable, in order; the next group is written meanwhile. */
  const answer = async () => {
    while (committed.length > 0) {
      const done = committed.splice(0);
      const failed = await sync().then(
        () => null,
        (error: unknown) => ({ error }),
      );
      for (const { group, recorded } of done) {
        if (failed) for (const one of group) one.reject(failed.error);
        else await tell(group, recorded);
      }
    }
    answering = null;
  };
  /** Tries until it succeeds; once more when the store closes. */
  const sync = async () => {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
      try {
        return await database.durable();
      } catch (cause) {
        if (closing.signal.aborted) throw new GatewayError('internal', 'The disk does not take writes.', { cause });
        await clock.sleep(pause, closing.signal).catch(() => {});
      }
    }
  };
  /**
   * A listener that throws is a bug and nobody's to handle, so it ends the process like any; all others hear first. A
   * crowd is told in several turns, in order.
   */
  const tell = async (group: readonly Waiting[], recorded: readonly Recorded[]) => {
    for (let from = 0; from < recorded.length; from += GROUP) {
      if (from > 0) await turn();
      const some = recorded.slice(from, from + GROUP);
      for (const listener of listeners) {
        try {
          listener(some);
        } catch (error) {
          void Promise.reject(error);
        }
      }
      count(some, -1);
    }
    for (const one of group) one.answer();
  };
  const alone = async (group: readonly Waiting[]) => {
    for (const one of group) await commit([one]);
  };
  /** Waits while writes keep coming in, a few turns at most: alone one costs one turn, in a crowd many share a commit. */
  const gather = async () => {
    let seen = 0;
    for (let turns = 0; turns < GATHER_TURNS && queue.length > seen; turns++) {
      seen = queue.length;
      await turn();
    }
  };
  const work = async () => {
    do {
      await gather();
      await commit(take(queue));
      await database.tidy().catch(() => {}); // what was not tidied up is found again after the next commit
    } while (queue.length > 0);
    working = null;
  };

  return {
    submit: (write) =>
      new Promise((resolve, reject) => {
        if (closing.signal.aborted) return reject(new GatewayError('shutting_down', 'The gateway is shutting down.'));
        queue.push(waiting(write, resolve, reject));
        working ??= work();
      }),
    onCommit(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    isUntold: (id) => untold.has(id),
    get commits() {
      return commits;
    },
    async close() {
      closing.abort();
      await working;
      await answering;
    },
  };
}

function waiting<T>(write: Write<T>, resolve: (value: T) => void, reject: (error: unknown) => void): Waiting {
  let answer = () => {};
  return {
    weight: write.weight,
    needs: write.needs,
    reject,
    answer: () => answer(),
    async run(tx) {
      try {
        const value = await write.run(tx);
        answer = () => resolve(value);
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error;
        answer = () => reject(error);
      }
    },
  };
}

function take(queue: Waiting[]): Waiting[] {
  let weight = 0;
  let count = 0;
  do weight += queue[count++]?.weight ?? 0;
  while (count < queue.length && weight + (queue[count]?.weight ?? 0) <= GROUP);
  return queue.splice(0, count);
}

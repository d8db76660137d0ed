// The worker threads. At most as many tasks are handed out as there are threads; the rest wait here in order, so that a
// task's deadline runs from its real start and low-priority work can see whether a thread is to spare. A task that
// hangs or crashes costs its thread and itself, nobody else.

import { availableParallelism } from 'node:os';
import { Piscina } from 'piscina';
import { GatewayError } from '../domain/failure.ts';
import type { Clock } from '../system/system.ts';
import type { Tasks } from './tasks.ts';
import type { Verdict } from './verdict.ts';

export const MAX_WORKERS = 4;
const TASK_MS = 60_000;
/** A thread with its decoders takes 40 MB and a sixth of a second to start: kept through a lull, not through a night. */
const IDLE_MS = 5 * 60_000;

type Work<K extends keyof Tasks> = Parameters<Tasks[K]>[0];
type Found<K extends keyof Tasks> = Awaited<ReturnType<Tasks[K]>> extends Verdict<infer T> ? T : never;

export interface Pool {
  readonly workers: number;
  /** Is there a thread without a task? */
  readonly idle: boolean;
  /** Throws GatewayError('node_lost') when the worker crashed or took over a minute; the signal's reason when aborted. */
  run<K extends keyof Tasks>(name: K, work: Work<K>, signal: AbortSignal): Promise<Verdict<Found<K>>>;
  /** Calls back whenever a thread becomes idle. */
  onIdle(listener: () => void): void;
  close(): Promise<void>;
}

export interface PoolOptions {
  readonly clock: Clock;
  /** Default: cores, at most 4. */
  readonly workers?: number | undefined;
  /** The module with the tasks. */
  readonly tasks?: URL;
}

export function createPool({
  clock,
  workers = Math.min(availableParallelism(), MAX_WORKERS),
  tasks = new URL('./tasks.ts', import.meta.url),
}: PoolOptions): Pool {
  const piscina = new Piscina({ filename: tasks.href, minThreads: 0, maxThreads: workers, idleTimeout: IDLE_MS });
  const waiting: (() => void)[] = [];
  let running = 0;
  let idled = () => {};

  const take = (signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      if (running < workers) {
        running++;
        return resolve();
      }
      const leave = () => {
        waiting.splice(waiting.indexOf(enter), 1);
        reject(signal.reason);
      };
      const enter = () => {
        signal.removeEventListener('abort', leave);
        resolve();
      };
      signal.addEventListener('abort', leave, { once: true });
      waiting.push(enter);
    });
  const give = () => {
    const next = waiting.shift();
    if (next) return next();
    running--;
    idled();
  };

  return {
    workers,
    get idle() {
      return running < workers;
    },
    onIdle(listener) {
      idled = listener;
    },
    async run<K extends keyof Tasks>(name: K, work: Work<K>, signal: AbortSignal) {
      await take(signal);
      const deadline = new AbortController();
      using _ = clock.timer(TASK_MS, () => deadline.abort());
      try {
        return (await piscina.run(work, { name, signal: AbortSignal.any([signal, deadline.signal]) })) as Verdict<
          Found<K>
        >;
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        const why = deadline.signal.aborted ? 'took too long to examine' : 'could not be examined';
        throw new GatewayError('node_lost', `The file ${why}.`, { cause: error });
      } finally {
        give();
      }
    },
    close: () => piscina.destroy(),
  };
}

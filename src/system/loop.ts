// The one primitive for background work: ticks never overlap, wakes coalesce, errors are logged and back off (a wake
// does not cut that short), stopping waits for the running tick.

import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

export interface LoopOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly log: Log;
  /** One round of work. Returns milliseconds until the next one is wanted, or null to sleep until woken. */
  readonly tick: (signal: AbortSignal) => Promise<number | null>;
  /** First pause after an error; doubles up to a minute. */
  readonly backoffMs?: number;
}

export interface Loop {
  /** Asks for a tick as soon as possible. Many wakes during one tick make one more tick. */
  wake(): void;
  /** Stops after the tick under way (its signal is aborted). Idempotent. */
  stop(): Promise<void>;
}

export function startLoop({ name, clock, log, tick, backoffMs = 250 }: LoopOptions): Loop {
  const stopping = new AbortController();
  let running: Promise<void> | null = null;
  let wanted = false;
  let timer: Disposable | null = null;
  let failures = 0;
  let backingOff = false;

  const schedule = (ms: number | null) => {
    timer?.[Symbol.dispose]();
    timer = ms === null || stopping.signal.aborted ? null : clock.timer(ms, rested);
  };
  const rested = () => {
    backingOff = false;
    wake();
  };
  const round = async () => {
    try {
      const next = await tick(stopping.signal);
      failures = 0;
      schedule(next);
    } catch (error) {
      if (stopping.signal.aborted) return;
      const pause = Math.min(60_000, backoffMs * 2 ** failures++);
      log.error({ err: error, loop: name, retry_in_ms: pause }, 'background loop failed; trying again');
      backingOff = true;
      schedule(pause);
    } finally {
      running = null;
      if (wanted) wake();
    }
  };
  const wake = () => {
    if (stopping.signal.aborted) return;
    wanted = true;
    if (running || backingOff) return;
    wanted = false;
    running = Promise.resolve().then(round);
  };
  wake();
  return {
    wake,
    async stop() {
      stopping.abort(new Error(`loop ${name} stopped`));
      timer?.[Symbol.dispose]();
      await running;
    },
  };
}

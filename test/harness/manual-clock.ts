// A clock that moves only when told. `advance` runs due timers in order and lets what they set off settle in between.

import { type Clock, sleepOn } from '../../src/system/system.ts';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly fn: () => void;
}

export class ManualClock implements Clock {
  #now: number;
  #start: number;
  #order = 0;
  #timers = new Set<Timer>();

  /** `rest`: lets everything run that needs no timer. */
  constructor(start = Date.UTC(2026, 3, 30, 9, 17, 42), rest = settle) {
    this.#now = start;
    this.#start = start;
    this.settle = rest;
  }

  readonly settle: (turns?: number) => Promise<void>;

  /** What someone added to the wall clock; the monotonic one knows nothing of it. */
  #set = 0;

  now = (): number => this.#now + this.#set;
  monotonic = (): number => this.#now - this.#start;
  sleep = (ms: number, signal?: AbortSignal): Promise<void> => sleepOn(this, ms, signal);

  /** Due at whole milliseconds, as those of the system: the database takes no others. */
  timer = (ms: number, fn: () => void): Disposable => {
    const timer: Timer = { at: this.#now + Math.ceil(Math.max(0, ms)), order: this.#order++, fn };
    this.#timers.add(timer);
    return { [Symbol.dispose]: () => void this.#timers.delete(timer) };
  };

  /** Someone sets the wall clock (negative: back). */
  set(ms: number): void {
    this.#set += ms;
  }

  /** Timers not yet due. A test that ends with some has left a sleeper behind. */
  get pending(): number {
    return this.#timers.size;
  }

  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    await this.settle();
    for (;;) {
      const due = [...this.#timers].filter((t) => t.at <= end).sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!due) break;
      this.#timers.delete(due);
      this.#now = Math.max(this.#now, due.at);
      due.fn();
      await this.settle();
    }
    this.#now = end;
    await this.settle();
  }
}

/** Lets everything that is ready run: several turns of the event loop, and file work under way to its end. */
export async function settle(turns = 5): Promise<void> {
  for (let i = 0; i < turns; i++) {
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (process.getActiveResourcesInfo().includes('FSReqCallback')) i = -1;
  }
}

/** Waits until `check` holds, one event-loop turn at a time. For real IO whose end has no event of its own. */
export async function until<T>(
  check: () => T | Promise<T>,
  what = 'the condition',
  timeoutMs = 30_000,
): Promise<NonNullable<T>> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = await check();
    if (value) return value as NonNullable<T>;
    if (performance.now() > end) throw new Error(`${what} did not come about within ${timeoutMs} ms`);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

// Time. Everything that waits or asks the hour does it here, so that tests drive time by hand.

/** Wall clock, monotonic clock and timers. All in milliseconds. */
export interface Clock {
  /** Wall time since 1970. */
  now(): number;
  /** For measuring spans; never goes backwards. */
  monotonic(): number;
  /** Resolves after `ms`; rejects with the signal's reason when aborted. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `fn` once after `ms`; disposing cancels it. */
  timer(ms: number, fn: () => void): Disposable;
}

/** setTimeout overflows beyond 2³¹−1 ms. */
const LONGEST = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  timer(ms, fn) {
    const handle = setTimeout(fn, Math.min(Math.max(0, ms), LONGEST));
    return { [Symbol.dispose]: () => clearTimeout(handle) };
  },
  sleep: (ms, signal) => sleepOn(systemClock, ms, signal),
};

/** `sleep` in terms of `timer`, for any clock. */
export function sleepOn(clock: Pick<Clock, 'timer'>, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      timer[Symbol.dispose]();
      reject(signal?.reason);
    };
    const timer = clock.timer(ms, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

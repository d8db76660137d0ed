// Waiting: the platform's timer, and how far waits are spread so that many clients do not come back as one.

export type Sleep = (ms: number, signal?: AbortSignal) => Promise<void>;

/** Beyond it, timers fire at once. */
const LONGEST_MS = 2 ** 31 - 1;

/** Rejects with the signal's reason when it aborts. */
export const sleep: Sleep = (ms, signal) =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const aborted = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(
      () => {
        signal?.removeEventListener('abort', aborted);
        resolve();
      },
      Math.min(ms, LONGEST_MS),
    );
    signal?.addEventListener('abort', aborted, { once: true });
  });

/** 0.85–1.15. */
export const spread = (): number => 0.85 + 0.3 * Math.random();

// Models that an account said it no longer has, by residency key. It is not asked for them until a while has passed; then
// whoever comes may try again, and the account says anew how it is.

import type { Gone } from '../domain/node.ts';
import type { Millis } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';

export interface Departed extends Disposable {
  of(key: string): Gone | null;
  /** It said so (again): the day it first did stays. */
  told(key: string): void;
  /** It was made there. */
  seen(key: string): void;
  /** Somebody says that all are there. */
  clear(): void;
}

const PAUSE_MS = 600_000;

export function createDeparted(clock: Clock, onChange: () => void): Departed {
  const gone = new Map<string, Gone & { readonly timer: Disposable }>();
  const settle = (key: string, now: (Gone & { readonly timer: Disposable }) | null) => {
    gone.get(key)?.timer[Symbol.dispose]();
    if (now === null) gone.delete(key);
    else gone.set(key, now);
    onChange();
  };
  const end = () => {
    for (const { timer } of gone.values()) timer[Symbol.dispose]();
    gone.clear();
  };
  return {
    of: (key) => gone.get(key) ?? null,
    told(key) {
      const since: Millis = gone.get(key)?.since ?? clock.now();
      const timer = clock.timer(PAUSE_MS, () => settle(key, { since, due: true, timer }));
      settle(key, { since, due: false, timer });
    },
    seen(key) {
      if (gone.has(key)) settle(key, null);
    },
    clear() {
      if (gone.size === 0) return;
      end();
      onChange();
    },
    [Symbol.dispose]: end,
  };
}

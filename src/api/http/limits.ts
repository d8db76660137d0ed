// Requests per minute, per key and per workspace. Windows live in memory, one limiter per size of limit; a caller
// without a limit costs nothing here. The windows are the library's own and run on its clock.

import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import type { Caller } from '../../domain/caller.ts';
import { GatewayError } from '../../domain/failure.ts';

const WINDOW_SECONDS = 60;

export interface RequestLimits {
  /** Counts one request. Throws rate_limited. */
  take(caller: Caller): Promise<void>;
}

export function createLimits(): RequestLimits {
  const limiters = new Map<number, RateLimiterMemory>();
  const take = async (name: string, points: number) => {
    const limiter = limiters.get(points) ?? new RateLimiterMemory({ points, duration: WINDOW_SECONDS });
    limiters.set(points, limiter);
    try {
      await limiter.consume(name);
    } catch (refused) {
      if (!(refused instanceof RateLimiterRes)) throw refused;
      throw new GatewayError('rate_limited', `More than ${points} requests in a minute.`, {
        retryAfterSeconds: Math.ceil(refused.msBeforeNext / 1000),
      });
    }
  };
  return {
    async take({ key, workspace }) {
      if (key.requestsPerMinute !== null) await take(`key ${key.id}`, key.requestsPerMinute);
      const shared = workspace.limits.requestsPerMinute;
      if (shared !== null) await take(`workspace ${workspace.id}`, shared);
    },
  };
}

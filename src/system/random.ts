// Chance: ids, seeds, secrets and jitter, injectable so that tests repeat.

import { randomBytes, randomFillSync, randomInt, randomUUID } from 'node:crypto';
import { monotonicFactory } from 'ulid';

export interface Random {
  /** A ULID, increasing within this process even inside one millisecond. */
  ulid(now: number): string;
  uuid(): string;
  /** Uniform integer in [0, limit), limit ≤ 2⁴⁸. */
  integer(limit: number): number;
  /** Uniform in [0, 1). */
  fraction(): number;
  /** `bytes` random bytes, base64url. */
  secret(bytes: number): string;
}

export function systemRandom(): Random {
  const ulid = monotonicFactory(pooledFraction());
  return {
    ulid: (now) => ulid(now),
    uuid: () => randomUUID(),
    integer: (limit) => randomInt(limit),
    fraction: () => Math.random(),
    secret: (bytes) => randomBytes(bytes).toString('base64url'),
  };
}

/** Cryptographic chance in [0, 1), drawn from a pool: asking the system for each character of an id costs more than the id. */
function pooledFraction(): () => number {
  const pool = new Uint32Array(1024);
  let at = pool.length;
  return () => {
    if (at === pool.length) {
      randomFillSync(pool);
      at = 0;
    }
    return (pool[at++] as number) / 2 ** 32;
  };
}

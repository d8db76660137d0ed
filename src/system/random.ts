// Chance: ids, seeds, secrets and jitter, injectable so that tests repeat.

import { randomBytes, randomInt, randomUUID } from 'node:crypto';
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
  const ulid = monotonicFactory();
  return {
    ulid: (now) => ulid(now),
    uuid: () => randomUUID(),
    integer: (limit) => randomInt(limit),
    fraction: () => Math.random(),
    secret: (bytes) => randomBytes(bytes).toString('base64url'),
  };
}

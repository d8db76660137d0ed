// Who holds idempotency keys, asked outside of any transaction: an estimate that the writes decide again.

import { setImmediate as turn } from 'node:timers/promises';
import type { Kysely } from 'kysely';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import { CLAIM_MS, spent } from './insert.ts';
import { claimId } from './rows.ts';
import type { Schema } from './schema.ts';
import { type Claim, claimsFinder } from './transaction.ts';
import { GROUP } from './writer.ts';

/** Statements of one store: their texts depend on the engine. */
export function claimReading() {
  const find = claimsFinder();
  return async (db: Kysely<Schema>, workspaceId: WorkspaceId, keys: readonly string[], now: Millis) => {
    const held = new Map<string, Pick<Claim, 'generation' | 'requestHash'>>();
    const ids = new Map(keys.map((key) => [claimId(workspaceId, key), key]));
    const all = [...ids.keys()];
    for (let from = 0; from < all.length; from += GROUP) {
      if (from > 0) await turn();
      for (const [id, { generation, requestHash, createdAt }] of await find(db, all.slice(from, from + GROUP))) {
        const free = createdAt + CLAIM_MS <= now || spent(generation);
        const key = ids.get(id);
        if (!free && key !== undefined) held.set(key, { generation, requestHash });
      }
    }
    return held;
  };
}

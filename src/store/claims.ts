// Who holds idempotency keys, asked outside of any transaction: an estimate that the writes decide again.

import { setImmediate as turn } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import type { Generation } from '../domain/generation.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import { CLAIM_MS, spent } from './insert.ts';
import { claimId, toGeneration } from './rows.ts';
import type { GenerationRow, Schema } from './schema.ts';
import { finder } from './statements.ts';
import { GROUP } from './writer.ts';

export interface Claimed {
  readonly generation: Generation;
  readonly requestHash: string;
}

interface ClaimedRow extends Pick<GenerationRow, 'submitted' | 'changes'> {
  readonly id: string;
  readonly request_hash: string;
  readonly created_at: number;
}

/** Statements of one store: their texts depend on the engine. */
export function claimReading() {
  const find = finder(
    sql<ClaimedRow>`select i.id, i.request_hash, i.created_at, g.submitted, g.changes
      from idempotency i join generations g on g.id = i.generation_id where i.id in`,
  );
  return async (db: Kysely<Schema>, workspaceId: WorkspaceId, keys: readonly string[], now: Millis) => {
    const held = new Map<string, Claimed>();
    const ids = new Map(keys.map((key) => [claimId(workspaceId, key), key]));
    const all = [...ids.keys()];
    for (let from = 0; from < all.length; from += GROUP) {
      if (from > 0) await turn();
      for (const row of await find(db, all.slice(from, from + GROUP))) {
        const generation = toGeneration(row);
        const free = row.created_at + CLAIM_MS <= now || spent(generation);
        const key = ids.get(row.id);
        if (!free && key !== undefined) held.set(key, { generation, requestHash: row.request_hash });
      }
    }
    return held;
  };
}

// What becomes of drafts: replayed by their idempotency key, refused for want of credits or room, or inserted. Decided
// in memory against accounts and keys read under the log's lock, draft after draft, so that parallel submits cannot both
// spend the last credit or use the same key twice.

import { setImmediate as turn } from 'node:timers/promises';
import { entriesFor } from '../domain/event.ts';
import { type Failure, failure } from '../domain/failure.ts';
import { type Generation, isFinal } from '../domain/generation.ts';
import { type Millicredits, toCredits } from '../domain/units.ts';
import type { Inserted } from './recorded.ts';
import { inputRefs } from './references.ts';
import { claimId, metadataRows, toRow } from './rows.ts';
import type { Claim, Needs, Transaction } from './transaction.ts';
import { GROUP, type Write } from './writer.ts';

/** How long an idempotency key is kept. */
export const CLAIM_MS = 24 * 3_600_000;
const QUEUE_FULL_RETRY_SECONDS = 5;

/** `now` decides which idempotency keys have expired. */
export function insertion(drafts: readonly Generation[], now: number): Write<readonly Inserted[]> {
  return {
    weight: drafts.length,
    needs: needsOf(drafts.slice(0, GROUP)),
    async run(tx) {
      const results: Inserted[] = [];
      for (let from = 0; from < drafts.length; from += GROUP) {
        const slice = drafts.slice(from, from + GROUP);
        if (from > 0) {
          await tx.flush();
          await turn();
          await tx.load([needsOf(slice)]);
        }
        for (const draft of slice) results.push(admit(tx, draft, now));
      }
      return results;
    },
  };
}

/** What inserting these looks at. */
export const needsOf = (drafts: readonly Generation[]): Needs => ({
  workspaces: drafts.map((d) => d.workspaceId),
  keys: drafts.map((d) => d.keyId),
  claims: drafts.flatMap((d) => (d.idempotencyKey === null ? [] : [claimId(d.workspaceId, d.idempotencyKey)])),
});

function admit(tx: Transaction, draft: Generation, now: number): Inserted {
  const claim = liveClaim(tx, draft, now);
  if (claim !== undefined && !spent(claim.generation)) {
    if (claim.requestHash !== draft.requestHash) return refuse(claimedByAnother(claim));
    return { outcome: 'replayed', generation: claim.generation };
  }
  const refusal = refusalFor(tx, draft, draft.reserved);
  if (refusal !== null) return refuse(refusal);
  return place(tx, claim === undefined ? draft : { ...draft, previousId: claim.generation.id }, now);
}

/** Writes a new generation, with what it reserves, and points its idempotency key at it. */
export function place(tx: Transaction, generation: Generation, now: number): Inserted {
  const { id, workspaceId, keyId, createdAt, idempotencyKey, requestHash } = generation;
  tx.add(toRow(generation), metadataRows(generation));
  tx.refer(inputRefs(generation));
  tx.books.move(null, generation);
  const posting = { workspaceId, keyId, generationId: id, note: null, at: createdAt };
  tx.books.post(posting, entriesFor(null, generation));
  if (idempotencyKey !== null) tx.hold(workspaceId, idempotencyKey, { generation, requestHash, createdAt: now });
  return { outcome: 'inserted', ...tx.record(null, generation, { type: 'submitted', at: createdAt }) };
}

/** Who holds the draft's idempotency key, unless that has expired. */
export function liveClaim(tx: Transaction, draft: Generation, now: number): Claim | undefined {
  if (draft.idempotencyKey === null) return undefined;
  const claim = tx.claim(draft.workspaceId, draft.idempotencyKey);
  return claim !== undefined && claim.createdAt + CLAIM_MS > now ? claim : undefined;
}

/** It ended without a picture and without a charge: its key may be used again. */
export const spent = (g: Generation): boolean => isFinal(g) && g.state.status !== 'succeeded' && g.charged === 0;

const refuse = (why: Failure): Inserted => ({ outcome: 'refused', failure: why });

export const claimedByAnother = ({ generation }: { readonly generation: Pick<Generation, 'id'> }): Failure =>
  failure('idempotency_conflict', `This idempotency key belongs to another request, ${generation.id}.`);

/** Why this generation may not enter the queue and reserve so much; null: it may. */
export function refusalFor(
  tx: Transaction,
  draft: Pick<Generation, 'workspaceId' | 'keyId'>,
  reserve: Millicredits,
): Failure | null {
  const account = tx.books.workspace(draft.workspaceId);
  if (account === undefined) return failure('not_found', `There is no workspace ${draft.workspaceId}.`);
  if (account.queued >= account.queueLimit) {
    return failure('queue_full', `${account.queued} generations are queued, which is this workspace's limit.`, {
      retryAfterSeconds: QUEUE_FULL_RETRY_SECONDS,
    });
  }
  const available = Math.max(0, account.balance - account.reserved);
  if (reserve > available) {
    const need = toCredits(reserve);
    return failure('insufficient_credits', `This needs ${need} credits; ${toCredits(available)} are available.`);
  }
  const key = tx.books.key(draft.keyId);
  if (key !== undefined && key.cap !== null && reserve > 0 && key.spend + reserve > key.cap) {
    const [need, left] = [toCredits(reserve), toCredits(Math.max(0, key.cap - key.spend))];
    return failure('budget_exceeded', `This needs ${need} credits; this key may still spend ${left}.`);
  }
  return null;
}

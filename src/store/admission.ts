// Handing held items over: each reserves its price and enters its lane, if the workspace, the key and the batch can
// afford it. Decided one after another in one transaction; a refusal writes nothing and harms none behind it.

import { setImmediate as turn } from 'node:timers/promises';
import { accepts, apply } from '../domain/event.ts';
import { type Failure, failure } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import { type Millicredits, type Millis, toCredits } from '../domain/units.ts';
import type { Transition } from './append.ts';
import { refusalFor } from './insert.ts';
import type { Needs, Transaction } from './transaction.ts';
import { GROUP, type Write } from './writer.ts';

export type Admitted =
  | { readonly outcome: 'admitted'; readonly generation: Generation }
  /** It moved meanwhile (cancelled). */
  | { readonly outcome: 'moved' }
  /**
   * Nothing was written: `insufficient_credits`, `budget_exceeded` (the batch's cap or the key's), `queue_full`; or
   * `cancelled_by_admin`: the key that asked for it is gone, so it may never start.
   */
  | { readonly outcome: 'refused'; readonly failure: Failure };

export function admission(
  transition: Transition,
  held: readonly Generation[],
  room: Millicredits | null,
  at: Millis,
): Write<readonly Admitted[]> {
  return {
    weight: held.length,
    needs: needsOf(held),
    async run(tx) {
      const results: Admitted[] = [];
      let left = room ?? Number.MAX_SAFE_INTEGER;
      for (const [n, one] of held.entries()) {
        if (n > 0 && n % GROUP === 0) {
          await tx.flush();
          await turn();
        }
        const result = await admitOne(tx, transition, one, left, at);
        if (result.outcome === 'admitted') left -= result.generation.reserved;
        results.push(result);
      }
      return results;
    },
  };
}

const needsOf = (held: readonly Generation[]): Needs => ({
  workspaces: held.map((g) => g.workspaceId),
  keys: held.map((g) => g.keyId),
  claims: [],
});

async function admitOne(
  tx: Transaction,
  transition: Transition,
  held: Generation,
  left: Millicredits,
  at: Millis,
): Promise<Admitted> {
  if (!accepts(held, 'admitted')) return { outcome: 'moved' };
  const event = { type: 'admitted', at } as const;
  const next = apply(held, event);
  const refusal = withdrawn(tx, held, at) ?? refusalFor(tx, held, next.reserved) ?? beyond(left, next.reserved);
  if (refusal !== null) return { outcome: 'refused', failure: refusal };
  const moved = await transition(tx, held, next, event);
  return moved === null ? { outcome: 'moved' } : { outcome: 'admitted', generation: moved.generation };
}

/** Nobody spends by a key that was deleted or has expired. */
function withdrawn({ books }: Transaction, { keyId }: Generation, at: Millis): Failure | null {
  const key = books.key(keyId);
  const why = key === undefined ? 'was deleted' : key.expiresAt !== null && key.expiresAt <= at ? 'has expired' : null;
  if (why === null) return null;
  return failure('cancelled_by_admin', `The key that asked for it, ${keyId}, ${why}; ask for it again with another.`);
}

function beyond(left: Millicredits, reserve: Millicredits): Failure | null {
  if (reserve === 0 || reserve <= left) return null;
  const [need, rest] = [toCredits(reserve), toCredits(Math.max(0, left))];
  return failure('budget_exceeded', `This needs ${need} credits; its batch may still set aside ${rest}.`);
}

// One event, one transition. The row moves only if its sequence number is the one the caller saw; whoever comes second
// changes nothing and learns it by null. What follows in the ledger and in the outbox is the domain's to say.

import { sql } from 'kysely';
import { apply, entriesFor, type GenerationEvent } from '../domain/event.ts';
import { type Generation, isFinal } from '../domain/generation.ts';
import type { Moved } from './recorded.ts';
import { inputRefs, outputRefs } from './references.ts';
import { changesOf, MOVING, movingColumns } from './rows.ts';
import { statement } from './statements.ts';
import type { Needs, Transaction } from './transaction.ts';
import type { Write } from './writer.ts';

/** Throws (the caller's bug) when the state does not accept the event. */
export type Append = (current: Generation, event: GenerationEvent) => Write<Moved | null>;

/** Moves a generation inside a transaction; null: someone moved first. */
export type Transition = (
  tx: Transaction,
  current: Generation,
  next: Generation,
  event: GenerationEvent,
) => Promise<Moved | null>;

/** Statements of one store: their texts depend on the engine. */
export function transitions(): Transition {
  const columns = sql.join(MOVING.map((column) => sql`${sql.ref(column)} = ${0}`));
  const move = statement(sql`update generations set ${columns}, changes = ${''} where id = ${''} and seq = ${0}`);
  const release = statement(sql`delete from blob_refs where owner = ${''} and role = 'input'`);

  return async (tx, current, next, event) => {
    const { id, workspaceId, keyId } = next;
    const moving = movingColumns(next);
    const values = [...MOVING.map((column) => moving[column]), changesOf(next), id, current.seq];
    const { numAffectedRows } = await move(tx.db, values);
    if (numAffectedRows !== 1n) return null;
    tx.books.move(current, next);
    tx.books.post({ workspaceId, keyId, generationId: id, note: null, at: event.at }, entriesFor(current, next));
    if (isFinal(next)) {
      if (inputRefs(current).length > 0) await release(tx.db, [id]);
      tx.refer(outputRefs(next));
    }
    return tx.record(current, next, event);
  };
}

export function appending(transition: Transition): Append {
  return (current, event) => {
    const next = apply(current, event);
    return { weight: 1, needs: needsOf(next), run: (tx) => transition(tx, current, next, event) };
  };
}

const needsOf = (next: Generation): Needs => ({
  workspaces: [next.workspaceId],
  keys: [next.keyId],
  claims: [],
  hooks: isFinal(next) ? [next.workspaceId] : [],
});

// One event, one transition. The row moves only if its sequence number is the one the caller saw; whoever comes second
// changes nothing and learns it by null. What follows in the ledger and in the outbox is the domain's to say.

import { type Kysely, sql } from 'kysely';
import { apply, entriesFor, type GenerationEvent } from '../domain/event.ts';
import { type Generation, isFinal } from '../domain/generation.ts';
import type { Moved } from './recorded.ts';
import { inputRefs, outputRefs } from './references.ts';
import { changesOf, MOVING, movingColumns } from './rows.ts';
import type { Schema } from './schema.ts';
import { statement } from './statements.ts';
import type { Needs, Transaction } from './transaction.ts';
import type { Write } from './writer.ts';

/** Throws (the caller's bug) when the state does not accept the event. */
export type Append = (current: Generation, event: GenerationEvent) => Write<Moved | null>;

/** The model seldom changes, and the index it is in costs as much as the row. */
const USUAL = MOVING.filter((column) => column !== 'model');

/** Moves a generation inside a transaction; null: someone moved first. */
export type Transition = (
  tx: Transaction,
  current: Generation,
  next: Generation,
  event: GenerationEvent,
) => Promise<Moved | null>;

/** Statements of one store: their texts depend on the engine. */
export function transitions(): Transition {
  const moving = (columns: typeof MOVING | typeof USUAL) => {
    const set = sql.join(columns.map((column) => sql`${sql.ref(column)} = ${0}`));
    const move = statement(sql`update generations set ${set}, changes = ${''} where id = ${''} and seq = ${0}`);
    return (db: Kysely<Schema>, next: Generation, seq: number) => {
      const now = movingColumns(next);
      return move(db, [...columns.map((column) => now[column]), changesOf(next), next.id, seq]);
    };
  };
  const move = moving(MOVING);
  const moveUsually = moving(USUAL);
  const release = statement(sql`delete from blob_refs where owner = ${''} and role = 'input'`);

  return async (tx, current, next, event) => {
    const { id, workspaceId, keyId } = next;
    const { numAffectedRows } = await (next.model === current.model ? moveUsually : move)(tx.db, next, current.seq);
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

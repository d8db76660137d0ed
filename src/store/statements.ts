// Statements whose text is compiled once and used again: building a query costs more than running one, so the writer's
// path holds its texts. Sets of any size are cut into powers of two, which keeps the number of texts small.

import type { CompiledQuery, Kysely, QueryResult, RawBuilder } from 'kysely';
import { sql } from 'kysely';
import type { Schema } from './schema.ts';

/** Rows per statement at most. */
const LARGEST = 64;

type Value = string | number | null;

/** Runs one text with other values. The template's own values only mark their places. */
export function statement<Row>(template: RawBuilder<Row>) {
  let compiled: CompiledQuery<Row> | undefined;
  return (db: Kysely<Schema>, parameters: readonly Value[]): Promise<QueryResult<Row>> => {
    compiled ??= template.compile(db);
    return db.executeQuery({ ...compiled, parameters });
  };
}

/** Inserts any number of rows. `tail`: what follows the values (on conflict …). */
export function inserter<T extends keyof Schema & string>(
  table: T,
  columns: readonly (keyof Schema[T] & string)[],
  tail: RawBuilder<unknown> = sql``,
) {
  const row = sql`(${sql.join(columns)})`;
  const names = sql.join(columns.map((column) => sql.ref(column)));
  const insert = sized(
    (size) => sql`insert into ${sql.table(table)} (${names}) values ${sql.join(Array(size).fill(row))} ${tail}`,
  );
  return async (db: Kysely<Schema>, rows: readonly Schema[T][]): Promise<void> => {
    for (const piece of pieces(rows)) {
      const parameters: Value[] = [];
      for (const one of piece) for (const column of columns) parameters.push(one[column] as Value);
      await insert(piece.length)(db, parameters);
    }
  };
}

/** Finds the rows with these ids, in no particular order. `head` ends before the list: `select … where id in`. */
export function finder<Row>(head: RawBuilder<Row>) {
  const find = sized<Row>((size) => sql`${head} (${sql.join(Array(size).fill(''))})`);
  return async (db: Kysely<Schema>, ids: readonly string[]): Promise<Row[]> => {
    const found: Row[] = [];
    for (const piece of pieces(ids)) found.push(...(await find(piece.length)(db, piece)).rows);
    return found;
  };
}

function sized<Row>(template: (size: number) => RawBuilder<Row>) {
  const made = new Map<number, ReturnType<typeof statement<Row>>>();
  return (size: number) => {
    const known = made.get(size) ?? statement(template(size));
    made.set(size, known);
    return known;
  };
}

function* pieces<T>(rows: readonly T[]): Generator<readonly T[]> {
  let from = 0;
  for (let size = LARGEST; size >= 1; size /= 2) {
    for (; rows.length - from >= size; from += size) yield rows.slice(from, from + size);
  }
}

// PostgreSQL through pg. Several stores may write to one database without harm to its books, yet only one gateway may
// drive it: at its start it takes over all that was running, so a gateway opens it exclusively. 64-bit integers come as
// numbers (ours stay below 2⁵³), and every wait has an end: whoever stalls inside a transaction must not hold the others
// up for ever.

import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import type { Database } from './database.ts';
import type { Schema } from './schema.ts';

const INT8 = 20;
/** Any number will do, as long as every gateway takes the same. */
const MIGRATION_LOCK = 7_305_022_917;

/** The first half of a gateway's lock; the second follows from the schema, so that each schema may have its gateway. */
const GATEWAY_LOCK = 730_502_291;

/**
 * Keeps other gateways out for as long as its own connection lives; PostgreSQL lets go when the holder dies. Throws an
 * Error that says what to do when another holds it. A connection lost later is not noticed.
 */
export async function lockPostgres(url: string): Promise<AsyncDisposable> {
  const client = new pg.Client({ connectionString: url, keepAlive: true, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  try {
    await client.connect();
    const { rows } = await client.query<{ held: boolean }>(
      "select pg_try_advisory_lock($1::int, hashtext(coalesce(current_schema(), ''))) as held",
      [GATEWAY_LOCK],
    );
    if (rows[0]?.held !== true) throw new Error('Another gateway uses this database. Stop it first.');
    return { [Symbol.asyncDispose]: () => client.end() };
  } catch (error) {
    await client.end();
    throw error;
  }
}

export function openPostgres(url: string): Database {
  const pool = new pg.Pool({
    connectionString: url,
    max: 10,
    keepAlive: true,
    connectionTimeoutMillis: 10_000,
    idleTimeoutMillis: 60_000,
    statement_timeout: 60_000,
    idle_in_transaction_session_timeout: 60_000,
    types: {
      getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
        oid === INT8 ? Number : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
    },
  });
  /** A connection that breaks is replaced at its next use; whoever was using it is told by its own call. */
  pool.on('error', () => {}); // idle ones
  pool.on('connect', (client) => client.on('error', () => {})); // those in use
  const db = new Kysely<Schema>({ dialect: new PostgresDialect({ pool }) });
  return {
    read: db,
    write: db,
    types: { text: sql`text collate "C"`, integer: sql`bigint` },
    clustered: sql``,
    hostOf: (url) => sql`substr(${url}, 1, 7 + strpos(substr(${url}, 9) || '/', '/'))`,
    /** Its commits are durable when they answer. */
    durable: () => Promise.resolve(),
    /** It tidies up by itself. */
    tidy: () => Promise.resolve(),
    async lockMigrations(trx) {
      await sql`select pg_advisory_xact_lock(${MIGRATION_LOCK}::bigint)`.execute(trx);
    },
    async close() {
      await db.destroy();
      if (!pool.ended) await pool.end();
    },
  };
}

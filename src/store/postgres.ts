// PostgreSQL through pg: for several gateways over one truth. 64-bit integers come as numbers (ours stay below 2⁵³), and
// every wait has an end: a gateway that stalls inside a transaction must not hold the others up for ever.

import { Kysely, PostgresDialect, sql } from 'kysely';
import pg from 'pg';
import type { Database } from './database.ts';
import type { Schema } from './schema.ts';

const INT8 = 20;
/** Any number will do, as long as every gateway takes the same. */
const MIGRATION_LOCK = 7_305_022_917;

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
    name: 'postgres',
    read: db,
    write: db,
    types: { text: sql`text collate "C"`, integer: sql`bigint` },
    clustered: sql``,
    /** Its commits are durable when they answer. */
    durable: () => Promise.resolve(),
    async lockMigrations(trx) {
      await sql`select pg_advisory_xact_lock(${MIGRATION_LOCK}::bigint)`.execute(trx);
    },
    async close() {
      await db.destroy();
      if (!pool.ended) await pool.end();
    },
  };
}

// Brings a database up to date when it is opened: numbered steps, each run once, all in one transaction. A step that
// was released is never edited; a change is a new number.

import { sql } from 'kysely';
import type { Database } from '../database.ts';
import { foundations } from './0001-foundations.ts';
import { batchesAndWebhooks } from './0002-batches-and-webhooks.ts';

const STEPS = [
  { number: 1, up: foundations },
  { number: 2, up: batchesAndWebhooks },
] as const;

/** Throws when the database was made by a newer version. */
export async function migrate(database: Database, now: number): Promise<void> {
  const { integer } = database.types;
  await database.write.transaction().execute(async (db) => {
    await database.lockMigrations(db);
    await sql`create table if not exists migrations (number integer primary key, at ${integer} not null)`.execute(db);
    const { rows } = await sql<{ number: number }>`select number from migrations order by number`.execute(db);
    const done = new Set(rows.map((row) => row.number));
    const newest = rows.at(-1)?.number ?? 0;
    if (newest > STEPS.length) {
      throw new Error(
        `The database is at version ${newest}; this gateway knows ${STEPS.length}. Use the newer gateway.`,
      );
    }
    for (const { number, up } of STEPS) {
      if (done.has(number)) continue;
      await up(db, database);
      await sql`insert into migrations (number, at) values (${number}, ${now})`.execute(db);
    }
  });
}

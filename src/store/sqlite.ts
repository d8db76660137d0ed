// SQLite through Node's own node:sqlite: one file, one writing and one reading connection (WAL), so that a long group
// commit never shows half of itself to a reader. A commit is on the disk when `durable` resolves: SQLite itself syncs
// before it moves pages out of the log (synchronous=NORMAL), and the log file is synced here, on a thread of libuv, before
// anybody is answered. That is what synchronous=FULL does inside COMMIT, without standing still meanwhile. For the same
// reason pages are moved out of the log by a thread beside this one (checkpoint.ts), not inside COMMIT.

import { closeSync, fdatasync, openSync } from 'node:fs';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { Kysely, type SqliteDatabase, SqliteDialect, type SqliteStatement, sql } from 'kysely';
import { Piscina } from 'piscina';
import type { Database } from './database.ts';
import type { Schema } from './schema.ts';

/** Page cache of a connection, in KiB: indexes of a long history stay in it. */
const CACHE_KIB = 16_000;
/** Pages in the log that are worth moving, and how many it may hold before the writer waits until all are moved. */
const WORTH_MOVING = 1_000;
const LONGEST_LOG = 4_000;
const IDLE_MS = 60_000;
/** Prepared statements kept per connection; the least recently used goes first. */
const STATEMENTS = 400;

export function openSqlite(path: string): Database {
  const writer = openWriter(path);
  const log = openSync(`${path}-wal`, 'a'); // SQLite's locks are on other files: opening and closing this one lets go of none
  const reader = new DatabaseSync(path, { readOnly: true, timeout: 5_000 });
  const mover = openMover(path, writer);
  const write = kysely(writer);
  const read = kysely(reader);
  return {
    write,
    read,
    types: { text: sql`text`, integer: sql`integer` },
    clustered: sql`without rowid`,
    hostOf: (url) => sql`substr(${url}, 1, 7 + instr(substr(${url}, 9) || '/', '/'))`,
    durable: () => sync(log),
    tidy: mover.tidy,
    /** Any write takes SQLite's one write lock. */
    async lockMigrations(db) {
      await sql`pragma user_version = 1`.execute(db);
    },
    async close() {
      if (!writer.isOpen) return;
      await mover.close();
      await Promise.all([read.destroy(), write.destroy()]);
      for (const db of [reader, writer]) if (db.isOpen) db.close();
      closeSync(log);
    },
  };
}

function openWriter(path: string): DatabaseSync {
  let writer: DatabaseSync | null = null;
  try {
    writer = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5_000 });
    writer.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -${CACHE_KIB};
      PRAGMA wal_autocheckpoint = 0;`);
    return writer;
  } catch (cause) {
    writer?.close();
    throw new Error(`The database ${path} cannot be opened: ${(cause as Error).message}.`, { cause });
  }
}

/** Keeps the log short. Once it is long, the writer waits for the move, so that it can begin anew. */
function openMover(path: string, writer: DatabaseSync) {
  const pool = new Piscina({
    filename: new URL('./checkpoint.ts', import.meta.url).href,
    minThreads: 0,
    maxThreads: 1,
    idleTimeout: IDLE_MS,
  });
  const measure = writer.prepare('PRAGMA wal_checkpoint(NOOP)');
  let moving: Promise<void> | null = null;
  /** Slower for everybody, but the log must not grow for ever. */
  const moveHere = () => {
    if (writer.isOpen) writer.exec('PRAGMA wal_checkpoint(PASSIVE)');
  };
  const move = async () => {
    try {
      await pool.run(path, { name: 'checkpoint' }).catch(moveHere);
    } catch {
      // A full disk: nothing is lost while it is in the log, and the next commit tries again.
    } finally {
      moving = null;
    }
  };
  return {
    async tidy() {
      const { log, checkpointed } = measure.get() as { log: number; checkpointed: number };
      if (log - checkpointed < WORTH_MOVING) return;
      moving ??= move();
      if (log >= LONGEST_LOG) await moving;
    },
    async close() {
      await moving;
      await pool.destroy();
    },
  };
}

const sync = promisify(fdatasync);

const kysely = (db: DatabaseSync) => new Kysely<Schema>({ dialect: new SqliteDialect({ database: adapt(db) }) });

/** DatabaseSync in the shape Kysely expects, with its prepared statements kept. */
function adapt(db: DatabaseSync): SqliteDatabase {
  const prepared = new Map<string, SqliteStatement>();
  return {
    close: () => db.close(),
    prepare(text) {
      const known = prepared.get(text) ?? wrap(db.prepare(text));
      prepared.delete(text);
      prepared.set(text, known);
      if (prepared.size > STATEMENTS) prepared.delete(prepared.keys().next().value as string);
      return known;
    },
  };
}

function wrap(statement: StatementSync): SqliteStatement {
  const values = (parameters: readonly unknown[]) => parameters as readonly SQLInputValue[];
  return {
    reader: statement.columns().length > 0,
    all: (parameters) => statement.all(...values(parameters)),
    run: (parameters) => statement.run(...values(parameters)),
    iterate: (parameters) => statement.iterate(...values(parameters)),
  };
}

// The store's suite runs on both engines: an engine opens fresh stores, opens the same one again, and lets a test look
// at the tables behind it.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import pg from 'pg';
import { describe } from 'vitest';
import { openStore, type Store } from '../../src/store/store.ts';
import { ManualClock } from '../harness/manual-clock.ts';
import { createTestDatabase, postgresMissing } from '../harness/postgres.ts';

export type Row = Record<string, string | number | null>;

/** One database, with however many stores over it. */
export interface Site extends AsyncDisposable {
  readonly clock: ManualClock;
  /** What `openStore` needs besides the clock. */
  readonly location: { readonly path: string } | { readonly url: string; readonly exclusive: boolean };
  /** Another gateway's store over the same database. */
  open(): Promise<Store>;
  query(statement: string): Promise<Row[]>;
  /** Meddles with the tables. */
  change(statement: string): Promise<void>;
}

export interface Engine {
  readonly name: 'sqlite' | 'postgres';
  site(): Promise<Site>;
}

/** A store over a database of its own. */
export async function freshStore(engine: Engine): Promise<Site & { readonly store: Store }> {
  const site = await engine.site();
  return { ...site, store: await site.open() };
}

export function onBothEngines(suite: (engine: Engine) => void): void {
  describe('on SQLite', () => suite(sqlite));
  const missing = postgresMissing();
  if (missing !== null) console.warn(`skipping PostgreSQL: ${missing}`);
  describe.skipIf(missing !== null)('on PostgreSQL', () => suite(postgres));
}

export const sqlite: Engine = { name: 'sqlite', site: sqliteSite };
export const postgres: Engine = { name: 'postgres', site: postgresSite };

async function sqliteSite(): Promise<Site> {
  const directory = mkdtempSync(join(tmpdir(), 'darkroom-store-'));
  const path = join(directory, 'darkroom.db');
  const using = async <T>(work: (db: DatabaseSync) => T): Promise<T> => {
    const db = new DatabaseSync(path);
    try {
      return work(db);
    } finally {
      db.close();
    }
  };
  return siteOver({
    location: { path },
    query: (statement) => using((db) => db.prepare(statement).all() as Row[]),
    change: (statement) => using((db) => db.exec(statement)),
    remove: async () => rmSync(directory, { recursive: true, force: true }),
  });
}

const BIGINT = 20;
const NUMERIC = 1700;
const numbers = {
  getTypeParser: ((oid: number) =>
    oid === BIGINT || oid === NUMERIC ? Number : pg.types.getTypeParser(oid)) as typeof pg.types.getTypeParser,
};

async function postgresSite(): Promise<Site> {
  const database = await createTestDatabase();
  const query = async (statement: string): Promise<Row[]> => {
    const client = new pg.Client({ connectionString: database.url, types: numbers });
    await client.connect();
    try {
      return (await client.query(statement)).rows as Row[];
    } finally {
      await client.end();
    }
  };
  return siteOver({
    location: { url: database.url, exclusive: false },
    query,
    change: async (statement) => void (await query(statement)),
    remove: () => database.drop(),
  });
}

function siteOver(over: Pick<Site, 'location' | 'query' | 'change'> & { remove(): Promise<void> }): Site {
  const clock = new ManualClock();
  const stores: Store[] = [];
  return {
    clock,
    location: over.location,
    query: over.query,
    change: over.change,
    async open() {
      const store = await openStore({ ...over.location, clock });
      stores.push(store);
      return store;
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(stores.map((store) => store.close()));
      await over.remove();
    },
  };
}

// PostgreSQL's connections: they break while they are in use (an administrator ends them, the server restarts, a switch
// fails), and one of them keeps a second gateway out.

import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { openStore } from '../../src/store/store.ts';
import { ManualClock, until } from '../harness/manual-clock.ts';
import { createTestDatabase, postgresMissing } from '../harness/postgres.ts';
import { inserted, workspace } from './drafts.ts';
import { freshStore, postgres, type Site } from './engines.ts';

describe.skipIf(postgresMissing() !== null)('a connection that is ended while a write waits on it', () => {
  /** Holds up every writer until it is let go. */
  const blocker = async ({ location }: Site) => {
    const client = new pg.Client({ connectionString: 'url' in location ? location.url : '' });
    await client.connect();
    await client.query('begin');
    await client.query('lock table log');
    return client;
  };

  it('fails that write alone; the store goes on', async () => {
    await using site = await freshStore(postgres);
    await workspace(site.store, 'studio', 100_000);
    const client = await blocker(site);
    const pending = inserted(site.store);
    const failed = expect(pending).rejects.toThrow(/terminating connection|Connection terminated/);
    const end = `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    await until(async () => ((await client.query(end)).rowCount ?? 0) > 0, 'a writer that waits');
    await failed;
    await client.end();
    const after = await inserted(site.store);
    expect(await site.store.generations.get(after.id)).toMatchObject({ id: after.id });
  });
});

describe.skipIf(postgresMissing() !== null)('a database that a gateway drives', () => {
  const clock = new ManualClock();
  const taken = 'Another gateway uses this database. Stop it first.';

  it('lets no other gateway in until the first has closed', async () => {
    const { url, drop } = await createTestDatabase();
    const open = () => openStore({ url, exclusive: true, clock });
    const first = await open();
    await expect(open()).rejects.toThrow(taken);
    await workspace(first);
    await first.close();
    const second = await open();
    expect(await second.accounts.workspace('studio')).not.toBeNull();
    await second.close();
    await drop();
  });

  it('is free again when a gateway could not open it', async () => {
    const { url, drop } = await createTestDatabase();
    const client = new pg.Client({ connectionString: url });
    await client.connect();
    await client.query('create table migrations (number integer primary key, at bigint not null)');
    await client.query('insert into migrations values (999, 0)');
    const open = () => openStore({ url, exclusive: true, clock });
    await expect(open()).rejects.toThrow('The database is at version 999');
    await client.query('drop table migrations');
    await (await open()).close();
    await client.end();
    await drop();
  });

  it('leaves the schema beside it to another gateway', async () => {
    const sites = [await createTestDatabase(), await createTestDatabase()];
    const stores = await Promise.all(sites.map(({ url }) => openStore({ url, exclusive: true, clock })));
    await Promise.all(stores.map((store) => store.close()));
    await Promise.all(sites.map((site) => site.drop()));
  });
});

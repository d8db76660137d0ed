// PostgreSQL's connections break while they are in use: an administrator ends them, the server restarts, a switch fails.

import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { until } from '../harness/manual-clock.ts';
import { postgresMissing } from '../harness/postgres.ts';
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

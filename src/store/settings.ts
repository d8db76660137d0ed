// Small durable facts: nodes added at run time, and single values that are decided once and stand from then on (the link
// secret, the admin key's hash). They share the writer, so they are as durable as everything else.

import { sql } from 'kysely';
import type { NodeSpec } from '../domain/node.ts';
import type { Database } from './database.ts';
import type { Writer } from './writer.ts';

export interface Nodes {
  all(): Promise<readonly { readonly spec: NodeSpec; readonly draining: boolean }[]>;
  put(spec: NodeSpec, draining: boolean): Promise<void>;
  delete(id: string): Promise<boolean>;
}

export interface Meta {
  get(key: string): Promise<string | null>;
  /** Writes only if absent and returns what stands. */
  remember(key: string, value: string): Promise<string>;
}

const alone = { weight: 1, needs: { workspaces: [], keys: [], claims: [] } };

export function createNodes({ read }: Database, writer: Writer): Nodes {
  return {
    async all() {
      const rows = await read.selectFrom('nodes').selectAll().orderBy('id').execute();
      return rows.map((row) => ({ spec: JSON.parse(row.spec) as NodeSpec, draining: row.draining === 1 }));
    },
    put: (spec, draining) =>
      writer.submit({
        ...alone,
        async run({ db }) {
          await sql`insert into nodes (id, spec, draining)
            values (${spec.id}, ${JSON.stringify(spec)}, ${draining ? 1 : 0})
            on conflict (id) do update set spec = excluded.spec, draining = excluded.draining`.execute(db);
        },
      }),
    delete: (id) =>
      writer.submit({
        ...alone,
        async run({ db }) {
          const gone = await db.deleteFrom('nodes').where('id', '=', id).executeTakeFirst();
          return gone.numDeletedRows === 1n;
        },
      }),
  };
}

export function createMeta({ read }: Database, writer: Writer): Meta {
  return {
    async get(key) {
      const row = await read.selectFrom('meta').select('value').where('key', '=', key).executeTakeFirst();
      return row?.value ?? null;
    },
    remember: (key, value) =>
      writer.submit({
        ...alone,
        async run({ db }) {
          await db
            .insertInto('meta')
            .values({ key, value })
            .onConflict((c) => c.doNothing())
            .execute();
          const row = await db.selectFrom('meta').select('value').where('key', '=', key).executeTakeFirstOrThrow();
          return row.value;
        },
      }),
  };
}

// Nodes that somebody added at run time, read out of a gateway's database while the gateway is down. Nothing is opened as
// the gateway opens it: no lock is taken, no table is made. What cannot be read is told of by the check of the database.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../../config.ts';
import type { NodeSpec } from '../../domain/node.ts';

export interface KeptNode {
  readonly spec: NodeSpec;
  readonly draining: boolean;
}

interface Row {
  readonly spec: string;
  readonly draining: number;
}

const ALL = 'select spec, draining from nodes order by id';
const PATIENCE_MS = 5_000;

export async function keptNodes({ databaseUrl, data }: Config): Promise<readonly KeptNode[]> {
  const rows = await (databaseUrl === null ? embedded(data) : postgres(databaseUrl)).catch((): Row[] => []);
  return rows.map(({ spec, draining }) => ({ spec: JSON.parse(spec) as NodeSpec, draining: Number(draining) === 1 }));
}

async function embedded(data: string): Promise<Row[]> {
  const file = join(data, 'darkroom.db');
  if (!existsSync(file)) return [];
  const { DatabaseSync } = await import('node:sqlite');
  using db = new DatabaseSync(file, { readOnly: true });
  return db.prepare(ALL).all() as unknown as Row[];
}

async function postgres(url: string): Promise<Row[]> {
  const { Client } = (await import('pg')).default;
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: PATIENCE_MS,
    query_timeout: PATIENCE_MS,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    return (await client.query<Row>(ALL)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

// A real PostgreSQL for tests: the server that DARKROOM_TEST_POSTGRES names, else a private cluster from Debian's packages
// in a temporary directory, fsync on. The first test that asks starts it, all test files of a run share it, each file
// gets a database of its own, and it is stopped when the run ends.

import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { inject } from 'vitest';
import type { TestProject } from 'vitest/node';
import { until } from './manual-clock.ts';

declare module 'vitest' {
  interface ProvidedContext {
    postgresDirectory: string;
  }
}

const PACKAGES = '/usr/lib/postgresql';

/** Why tests on PostgreSQL cannot run here; null when they can. With CI=true they must, so this throws instead. */
export function postgresMissing(): string | null {
  if (process.env.DARKROOM_TEST_POSTGRES !== undefined || binaries() !== null) return null;
  const why = `no PostgreSQL: set DARKROOM_TEST_POSTGRES or install one under ${PACKAGES}`;
  if (process.env.CI === 'true') throw new Error(why);
  return why;
}

export interface TestDatabase {
  readonly url: string;
  drop(): Promise<void>;
}

let own: Promise<string> | undefined;
let schemas = 0;

/** An empty schema in this test file's own database: as good as a database to whoever connects, and made in no time. */
export async function createTestDatabase(): Promise<TestDatabase> {
  own ??= ownDatabase();
  const base = await own;
  const schema = `test_${schemas++}`;
  await onServer(base, `create schema ${schema}`);
  const url = new URL(base);
  url.searchParams.set('options', `-c search_path=${schema}`);
  return { url: url.href, drop: () => onServer(base, `drop schema ${schema} cascade`) };
}

async function ownDatabase(): Promise<string> {
  const server = process.env.DARKROOM_TEST_POSTGRES ?? (await sharedCluster());
  const name = `darkroom_test_${process.pid}_${process.hrtime.bigint()}`;
  await onServer(server, `create database ${name}`);
  const url = new URL(server);
  url.pathname = `/${name}`;
  return url.href;
}

async function onServer(url: string, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** Started by whichever test process makes the lock directory first; the others wait for its address. */
async function sharedCluster(): Promise<string> {
  const directory = inject('postgresDirectory');
  const address = join(directory, 'address');
  try {
    mkdirSync(join(directory, 'lock'));
  } catch {
    await until(() => existsSync(address), 'the PostgreSQL cluster', 60_000);
    return readFileSync(address, 'utf8');
  }
  const url = startCluster(directory, await freePort());
  writeFileSync(`${address}.new`, url);
  renameSync(`${address}.new`, address);
  return url;
}

function startCluster(directory: string, port: number): string {
  const data = join(directory, 'data');
  mkdirSync(data);
  if (process.getuid?.() === 0) chownSync(data, ...accountOf('postgres'));
  asPostgres('initdb', ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-instructions']);
  const options = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=${data} -c max_connections=200`;
  asPostgres('pg_ctl', ['-D', data, '-l', join(data, 'server.log'), '-w', '-t', '60', '-o', options, 'start']);
  return `postgres://postgres@127.0.0.1:${port}/postgres`;
}

function asPostgres(program: string, args: readonly string[]): void {
  const path = join(binaries() ?? '', program);
  const [command, ...rest] =
    process.getuid?.() === 0 ? ['runuser', '-u', 'postgres', '--', path, ...args] : [path, ...args];
  execFileSync(command as string, rest, { stdio: 'ignore', cwd: tmpdir() });
}

function accountOf(user: string): [uid: number, gid: number] {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((l) => l.startsWith(`${user}:`));
  const [, , uid, gid] = line?.split(':') ?? [];
  if (uid === undefined || gid === undefined) throw new Error(`there is no user ${user} to run PostgreSQL as`);
  return [Number(uid), Number(gid)];
}

/** The newest installed. */
function binaries(): string | null {
  if (!existsSync(PACKAGES)) return null;
  const versions = readdirSync(PACKAGES).sort((a, b) => Number(b) - Number(a));
  const found = versions.map((v) => join(PACKAGES, v, 'bin')).find((bin) => existsSync(join(bin, 'initdb')));
  return found ?? null;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

/** Vitest's global setup: only a directory, so that runs without PostgreSQL tests pay nothing. */
export function setup(project: TestProject): () => void {
  const directory = mkdtempSync(join(tmpdir(), 'darkroom-postgres-'));
  chmodSync(directory, 0o755);
  project.provide('postgresDirectory', directory);
  return () => {
    const data = join(directory, 'data');
    if (existsSync(join(data, 'postmaster.pid'))) {
      asPostgres('pg_ctl', ['-D', data, '-m', 'immediate', '-w', 'stop']);
    }
    rmSync(directory, { recursive: true, force: true });
  };
}

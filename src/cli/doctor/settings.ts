// Are the settings of this machine such that a gateway could start and work here? Reads as `serve` would, and changes
// nothing.

import { constants, existsSync } from 'node:fs';
import { access, stat, statfs } from 'node:fs/promises';
import { dirname, join, relative, resolve } from 'node:path';
import pack from '../../../package.json' with { type: 'json' };
import { type Config, ConfigError, type Environment, loadConfig } from '../../config.ts';
import { gigabytes } from '../words.ts';
import { type Finding, ok, warn, wrong } from './finding.ts';

const LITTLE_BYTES = 2e9;
const TOO_LITTLE_BYTES = 200e6;
const DATABASE_MS = 5_000;
const SHORT_KEY = 16;

export interface SettingsFound {
  /** Null: they cannot be used. */
  readonly config: Config | null;
  readonly findings: readonly Finding[];
}

const NAMED = ['DARKROOM_CONFIG', 'DARKROOM_DATA', 'DARKROOM_DATABASE_URL', 'DARKROOM_MODELS'];

/** Is this the folder of a gateway: has one been set up or started here, or do variables say where it is? */
export const isGatewayFolder = (config: Config, env: Environment, cwd: string): boolean =>
  existsSync(config.data) || existsSync(join(cwd, 'config', 'darkroom.yaml')) || NAMED.some((name) => env[name]);

export function checkSettings(env: Environment, cwd: string): SettingsFound {
  const file = relative(cwd, env.DARKROOM_CONFIG || join(cwd, 'config', 'darkroom.yaml'));
  try {
    const config = loadConfig(env, cwd);
    const there = existsSync(resolve(cwd, file));
    const says = there ? `${file} and DARKROOM_*` : `DARKROOM_* and defaults (there is no ${file})`;
    return { config, findings: [ok(`settings: ${says}`)] };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const todo = 'Correct it there; the gateway does not start with it.';
    return { config: null, findings: error.message.split('\n').map((line) => wrong(`settings: ${line}`, todo)) };
  }
}

export function checkNode(version = process.versions.node): Finding {
  const needed = Number(/\d+/.exec(pack.engines.node)?.[0]);
  return Number.parseInt(version, 10) >= needed
    ? ok(`Node.js ${version}`)
    : wrong(`Node.js ${version} is too old`, `Use Node.js ${needed} or newer; "npm start" brings its own.`);
}

export async function checkMachine(config: Config): Promise<readonly Finding[]> {
  return [
    ...(await checkData(config.data)),
    await checkDatabase(config),
    await checkAdminKey(config),
    checkPublicUrl(config),
    checkOutbound(config),
  ];
}

async function checkData(folder: string): Promise<readonly Finding[]> {
  const there = await nearestThere(folder);
  const writable = await access(there, constants.W_OK | constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!(await stat(there)).isDirectory()) {
    return [wrong(`data folder: ${there} is a file`, 'Move it away, or name another folder with DARKROOM_DATA.')];
  }
  if (!writable) {
    const says = `data folder: ${there} cannot be written by ${process.env.USER ?? 'this user'}`;
    return [wrong(says, 'Give this user the right to write there, or name another folder with DARKROOM_DATA.')];
  }
  const { bavail, bsize, blocks } = await statfs(there);
  if (blocks === 0) {
    return [
      wrong(`data folder: ${there} is no disk and keeps no files`, 'Name a folder on a disk with DARKROOM_DATA.'),
    ];
  }
  const free = bavail * bsize;
  const says = `data folder: ${folder}, ${gigabytes(free)} free`;
  const todo = 'Make room, or let old files be swept: outputs.retention_days or outputs.quota_gb.';
  return [free < TOO_LITTLE_BYTES ? wrong(says, todo) : free < LITTLE_BYTES ? warn(says, todo) : ok(says)];
}

/** The folder itself, or the one it would be made in. */
async function nearestThere(folder: string): Promise<string> {
  const found = await stat(folder).catch(() => null);
  return found !== null || dirname(folder) === folder ? folder : nearestThere(dirname(folder));
}

async function checkDatabase({ databaseUrl, data }: Config): Promise<Finding> {
  if (databaseUrl !== null) return checkPostgres(databaseUrl);
  const file = join(data, 'darkroom.db');
  if ((await stat(file).catch(() => null)) === null) return ok('database: SQLite, made at the first start');
  const { DatabaseSync } = await import('node:sqlite');
  try {
    using db = new DatabaseSync(file, { readOnly: true });
    db.prepare('select count(*) from sqlite_master').get();
    return ok(`database: ${file}`);
  } catch (error) {
    return wrong(`database: ${file}: ${(error as Error).message}`, 'Put back a backup of the data folder.');
  }
}

async function checkPostgres(url: string): Promise<Finding> {
  const { host, pathname } = new URL(url);
  const { Client } = (await import('pg')).default;
  const client = new Client({
    connectionString: url,
    connectionTimeoutMillis: DATABASE_MS,
    query_timeout: DATABASE_MS,
  });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query('select 1');
    return ok(`database: PostgreSQL at ${host}${pathname}`);
  } catch (error) {
    const { message, code } = error as Error & { code?: string };
    const says = `database: PostgreSQL at ${host}${pathname}: ${message || code}`;
    return wrong(says, 'Start it, or correct database_url (DARKROOM_DATABASE_URL).');
  } finally {
    await client.end().catch(() => {});
  }
}

async function checkAdminKey({ adminKey, data }: Config): Promise<Finding> {
  if (adminKey !== null) {
    const says = 'admin key: set by the settings';
    const todo = `Use one of at least ${SHORT_KEY} characters that nobody can guess.`;
    return adminKey.length < SHORT_KEY ? warn(`${says}, and short`, todo) : ok(says);
  }
  const file = join(data, 'admin-key');
  const found = await stat(file).catch(() => null);
  if (found === null) {
    const started = await stat(join(data, 'darkroom.db')).catch(() => null);
    if (started === null) return ok(`admin key: made at the first start, in ${file}`);
    return warn(`admin key: ${file} is gone`, 'Set DARKROOM_ADMIN_KEY to a new one if nobody kept the old.');
  }
  return (found.mode & 0o077) === 0
    ? ok(`admin key: ${file}`)
    : warn(`admin key: others on this machine can read ${file}`, `chmod 600 ${file}`);
}

const LOOPBACK = /^(localhost|127\.|\[?::1)/;

function checkPublicUrl({ publicUrl, host, port }: Config): Finding {
  if (publicUrl === null) {
    return ok(`links: begin with the address that each request came to (listens on ${host}:${port})`);
  }
  if (LOOPBACK.test(new URL(publicUrl).hostname) && !LOOPBACK.test(host)) {
    const says = `links: begin with ${publicUrl}, which works on this machine only`;
    return warn(says, 'Set public_url to the address others reach it at, or take it out.');
  }
  return ok(`links: begin with ${publicUrl}`);
}

function checkOutbound({ outbound: { allowPrivate } }: Config): Finding {
  const all = allowPrivate.find((range) => /\/0$/.test(range));
  if (all !== undefined) {
    const says = `outbound: ${all} lets callers reach every address of your network`;
    return warn(says, 'Name only the ranges of webhook receivers and picture servers in outbound.allow_private.');
  }
  return ok(
    allowPrivate.length > 0
      ? `outbound: webhooks and input URLs may reach ${allowPrivate.join(', ')} besides the internet`
      : 'outbound: webhooks and input URLs reach the public internet only (outbound.allow_private)',
  );
}

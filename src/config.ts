// config/darkroom.yaml + DARKROOM_* environment → one frozen, validated Config. The environment is
// handed in by the command that loads it. What is wrong is said at once, with file and line or the variable's name, and
// nothing starts.

import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { readEnvironment, VariableError } from './config/environment.ts';
import { readSettings, type Settings } from './config/settings.ts';
import type { WorkspaceLimits } from './domain/caller.ts';
import type { HostedBackend } from './domain/model.ts';
import type { NodeSpec } from './domain/node.ts';
import type { Bytes, Millicredits, Millis } from './domain/units.ts';
import { YamlError } from './system/system.ts';

/** An account at a hosted provider. */
export interface Account {
  readonly id: string;
  readonly kind: HostedBackend;
  readonly token: string;
  /** Generations in flight at once. */
  readonly slots: number;
  /** Instead of the provider's own address, without trailing slash; null: the provider's. */
  readonly baseUrl: string | null;
}

export interface Config {
  readonly host: string;
  readonly port: number;
  /** Data directory, absolute. */
  readonly data: string;
  readonly models: string;
  /** Directories searched in order for workflows. */
  readonly workflows: readonly string[];
  /** null: made at first start and written to <data>/admin-key. */
  readonly adminKey: string | null;
  /** Base of links, without trailing slash; null: from each request's Host. */
  readonly publicUrl: string | null;
  /** postgres://… or null for embedded SQLite in <data>. */
  readonly databaseUrl: string | null;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error' | 'silent';
  readonly defaultModel: string;
  readonly nodes: readonly NodeSpec[];
  readonly accounts: readonly Account[];
  readonly sketch: boolean;
  readonly outbound: { readonly allowPrivate: readonly string[] };
  readonly outputs: {
    readonly linkMs: Millis;
    /** Files older than this are swept; null: kept. */
    readonly retentionMs: Millis | null;
    /** Oldest files are swept beyond it; null: no quota. */
    readonly quotaBytes: Bytes | null;
    readonly provenance: boolean;
  };
  readonly studioCredits: Millicredits;
  readonly usdPerCredit: number;
  readonly limits: WorkspaceLimits;
  readonly policy: {
    /** Words, phrases and patterns that no prompt may contain, in any workspace (domain/blocklist.ts). */
    readonly blocked: readonly string[];
    /** A prompt that one provider refused may be offered to the next. */
    readonly refusedElsewhere: boolean;
    /** More of them, by the id of a workspace. */
    readonly workspaces: Readonly<Record<string, readonly string[]>>;
  };
  readonly scheduling: {
    /** A swap must be worth this many times its own seconds. */
    readonly swapWorth: number;
    /** Over which the surcharge for a swap melts. */
    readonly patienceMs: Millis;
    /** How long a route is waited for before a later, hosted (or, after a hosted one, local) route may serve; null: as long as it takes. */
    readonly overflowMs: Millis | null;
    /** The same by the id of a workspace that tolerates more or less. */
    readonly workspaces: Readonly<Record<string, Millis | null>>;
    /** How long a draining stop may wait for running work. */
    readonly drainMs: Millis;
  };
}

/** Settings that cannot be used: the message names file and line, or the variable, and what was expected. */
export class ConfigError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'ConfigError';
  }
}

/** What the process was started with: `process.env` and the working directory. */
export type Environment = Readonly<Record<string, string | undefined>>;

const SHIPPED = resolve(import.meta.dirname, '..');

/** Throws ConfigError. */
export function loadConfig(env: Environment, cwd: string): Config {
  try {
    return compose(env, cwd);
  } catch (error) {
    throw error instanceof YamlError || error instanceof VariableError
      ? new ConfigError(error.message, { cause: error })
      : error;
  }
}

function compose(env: Environment, cwd: string): Config {
  const told = readEnvironment(env);
  const path = resolve(cwd, told.config ?? join('config', 'darkroom.yaml'));
  const settings = readSettings(readFile(path, told.config !== undefined), path, env);
  const own = join(dirname(path), 'workflows');
  const shipped = join(SHIPPED, 'config', 'workflows');
  return freeze({
    ...toConfig(settings, told, cwd),
    models: modelsFile(told.models ?? settings.models, cwd),
    workflows: own === shipped ? [own] : [own, shipped],
  });
}

/** A missing file is all defaults, unless someone named it. */
function readFile(path: string, named: boolean): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const { code = 'UNKNOWN' } = cause as NodeJS.ErrnoException;
    if (!named && (code === 'ENOENT' || code === 'ENOTDIR')) return '';
    const found = FOUND_INSTEAD[code] ?? `there is one that cannot be read (${code})`;
    throw new ConfigError(`${named ? 'DARKROOM_CONFIG: ' : ''}expected a file, ${found} at ${path}`, { cause });
  }
}

const FOUND_INSTEAD: Readonly<Record<string, string>> = {
  ENOENT: 'there is none',
  ENOTDIR: 'there is none',
  EISDIR: 'there is a directory',
};

function modelsFile(named: string | undefined, cwd: string): string {
  if (named !== undefined) return resolve(cwd, named);
  const own = resolve(cwd, 'models.yaml');
  return existsSync(own) ? own : join(SHIPPED, 'models.yaml');
}

const SECOND = 1000;
const DAY = 86_400 * SECOND;
const GIGABYTE = 1e9;

type Told = ReturnType<typeof readEnvironment>;

function toConfig(s: Settings, told: Told, cwd: string): Omit<Config, 'models' | 'workflows'> {
  return {
    host: told.host ?? s.host,
    port: told.port ?? s.port,
    data: resolve(cwd, told.data ?? s.data),
    adminKey: told.adminKey ?? s.admin_key ?? null,
    publicUrl: told.publicUrl ?? s.public_url ?? null,
    databaseUrl: told.databaseUrl ?? s.database_url ?? null,
    logLevel: told.logLevel ?? s.log_level,
    defaultModel: s.default_model,
    nodes: s.nodes,
    accounts: s.accounts.map(({ base_url, ...account }) => ({ ...account, baseUrl: base_url })),
    sketch: s.sketch,
    outbound: { allowPrivate: s.outbound.allow_private },
    outputs: {
      linkMs: s.outputs.link_days * DAY,
      retentionMs: s.outputs.retention_days === null ? null : s.outputs.retention_days * DAY,
      quotaBytes: s.outputs.quota_gb === null ? null : s.outputs.quota_gb * GIGABYTE,
      provenance: s.outputs.provenance,
    },
    studioCredits: s.studio_credits,
    usdPerCredit: s.usd_per_credit,
    limits: {
      concurrency: s.limits.concurrency,
      queue: s.limits.queue,
      requestsPerMinute: s.limits.requests_per_minute,
    },
    policy: {
      blocked: s.policy.blocked,
      refusedElsewhere: s.policy.refused_elsewhere,
      workspaces: Object.fromEntries(Object.entries(s.policy.workspaces).map(([id, own]) => [id, own.blocked])),
    },
    scheduling: {
      swapWorth: s.scheduling.swap_worth,
      patienceMs: s.scheduling.patience_seconds * SECOND,
      overflowMs: milliseconds(s.scheduling.overflow_seconds),
      workspaces: Object.fromEntries(
        Object.entries(s.scheduling.workspaces).map(([id, own]) => [id, milliseconds(own.overflow_seconds)]),
      ),
      drainMs: s.scheduling.drain_seconds * SECOND,
    },
  };
}

const milliseconds = (seconds: number | null): Millis | null => (seconds === null ? null : seconds * SECOND);

function freeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  for (const inner of Object.values(value)) freeze(inner);
  return Object.freeze(value);
}

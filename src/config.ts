// config/darkroom.yaml + DARKROOM_* environment → one frozen, validated Config. Only this file and main.ts read process.env.

import type { WorkspaceLimits } from './domain/caller.ts';
import type { NodeSpec } from './domain/node.ts';
import type { Bytes, Millicredits, Millis } from './domain/units.ts';

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
  readonly scheduling: {
    /** A swap must be worth this many times its own seconds. */
    readonly swapWorth: number;
    /** Over which the surcharge for a swap melts. */
    readonly patienceMs: Millis;
    /** How long a draining stop may wait for running work. */
    readonly drainMs: Millis;
  };
}

// What differs between SQLite and PostgreSQL, and nothing else: how to connect, how a few column types and one function are
// spelled, how migrations keep each other out. Everything above is one code over Kysely.

import type { Kysely, RawBuilder, Transaction } from 'kysely';
import type { Schema } from './schema.ts';

export interface Database {
  /** Sees committed data only. */
  readonly read: Kysely<Schema>;
  /** The writer's own way in; nobody else uses it. */
  readonly write: Kysely<Schema>;
  /** Column types. `text` compares byte by byte, as JavaScript compares ids. */
  readonly types: { readonly text: RawBuilder<unknown>; readonly integer: RawBuilder<unknown> };
  /** Ends `create table` where a table should be stored in the order of its primary key. */
  readonly clustered: RawBuilder<unknown>;
  /** Scheme and host of an http(s) URL in this column: all before its path. */
  hostOf(column: RawBuilder<unknown>): RawBuilder<string>;
  /** Resolves when everything committed before the call survives a power loss. Does not block the event loop. */
  durable(): Promise<void>;
  /** Between transactions: keeps the engine's own log short. Resolves when the writer may go on. */
  tidy(): Promise<void>;
  /** Keeps other gateways from migrating until the transaction ends. */
  lockMigrations(db: Transaction<Schema>): Promise<void>;
  close(): Promise<void>;
}

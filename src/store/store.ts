// The durable truth. One Kysely code over SQLite (node:sqlite, WAL) and PostgreSQL. Generations are inserted, alone or as
// items of a batch, and moved by events; each moves row, event, ledger and webhook deliveries in one transaction. Writes of
// one event-loop turn share one commit (group commit): an answer is given only after the sync to disk, which the writer
// awaits (`Database.durable`).

import type { Clock } from '../system/system.ts';
import { type Accounts, createAccounts } from './accounts.ts';
import { transitions } from './append.ts';
import { type Batches, createBatches } from './batches.ts';
import type { Database } from './database.ts';
import { createDeliveries } from './deliveries.ts';
import { createEvents, type Events } from './events.ts';
import { createFiles, type Files } from './files.ts';
import { createGenerations, type Generations } from './generations.ts';
import { createLedger, type Ledger } from './ledger.ts';
import { migrate } from './migrations/migrations.ts';
import { lockPostgres, openPostgres } from './postgres.ts';
import type { Recorded } from './recorded.ts';
import { createMeta, createNodes, type Meta, type Nodes } from './settings.ts';
import { openSqlite } from './sqlite.ts';
import { createWebhooks, type Deliveries, type Webhooks } from './webhooks.ts';
import { createWriter } from './writer.ts';

export type { Accounts, NewKey } from './accounts.ts';
export type { Admitted } from './admission.ts';
export type { NewItem } from './batch-items.ts';
export type { BatchClaim, BatchMade } from './batch-writes.ts';
export type { Batches } from './batches.ts';
export type { Events } from './events.ts';
export type { Files, SweepRow, Upload } from './files.ts';
export type { Generations } from './generations.ts';
export type { Credits } from './ledger.ts';
export type { ListFilter } from './listing.ts';
export { lockFolder } from './lock.ts';
export type { Page } from './pages.ts';
export type { Inserted, Moved, Recorded } from './recorded.ts';
export type { Nodes } from './settings.ts';
export type { Usage, UsageGroup, UsageRow } from './usage.ts';
export type { Deliveries, Receiver, Webhooks } from './webhooks.ts';

export interface Store {
  readonly generations: Generations;
  readonly batches: Batches;
  readonly events: Events;
  readonly ledger: Ledger;
  readonly accounts: Accounts;
  readonly files: Files;
  readonly webhooks: Webhooks;
  readonly deliveries: Deliveries;
  /** Nodes added at run time. */
  readonly nodes: Nodes;
  /** Small durable facts (link secret, admin key hash …). */
  readonly meta: Meta;
  /**
   * Calls back after each commit of this process with what it recorded, in cursor order, before the promises of the
   * callers resolve. This is how stored events reach the watchers; nothing unstored ever does.
   */
  onCommit(listener: (recorded: readonly Recorded[]) => void): Disposable;
  /** Group commits so far, for metrics and tests. */
  readonly commits: number;
  /** Finishes the writes under way; later ones are refused with `shutting_down`. */
  close(): Promise<void>;
}

export type StoreOptions = { readonly clock: Pick<Clock, 'now' | 'sleep'> } & (
  | { /** SQLite file; made when absent. Its directory must exist. */ readonly path: string }
  | {
      /** postgres://… */
      readonly url: string;
      /** One gateway at a time. A file needs no such lock: the folder it lies in has one (`lockFolder`). */
      readonly exclusive: boolean;
    }
);

/** Opens the store and brings its tables up to date. Throws when it cannot be reached, is taken, or is newer. */
export async function openStore(options: StoreOptions): Promise<Store> {
  const { clock } = options;
  await using opening = new AsyncDisposableStack();
  if ('url' in options && options.exclusive) opening.use(await lockPostgres(options.url));
  const database = 'url' in options ? openPostgres(options.url) : openSqlite(options.path);
  opening.defer(() => database.close());
  await migrate(database, clock.now());
  return assemble(database, clock, opening.move());
}

function assemble(database: Database, clock: StoreOptions['clock'], opened: AsyncDisposable): Store {
  const writer = createWriter(database, clock);
  const transition = transitions();
  return {
    generations: createGenerations(database, writer, clock, transition),
    batches: createBatches(database, writer, clock, transition),
    webhooks: createWebhooks(database, writer, clock),
    deliveries: createDeliveries(database, writer),
    events: createEvents(database, writer, clock),
    ledger: createLedger(database, writer),
    accounts: createAccounts(database, writer, clock),
    files: createFiles(database, writer),
    nodes: createNodes(database, writer),
    meta: createMeta(database, writer),
    onCommit: writer.onCommit,
    get commits() {
      return writer.commits;
    },
    async close() {
      await writer.close();
      await opened[Symbol.asyncDispose]();
    },
  };
}

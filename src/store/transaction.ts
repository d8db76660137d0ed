// One group commit from inside: it holds the log's lock, numbers events as they will commit, and gathers rows so that
// they are written set by set. Writers of all gateways follow one another here, so nothing needs another lock and no
// two of them can deadlock.

import { type Kysely, sql } from 'kysely';
import type { Batch, BatchEvent, Tally } from '../domain/batch.ts';
import type { GenerationEvent } from '../domain/event.ts';
import type { Generation } from '../domain/generation.ts';
import type { KeyId, WorkspaceId } from '../domain/units.ts';
import { type Books, bookkeeping, unasked } from './books.ts';
import { type Outbox, posting } from './outbox.ts';
import type { BatchMoved, Moved, Recorded } from './recorded.ts';
import { claimId, text, toGeneration } from './rows.ts';
import type {
  AttachedRow,
  BlobRefRow,
  ClaimRow,
  EventRow,
  GenerationRow,
  LogRow,
  MetadataRow,
  Schema,
} from './schema.ts';
import { finder, inserter, statement } from './statements.ts';

/** What a write will look at, so that a whole group is looked up at once. */
export interface Needs {
  readonly workspaces: readonly WorkspaceId[];
  readonly keys: readonly KeyId[];
  readonly claims: readonly string[];
  /** Workspaces of which something may come to its end, so that their webhooks are told. */
  readonly hooks?: readonly WorkspaceId[];
}

/** An idempotency key in use: which generation holds it, and since when. */
export interface Claim {
  readonly generation: Generation;
  readonly requestHash: string;
  readonly createdAt: number;
}

export interface Transaction {
  readonly db: Kysely<Schema>;
  readonly books: Books;
  readonly outbox: Outbox;
  readonly recorded: readonly Recorded[];
  load(needs: readonly Needs[]): Promise<void>;
  claim(workspaceId: WorkspaceId, key: string): Claim | undefined;
  /** Points the key at this generation from now on. */
  hold(workspaceId: WorkspaceId, key: string, claim: Claim): void;
  /** A new row, with what belongs to it. */
  add(row: GenerationRow, metadata: readonly MetadataRow[]): void;
  refer(refs: readonly BlobRefRow[]): void;
  /** A generation of elsewhere that stands for an item from now on. */
  attach(row: AttachedRow): void;
  /** Numbers an event and keeps it for the log. */
  record(before: Generation | null, generation: Generation, event: GenerationEvent): Moved;
  recordBatch(batch: Batch, event: BatchEvent, tally: Tally): BatchMoved;
  /** Writes what was gathered so far. */
  flush(): Promise<void>;
}

interface ClaimedRow extends Pick<GenerationRow, 'submitted' | 'changes'> {
  readonly id: string;
  readonly request_hash: string;
  readonly created_at: number;
}

/** Finds who holds keys, by `claimId`. Its text depends on the engine. */
export function claimsFinder() {
  const find = finder(
    sql<ClaimedRow>`select i.id, i.request_hash, i.created_at, g.submitted, g.changes
      from idempotency i join generations g on g.id = i.generation_id where i.id in`,
  );
  return async (db: Kysely<Schema>, ids: readonly string[]): Promise<[id: string, Claim][]> => {
    const rows = await find(db, ids);
    return rows.map((row) => [
      row.id,
      { generation: toGeneration(row), requestHash: row.request_hash, createdAt: row.created_at },
    ]);
  };
}

/** Statements of one store: their texts depend on the engine. */
export function transactions() {
  const openBooks = bookkeeping();
  const openOutbox = posting();
  const lock = statement(sql<LogRow>`update log set cursor = cursor where id = 1 returning id, cursor, entry, pruned`);
  const advance = statement(sql`update log set cursor = ${0}, entry = ${0} where id = 1`);
  const claimed = claimsFinder();
  const insertClaims = inserter(
    'idempotency',
    ['id', 'generation_id', 'request_hash', 'created_at'],
    sql`on conflict (id) do update set generation_id = excluded.generation_id,
      request_hash = excluded.request_hash, created_at = excluded.created_at`,
  );
  const insertGenerations = inserter('generations', [
    'id',
    'workspace_id',
    'key_id',
    'batch_id',
    'item',
    'item_key',
    'model',
    'status',
    'seq',
    'lane',
    'not_before',
    'start_by',
    'created_at',
    'finished_at',
    'swept_at',
    'reserved',
    'charged',
    'outputs',
    'node_ms',
    'last_node',
    'submitted',
    'changes',
  ]);
  const insertMetadata = inserter('generation_metadata', [
    'workspace_id',
    'key',
    'value',
    'created_at',
    'generation_id',
  ]);
  const insertEvents = inserter('events', [
    'cursor',
    'workspace_id',
    'generation_id',
    'batch_id',
    'seq',
    'at',
    'event',
  ]);
  const insertAttached = inserter('batch_attached', ['batch_id', 'item', 'item_key', 'generation_id', 'created_at']);
  const insertRefs = inserter('blob_refs', ['blob', 'owner', 'role'], sql`on conflict (blob, owner, role) do nothing`);

  /** Begins by taking the log's lock. */
  return async (db: Kysely<Schema>): Promise<Transaction> => {
    const log = (await lock(db, [])).rows[0];
    if (log === undefined) throw new Error('the log has no row');
    const books = openBooks(db, log.entry);
    const outbox = openOutbox(db);
    const claims = new Map<string, Claim>();
    const asked = new Set<string>();
    const recorded: Recorded[] = [];
    let cursor = log.cursor;
    let rows = nothing();

    return {
      db,
      books,
      outbox,
      recorded,
      async load(needs) {
        await books.load(
          needs.flatMap((n) => n.workspaces),
          needs.flatMap((n) => n.keys),
        );
        await outbox.load(needs.flatMap((n) => n.hooks ?? []));
        const wanted = unasked(
          needs.flatMap((n) => n.claims),
          asked,
        );
        for (const [id, claim] of await claimed(db, wanted)) claims.set(id, claim);
      },
      claim: (workspaceId, key) => claims.get(claimId(workspaceId, key)),
      hold(workspaceId, key, claim) {
        const id = claimId(workspaceId, key);
        claims.set(id, claim);
        const { requestHash, createdAt, generation } = claim;
        rows.claims.push({ id, generation_id: generation.id, request_hash: requestHash, created_at: createdAt });
      },
      add(row, metadata) {
        rows.generations.push(row);
        rows.metadata.push(...metadata);
      },
      refer: (refs) => void rows.refs.push(...refs),
      attach: (row) => void rows.attached.push(row),
      record(before, generation, event) {
        cursor++;
        const { id, workspaceId, batchId, seq } = generation;
        rows.events.push({
          cursor,
          workspace_id: workspaceId,
          generation_id: id,
          batch_id: batchId === null ? null : text(batchId),
          seq,
          at: event.at,
          event: JSON.stringify(event),
        });
        const one = {
          type: 'generation',
          before,
          generation,
          deliveries: outbox.tell(generation, event.at),
          stored: { cursor, workspaceId, generationId: id, batchId, seq, event },
        } as const;
        recorded.push(one);
        return one;
      },
      recordBatch(batch, event, tally) {
        cursor++;
        const { id, workspaceId, seq } = batch;
        rows.events.push({
          cursor,
          workspace_id: workspaceId,
          generation_id: id,
          batch_id: id,
          seq,
          at: event.at,
          event: JSON.stringify({ event, batch, tally }),
        });
        const moved = { batch, tally, stored: { cursor, workspaceId, batchId: id, seq, event, batch, tally } };
        const one = { type: 'batch', ...moved, deliveries: outbox.tellBatch(moved) } as const;
        recorded.push(one);
        return one;
      },
      async flush() {
        const { generations, metadata, events, refs, attached, claims: held } = rows;
        rows = nothing();
        await insertGenerations(db, generations);
        await insertMetadata(db, metadata);
        await insertEvents(db, events);
        await insertAttached(db, attached);
        await insertRefs(db, refs);
        await insertClaims(db, held);
        await outbox.flush();
        await advance(db, [cursor, await books.flush()]);
      },
    };
  };
}

interface Gathered {
  readonly generations: GenerationRow[];
  readonly metadata: MetadataRow[];
  readonly events: EventRow[];
  readonly refs: BlobRefRow[];
  readonly attached: AttachedRow[];
  readonly claims: ClaimRow[];
}

const nothing = (): Gathered => ({ generations: [], metadata: [], events: [], refs: [], attached: [], claims: [] });

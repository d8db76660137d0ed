// Batches as doors ask for them. Everything that can be refused is refused before anything is stored; what follows from
// an answer (items handed over, cancelled, brought to their end) is the runner's. Each move compares the batch's sequence
// number, so two people who move it at once follow one another.

import { setImmediate as turn } from 'node:timers/promises';
import { type BatchRequest, MAX_TOLD_FAILURES, type Projection } from '../contract/batches.ts';
import type { GenerationRequest } from '../contract/generations.ts';
import {
  type Batch,
  type BatchEvent,
  type BatchId,
  type BatchStatus,
  holdOf,
  type Item,
  type Tally,
} from '../domain/batch.ts';
import { CLOSED, reset } from '../domain/breaker.ts';
import type { Caller } from '../domain/caller.ts';
import { GatewayError } from '../domain/failure.ts';
import type { Generation, Status } from '../domain/generation.ts';
import { type Millis, toMillicredits } from '../domain/units.ts';
import type { BatchClaim, BatchMade, NewItem, Page } from '../store/store.ts';
import { batchHash, draftItems, mustAfford, parseItems, projectionOf, resolvedHash } from './batch-items.ts';
import { etaOf } from './batch-pace.ts';
import { retriesOf } from './batch-retry.ts';
import type { Runner } from './batch-runner.ts';
import type { Outlook } from './outlook.ts';
import type { Rooms } from './rooms.ts';

/** A batch and how it stands now. */
export interface BatchNow {
  readonly batch: Batch;
  readonly tally: Tally;
  /** Seconds from now until its last item ends; null when it has, or nobody can say. */
  readonly etaSeconds: number | null;
}

export interface BatchReport extends BatchNow {
  /** The first items that failed, timed out or were cancelled, in order; how many there are, its tally says. */
  readonly failures: readonly Item<Generation>[];
  /** Of the items that succeeded. */
  readonly nodeMs: readonly Millis[];
}

/** Throws GatewayError('not_found') for foreign ids too, 'conflict' where the state does not allow it. */
export interface BatchDesk {
  /** Durable before it resolves. Throws GatewayError: an item that does not parse (path `items.N.…`), 402 when it cannot be afforded. */
  create(caller: Caller, request: BatchRequest): Promise<BatchNow & { readonly replayed: boolean }>;
  /** What it would cost; stores nothing. */
  project(caller: Caller, request: BatchRequest): Promise<Projection>;
  extend(caller: Caller, id: BatchId, items: readonly unknown[]): Promise<BatchNow>;
  get(caller: Caller, id: BatchId): Promise<BatchNow>;
  list(caller: Caller, limit: number, cursor?: string): Promise<Page<BatchNow>>;
  items(
    caller: Caller,
    id: BatchId,
    status: Status | null,
    limit: number,
    cursor?: string,
  ): Promise<Page<Item<Generation>>>;
  report(caller: Caller, id: BatchId): Promise<BatchReport>;
  pause(caller: Caller, id: BatchId): Promise<BatchNow>;
  resume(caller: Caller, id: BatchId): Promise<BatchNow>;
  /** `cancelled` at once; its items follow. Idempotent; an ended one comes back unchanged. */
  cancel(caller: Caller, id: BatchId): Promise<BatchNow>;
  /** Failed, timed out and halted items run again as new generations; those of a paused batch once it is resumed. */
  retryFailed(caller: Caller, id: BatchId): Promise<BatchNow>;
}

export interface DeskOptions {
  readonly rooms: Rooms;
  readonly runner: Pick<Runner, 'works' | 'limitOf'>;
  readonly outlook: Outlook;
  /** Called with items that are shown: their files may have been swept. */
  readonly remember: (g: Generation) => Promise<void>;
  /** Throws while the gateway takes no new work. */
  readonly admitting: () => void;
}

const PAGE = 100;
/** Items put back in one write. */
const RETRIED_AT_ONCE = 2000;
const ENDED_BADLY: readonly Status[] = ['failed', 'timeout', 'cancelled'];

export function createBatchDesk({ rooms, runner, outlook, remember, admitting }: DeskOptions): BatchDesk {
  const { store } = rooms;
  const passing = keepingNothing(rooms);
  const { clock, random } = rooms.system;

  const mine = async (caller: Caller, id: BatchId) => {
    const batch = await store.batches.get(id);
    if (batch === null || batch.workspaceId !== caller.workspace.id) {
      throw new GatewayError('not_found', `There is no batch ${id}.`);
    }
    return batch;
  };

  const nowOf = async (batch: Batch): Promise<BatchNow> => {
    const tally = await store.batches.tally(batch.id);
    const work = runner.works.get(batch.id);
    const limit = await runner.limitOf(batch);
    return { batch, tally, etaSeconds: work === undefined ? null : etaOf(work, tally, limit, outlook, clock.now()) };
  };

  /** Those behind `after`. */
  async function* everyItem(id: BatchId, statuses: readonly Status[], after = -1): AsyncIterable<Item<Generation>> {
    let cursor: string | undefined;
    do {
      const page = await store.batches.items(id, { statuses }, PAGE, cursor);
      for (const item of page.data) if (item.index > after) yield item;
      cursor = page.next ?? undefined;
      await turn();
    } while (cursor !== undefined);
  }

  /** Slice by slice, each whole, so that no big one holds up all other writes. Ends early where someone moved first. */
  const putBack = async (from: Batch, items: readonly NewItem[]) => {
    let batch = from;
    for (let done = 0; done < items.length; done += RETRIED_AT_ONCE) {
      const moved = await store.batches.retry(batch, items.slice(done, done + RETRIED_AT_ONCE), clock.now());
      if (moved === null) return { batch, done };
      batch = moved;
      await turn();
    }
    return { batch, done: items.length };
  };

  /** Moves it by what `decide` says of its newest state; null: it is as wanted already. */
  const move = async (caller: Caller, id: BatchId, decide: (batch: Batch) => BatchEvent | null): Promise<BatchNow> => {
    for (;;) {
      const batch = await mine(caller, id);
      const event = decide(batch);
      if (event === null) return nowOf(batch);
      const moved = await store.batches.change(batch, event, await store.batches.tally(id));
      if (moved !== null) return nowOf(moved);
    }
  };

  const draftBatch = (caller: Caller, request: BatchRequest): Batch => {
    const now = clock.now();
    const { breaker } = request;
    return {
      id: `batch_${random.ulid(now)}`,
      workspaceId: caller.workspace.id,
      keyId: caller.key.id,
      createdAt: now,
      name: request.name ?? null,
      concurrency: request.concurrency,
      maxCredits: request.max_credits === undefined ? null : toMillicredits(request.max_credits),
      rules:
        breaker === false
          ? null
          : {
              windowMs: breaker.window_seconds * 1000,
              minFinished: breaker.min_finished,
              threshold: breaker.threshold,
              cooldownMs: breaker.cooldown_seconds * 1000,
              trips: breaker.trips,
            },
      fallback: request.fallback ?? null,
      metadata: request.metadata,
      seq: 1,
      status: 'running',
      total: 0,
      projected: 0,
      breaker: CLOSED,
      finishedAt: null,
    };
  };

  /** Drafts that the workspace can afford. Throws GatewayError. */
  const affordable = async (caller: Caller, batch: Batch, requests: readonly GenerationRequest[]) => {
    const items = await draftItems(rooms, caller, batch, requests);
    mustAfford(await projectionOf(rooms, caller, items, batch.maxCredits));
    return items;
  };

  /** Whoever made it with this key meanwhile, or in other words, made it for this caller too, whatever is left to spend. */
  const makeAnew = async (
    caller: Caller,
    batch: Batch,
    requests: readonly GenerationRequest[],
    spelt: BatchClaim | null,
  ): Promise<BatchMade> => {
    const items = await draftItems(rooms, caller, batch, requests);
    const claim = spelt && {
      key: spelt.key,
      requestHash: `${spelt.requestHash} ${await resolvedHash(items, batch.fallback)}`,
    };
    const projection = await projectionOf(rooms, caller, items, batch.maxCredits);
    const made = claim && (await store.batches.made(batch.workspaceId, claim));
    if (made !== null) return made;
    mustAfford(projection);
    return store.batches.create(batch, items, claim);
  };

  return {
    async create(caller, request) {
      admitting();
      const requests = await parseItems(rooms, request.items);
      const batch = draftBatch(caller, request);
      const key = request.idempotency_key;
      const claim = key === undefined ? null : { key, requestHash: await batchHash(requests, batch.fallback) };
      const known = claim && (await store.batches.made(caller.workspace.id, claim));
      const made = known?.outcome === 'replayed' ? known : await makeAnew(caller, batch, requests, claim);
      if (made.outcome === 'refused') throw new GatewayError(made.failure);
      return { ...(await nowOf(made.batch)), replayed: made.outcome === 'replayed' };
    },
    async project(caller, request) {
      const requests = await parseItems(rooms, request.items);
      const batch = draftBatch(caller, request);
      return projectionOf(rooms, caller, await draftItems(passing, caller, batch, requests), batch.maxCredits);
    },
    async extend(caller, id, items) {
      admitting();
      const requests = await parseItems(rooms, items);
      mustBe(await mine(caller, id), OPEN, 'takes items');
      const drafts = await affordable(caller, await mine(caller, id), requests);
      for (;;) {
        const batch = await mine(caller, id);
        mustBe(batch, OPEN, 'takes items');
        const extended = await store.batches.extend(batch, drafts, clock.now());
        if (extended !== null) return nowOf(extended);
      }
    },
    get: async (caller, id) => nowOf(await mine(caller, id)),
    async list(caller, limit, cursor) {
      const { data, next } = await store.batches.list(caller.workspace.id, limit, cursor);
      const now: BatchNow[] = [];
      for (const batch of data) {
        now.push(await nowOf(batch));
        await turn();
      }
      return { data: now, next };
    },
    async items(caller, id, status, limit, cursor) {
      await mine(caller, id);
      const page = await store.batches.items(id, status === null ? {} : { statuses: [status] }, limit, cursor);
      for (const { generation } of page.data) await remember(generation);
      return page;
    },
    async report(caller, id) {
      const now = await nowOf(await mine(caller, id));
      const failures: Item<Generation>[] = [];
      for await (const item of everyItem(id, ENDED_BADLY)) if (failures.push(item) === MAX_TOLD_FAILURES) break;
      return { ...now, failures, nodeMs: await store.batches.nodeTimes(id) };
    },
    pause: (caller, id) =>
      move(caller, id, (batch) => {
        mustBe(batch, OPEN, 'can be paused');
        return batch.status === 'paused' ? null : { type: 'paused', at: clock.now() };
      }),
    async resume(caller, id) {
      const at = clock.now();
      await move(caller, id, (batch) => {
        mustBe(batch, OPEN, 'can be resumed', batch.status === 'halted' ? ' retry_failed runs it again.' : '');
        return batch.status === 'paused' ? { type: 'running', at } : null;
      });
      return move(caller, id, (batch) =>
        holdOf(batch) === 'breaker_open' ? { type: 'breaker', at, breaker: reset(batch.breaker, at) } : null,
      );
    },
    cancel: (caller, id) =>
      move(caller, id, (batch) =>
        batch.finishedAt !== null || batch.status === 'cancelled' ? null : { type: 'cancelled', at: clock.now() },
      ),
    async retryFailed(caller, id) {
      admitting();
      for (let done = -1; ; ) {
        const batch = await mine(caller, id);
        mustBe(batch, ['running', 'paused', 'halted', 'finished'], 'can be retried');
        const items = await retriesOf(rooms, caller, batch, everyItem(id, ENDED_BADLY, done));
        if (done < 0 && items.length === 0)
          throw new GatewayError('conflict', `No item of ${id} failed, timed out or was halted.`);
        if (done < 0) mustAfford(await projectionOf(rooms, caller, items, batch.maxCredits));
        const put = await putBack(batch, items);
        if (put.done === items.length) return nowOf(put.batch);
        done = items[put.done - 1]?.draft.item ?? done;
      }
    },
  };
}

/** Pictures have to be read to know what they would cost; these are swept at once, unless others use them too. */
function keepingNothing({ store, ...rooms }: Rooms): Rooms {
  const createUpload: Rooms['store']['files']['createUpload'] = (made) =>
    store.files.createUpload({ ...made, usedAt: 0 });
  return { ...rooms, store: { ...store, files: { ...store.files, createUpload } } };
}

const OPEN: readonly BatchStatus[] = ['running', 'paused'];

/** Throws GatewayError('conflict') with a sentence. */
function mustBe({ id, status }: Batch, statuses: readonly BatchStatus[], what: string, more = ''): void {
  if (statuses.includes(status)) return;
  throw new GatewayError('conflict', `${id} is ${status}: only one that is ${statuses.join(' or ')} ${what}.${more}`);
}

// Whatever is asked for in whatever order, from one gateway or two: the tables tell one story.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Batch, type BatchEvent, batchAccepts } from '../../src/domain/batch.ts';
import { accepts, type GenerationEvent } from '../../src/domain/event.ts';
import { failure } from '../../src/domain/failure.ts';
import type { NewItem, Store } from '../../src/store/store.ts';
import { batch, cutKey, item, webhook } from './batch-drafts.ts';
import { cancelled, draft, failed, newKey, output, requeued, START, started, succeeded, workspace } from './drafts.ts';
import { onBothEngines } from './engines.ts';
import { expectSound } from './invariants.ts';

type Step =
  | {
      readonly do: 'insert';
      readonly reserved: number;
      readonly key: number;
      readonly capped: boolean;
      readonly model: string;
    }
  | { readonly do: 'append'; readonly which: number; readonly event: GenerationEvent; readonly stale: boolean }
  | { readonly do: 'grant'; readonly amount: number }
  | { readonly do: 'create'; readonly items: readonly Asked[]; readonly claim: number }
  | { readonly do: 'extend'; readonly which: number; readonly items: readonly Asked[] }
  | { readonly do: 'admit'; readonly which: number; readonly count: number; readonly room: number | null }
  | { readonly do: 'cancel'; readonly which: number; readonly count: number }
  | { readonly do: 'retry'; readonly which: number; readonly again: readonly Asked[] }
  | { readonly do: 'change'; readonly which: number; readonly event: BatchEvent; readonly stale: boolean };

/** An item: its price, its key (0: none), and whether it cannot run. */
interface Asked {
  readonly reserve: number;
  readonly key: number;
  readonly broken: boolean;
}

const FREE = { perOutput: 0, perNodeSecond: 0, reserve: 0 };

const EVENTS: readonly GenerationEvent[] = [
  started(),
  started(START, 'rack-2'),
  { ...started(), served: { model: 'free', params: draft().params, quote: FREE } } as GenerationEvent,
  requeued(),
  succeeded(START, []),
  succeeded(START, [output(), output({ index: 1, blob: 'blob-b' })]),
  failed(),
  cancelled(),
];

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant('insert' as const),
    reserved: fc.integer({ min: 0, max: 3_000 }),
    key: fc.integer({ min: 0, max: 6 }),
    capped: fc.boolean(),
    model: fc.constantFrom('flux-dev', 'sdxl'),
  }),
  fc.record({
    do: fc.constant('append' as const),
    which: fc.nat(40),
    event: fc.constantFrom(...EVENTS),
    stale: fc.boolean(),
  }),
  fc.record({ do: fc.constant('grant' as const), amount: fc.integer({ min: -6_000, max: 4_000 }) }),
);

const asked: fc.Arbitrary<Asked> = fc.record({
  reserve: fc.integer({ min: 0, max: 2_000 }),
  key: fc.integer({ min: 0, max: 6 }),
  broken: fc.boolean(),
});
const some = fc.array(asked, { maxLength: 5 });
const which = fc.nat(5);

const BATCH_EVENTS: readonly BatchEvent[] = [
  { type: 'paused', at: START },
  { type: 'running', at: START },
  { type: 'halted', at: START, breaker: { state: 'halted', trips: 2, resumesAt: null, since: START } },
  { type: 'cancelled', at: START },
  { type: 'settled', at: START },
  { type: 'finished', at: START },
];

const batchStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant('create' as const), items: some, claim: fc.integer({ min: 0, max: 2 }) }),
  fc.record({ do: fc.constant('extend' as const), which, items: some }),
  fc.record({
    do: fc.constant('admit' as const),
    which,
    count: fc.nat(4),
    room: fc.option(fc.integer({ min: 0, max: 3_000 })),
  }),
  fc.record({ do: fc.constant('cancel' as const), which, count: fc.nat(4) }),
  fc.record({ do: fc.constant('retry' as const), which, again: some }),
  fc.record({
    do: fc.constant('change' as const),
    which,
    event: fc.constantFrom(...BATCH_EVENTS),
    stale: fc.boolean(),
  }),
);

/** Steps of one round are asked for at once; rounds follow one another, on either gateway. */
const rounds = fc.array(fc.tuple(fc.boolean(), fc.array(fc.oneof(step, batchStep), { minLength: 1, maxLength: 12 })), {
  minLength: 1,
  maxLength: 12,
});

onBothEngines((engine) => {
  it('keeps money, counts, events and rows in one story', { timeout: 120_000 }, async () => {
    await fc.assert(
      fc.asyncProperty(rounds, async (script) => {
        await using site = await engine.site();
        const stores = [await site.open(), await site.open()] as const;
        await workspace(stores[0], 'studio', 10_000, { queue: 8 });
        await cutKey(stores[0]);
        await stores[0].webhooks.create(webhook());
        let ends = 0;
        for (const each of stores)
          each.onCommit((recorded) => {
            for (const one of recorded) ends += one.deliveries;
          });
        const key = await stores[0].accounts.createKey(newKey({ spendCap: 7_000 }), START);
        const ids: string[] = [];
        for (const [second, steps] of script) {
          const made = await Promise.all(steps.map((one) => take(stores[second ? 1 : 0], one, ids, key.id)));
          ids.push(...made.flatMap((id) => (id === null ? [] : [id])));
        }
        await expectSound(site, stores[0]);
        expect(await stores[0].deliveries.waiting(), 'each end that was told of has its deliveries').toBe(ends);
        const [told] = await site.query(ENDS);
        expect(ends, 'and each end was told of once').toBe(Number(told?.n));
      }),
      { numRuns: engine.name === 'sqlite' ? 30 : 8, endOnFailure: true },
    );
  });
});

/** The id of what was inserted, or null. Refusals and lost races are answers like any other. */
async function take(store: Store, one: Step, ids: readonly string[], keyId: string): Promise<string | null> {
  switch (one.do) {
    case 'insert': {
      const { reserved, model, key, capped } = one;
      const quote = { perOutput: Math.ceil(reserved / 2), perNodeSecond: 0, reserve: reserved };
      const more = {
        idempotencyKey: key === 0 ? null : `k${key}`,
        requestHash: `h${key % 3}`,
        ...(capped ? { keyId } : {}),
      };
      const [result] = await store.generations.insert([draft({ reserved, model, quote, ...more })]);
      return result?.outcome === 'inserted' ? result.generation.id : null;
    }
    case 'append': {
      const current = await store.generations.get(ids[one.which % Math.max(1, ids.length)] ?? 'none');
      if (current === null || !accepts(current, one.event.type)) return null;
      await store.generations.append(one.stale ? { ...current, seq: current.seq - 1 } : current, one.event);
      return null;
    }
    case 'grant':
      await store.ledger
        .grant('studio', one.amount, null, START)
        .catch((error: Error) => expect(error.message).toMatch(/cannot be taken/));
      return null;
    default:
      return takeBatch(store, one);
  }
}

/** Ends that the webhook wants to hear of: it takes no `timeout`. */
const ENDS = `select (select count(*) from generations where status in ('succeeded', 'failed', 'cancelled')) + (
  select count(*) from events where batch_id = generation_id
  and (event like '{"event":{"type":"finished"%' or event like '{"event":{"type":"settled"%')) as n`;

type BatchStep = Exclude<Step, { do: 'insert' | 'append' | 'grant' }>;

/** Adds the ids of items, so that they are appended to like any other. */
async function takeBatch(store: Store, one: BatchStep): Promise<string | null> {
  if (one.do === 'create') {
    const of = batch();
    const its = one.items.map((each, n) => itemOf(of, n, each));
    const claim = one.claim === 0 ? null : { key: `b${one.claim}`, requestHash: `${its.length}` };
    await store.batches.create(of, its, claim);
    return its[0]?.draft.id ?? null;
  }
  const { data } = await store.batches.list('studio', 6);
  const of = data[one.which % Math.max(1, data.length)];
  if (of === undefined) return null;
  switch (one.do) {
    case 'extend': {
      const its = one.items.map((each) => itemOf(of, 0, each));
      if (batchAccepts(of, 'extended')) await store.batches.extend(of, its, START);
      return its[0]?.draft.id ?? null;
    }
    case 'admit':
      await store.batches.admit(await store.batches.held(of.id, one.count), one.room, START);
      return null;
    case 'cancel':
      for (const id of await store.batches.idsIn(of.id, 'queued', one.count)) {
        const g = await store.generations.get(id);
        if (g !== null && accepts(g, 'cancelled')) await store.generations.append(g, cancelled());
      }
      return null;
    case 'retry': {
      if (!batchAccepts(of, 'retried')) return null;
      const { data: ended } = await store.batches.items(of.id, { statuses: ['failed', 'timeout', 'cancelled'] }, 5);
      const its = one.again.slice(0, ended.length).map((each, n) => itemOf(of, ended[n]?.index ?? 0, each));
      await store.batches.retry(of, its, START);
      return its[0]?.draft.id ?? null;
    }
    case 'change': {
      if (!batchAccepts(of, one.event.type)) return null;
      const seen = one.stale ? { ...of, seq: of.seq - 1 } : of;
      await store.batches.change(seen, one.event, await store.batches.tally(of.id));
      return null;
    }
  }
}

function itemOf(of: Batch, index: number, { reserve, key, broken }: Asked): NewItem {
  const quote = { perOutput: Math.ceil(reserve / 2), perNodeSecond: 0, reserve };
  const idempotencyKey = key === 0 ? null : `k${key}`;
  const { draft: one } = item(of, index, { quote, idempotencyKey, requestHash: `h${key % 3}` });
  return { draft: one, failure: broken ? failure('unknown_model', 'There is no such model.') : null };
}

// Whatever is asked for in whatever order, from one gateway or two: the tables tell one story.

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { accepts, type GenerationEvent } from '../../src/domain/event.ts';
import type { Store } from '../../src/store/store.ts';
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
  | { readonly do: 'grant'; readonly amount: number };

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

/** Steps of one round are asked for at once; rounds follow one another, on either gateway. */
const rounds = fc.array(fc.tuple(fc.boolean(), fc.array(step, { minLength: 1, maxLength: 12 })), {
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
        const key = await stores[0].accounts.createKey(newKey({ spendCap: 7_000 }), START);
        const ids: string[] = [];
        for (const [second, steps] of script) {
          const made = await Promise.all(steps.map((one) => take(stores[second ? 1 : 0], one, ids, key.id)));
          ids.push(...made.flatMap((id) => (id === null ? [] : [id])));
        }
        await expectSound(site, stores[0]);
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
  }
}

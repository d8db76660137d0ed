// A gateway to be killed: writes without end and prints each write once it was acknowledged, one JSON line each. What it
// printed must be there afterwards, whenever it died.

import { openStore } from '../../src/store/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { batch, item } from './batch-drafts.ts';
import { cancelled, draft, requeued, started, succeeded } from './drafts.ts';

const [location, name] = process.argv.slice(2);
const store = await openStore({ ...JSON.parse(location ?? '{}'), clock: systemClock });
const events = [started(), requeued(), started(), succeeded()];

/** One caller: a generation's whole life, again and again. */
async function live(lane: number): Promise<never> {
  for (let round = 0; ; round++) {
    const id = `gen_${name}_${lane}_${String(round).padStart(8, '0')}`;
    const [made] = await store.generations.insert([draft({ id, idempotencyKey: `${id}-key`, metadata: { round } })]);
    if (made?.outcome !== 'inserted') throw new Error(JSON.stringify(made));
    let generation = made.generation;
    tell(generation.id, generation.seq);
    for (const event of round % 3 === 0 ? [cancelled()] : events) {
      const recorded = await store.generations.append(generation, event);
      if (recorded === null) throw new Error('someone moved first');
      generation = recorded.generation;
      tell(generation.id, generation.seq);
    }
  }
}

/** One caller who makes batches, each once its last one was acknowledged. */
async function make(): Promise<never> {
  for (let round = 0; ; round++) {
    const of = batch({ id: `batch_${name}_${String(round).padStart(8, '0')}` });
    const its = Array.from({ length: 300 }, (_, n) => item(of, n, { id: `gen_${name}_b${round}_${n}` }));
    const made = await store.batches.create(of, its, { key: of.id, requestHash: '' });
    if (made.outcome !== 'created') throw new Error(JSON.stringify(made));
    const last = its.at(-1);
    if (last !== undefined) tell(last.draft.id, 1);
    await store.batches.admit(await store.batches.held(of.id, 5), null, Date.now());
  }
}

const tell = (id: string, seq: number): void => void process.stdout.write(`${JSON.stringify({ id, seq })}\n`);

await Promise.all([make(), ...Array.from({ length: 8 }, (_, lane) => live(lane))]);

// A gateway to be killed: writes without end and prints each write once it was acknowledged, one JSON line each. What it
// printed must be there afterwards, whenever it died.

import { openStore } from '../../src/store/store.ts';
import { systemClock } from '../../src/system/clock.ts';
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

const tell = (id: string, seq: number): void => void process.stdout.write(`${JSON.stringify({ id, seq })}\n`);

await Promise.all(Array.from({ length: 8 }, (_, lane) => live(lane)));

// What the built-in node draws by itself: as many runs at once as the fleet gives it slots, bytes read and dropped.

import { connectSketch } from '../../src/backends/sketch/client.ts';
import { createSystem } from '../../src/system/system.ts';
import { generation } from '../../test/domain/given.ts';

const { count, side, steps } = JSON.parse(process.argv[2] ?? '{}') as { count: number; side: number; steps: number };
const SLOTS = 2;
const system = createSystem({ level: 'silent', allowPrivate: [] });
const spec = { id: 'sketch', kind: 'sketch', url: '', labels: [], auth: null, slots: SLOTS } as const;
const node = connectSketch({ spec, system, scratch: '' });
const never = new AbortController().signal;

async function draw(seed: number): Promise<void> {
  const params = { ...generation().params, prompt: `product ${seed}`, width: side, height: side, steps, seed };
  const route = {
    backend: 'sketch',
    labels: [],
    checkpoint: null,
    workflow: null,
    remote: null,
    account: null,
  } as const;
  const job = {
    id: `gen_${seed}`,
    attempt: 1,
    kind: 'image',
    route,
    recipe: null,
    params,
    files: [],
    previews: false,
  } as const;
  for await (const event of node.run(job, never)) {
    if (event.type === 'file') for await (const _ of await event.file.open(never));
  }
}

async function batch(from: number, to: number): Promise<number> {
  const start = performance.now();
  let next = from;
  const lane = async () => {
    while (next < to) await draw(next++);
  };
  await Promise.all(Array.from({ length: SLOTS }, lane));
  return ((to - from) / (performance.now() - start)) * 1000;
}

await batch(0, 40);
process.send?.(await batch(40, 40 + count));
process.on('disconnect', () => process.exit());

// Batches: accepting and cancelling thousands at once without holding anybody up, and a night's work on the built-in
// node against what that node draws by itself. How long the event loop was held is seen from outside: the slowest answer
// of /healthz, asked without pause meanwhile.

import {
  child,
  client,
  expectStatus,
  type GatewayProcess,
  ms,
  percentiles,
  type Row,
  sleep,
  startGateway,
  times,
} from './rig.ts';

const ITEMS = 2_000;
const MANY = 10_000;

interface Batch {
  readonly id: string;
  readonly status: string;
  readonly counts: Readonly<Record<string, number>>;
}

const items = (count: number, more: Record<string, unknown> = {}) =>
  Array.from({ length: count }, (_, i) => ({
    prompt: `product ${i}, on a walnut desk at dawn, soft shadows, 35 mm`,
    seed: i,
    metadata: { sku: `LAMP-${i}`, variant: 'hero', campaign: 'launch' },
    ...more,
  }));

/** Runs `work` and says how long it took, and how long the slowest answer of /healthz took meanwhile. */
async function held<T>(url: string, work: () => Promise<T>): Promise<{ result: T; tookMs: number; slowestMs: number }> {
  const c = client(url);
  let over = false;
  let slowestMs = 0;
  const watch = (async () => {
    while (!over) {
      const start = performance.now();
      await c('GET', '/healthz');
      slowestMs = Math.max(slowestMs, performance.now() - start);
    }
  })();
  await sleep(200);
  slowestMs = 0;
  const start = performance.now();
  const result = await work();
  const tookMs = performance.now() - start;
  over = true;
  await watch;
  return { result, tookMs, slowestMs };
}

async function until(url: string, id: string, done: (b: Batch) => boolean, everyMs = 20): Promise<Batch> {
  const c = client(url);
  for (;;) {
    const batch = JSON.parse(expectStatus(await c('GET', `/v1/batches/${id}`), 200).body) as Batch;
    if (done(batch)) return batch;
    await sleep(everyMs);
  }
}

const create = async (url: string, body: Record<string, unknown>): Promise<Batch> =>
  JSON.parse(expectStatus(await client(url)('POST', '/v1/batches', body), 202).body) as Batch;

async function accepted(gateway: GatewayProcess) {
  const runs: { tookMs: number; slowestMs: number }[] = [];
  for (let i = 0; i < 6; i++) {
    const body = { name: `accept ${i}`, items: items(ITEMS), concurrency: 1 };
    const run = await held(gateway.url, () => create(gateway.url, body));
    if (i > 0) runs.push(run); // the first warms up
    await client(gateway.url)('POST', `/v1/batches/${run.result.id}/cancel`);
    await until(gateway.url, run.result.id, (b) => b.counts.queued === 0 && b.counts.running === 0);
  }
  return { took: percentiles(runs.map((r) => r.tookMs)), slowest: Math.max(...runs.map((r) => r.slowestMs)) };
}

async function cancelled(gateway: GatewayProcess) {
  const { id } = await create(gateway.url, { name: 'cancel', items: items(MANY), concurrency: 1 });
  return held(gateway.url, async () => {
    expectStatus(await client(gateway.url)('POST', `/v1/batches/${id}/cancel`), 200);
    await until(gateway.url, id, (b) => b.counts.cancelled === MANY, 5);
  });
}

export async function b1c(): Promise<Row[]> {
  await using gateway = await startGateway({ nodes: ['http://127.0.0.1:9'] });
  const accept = await accepted(gateway);
  const cancel = await cancelled(gateway);
  return [
    row('B1c', `a batch of ${ITEMS.toLocaleString('en')} accepted: median`, accept.took.p50, 300),
    row('B1c', 'the same: slowest other answer meanwhile', accept.slowest, 20),
    row('B6c', `cancel of ${MANY.toLocaleString('en')} queued, until all are cancelled`, cancel.tookMs, 500),
    row('B6c', 'the same: slowest other answer meanwhile', cancel.slowestMs, 20),
  ];
}

const row = (id: string, what: string, value: number, goal: number): Row => ({
  id,
  what,
  limit: '–',
  ours: ms(value),
  ratio: '–',
  goal: `≤ ${goal} ms`,
  met: value <= goal,
});

const SKETCH = { model: 'sketch', size: '512x512', steps: 8 };
const SKETCH_MODEL = `models:
  sketch:
    name: Sketch
    kind: image
    best_for: Measuring.
    capabilities: [text-to-image, seed]
    price: 0.001
    limits: {max_pixels: 4194304, multiple_of: 8, max_n: 8, max_steps: 100}
    defaults: {width: 512, height: 512, steps: 8}
    estimate_seconds: 1
    routes:
      - {backend: sketch}
`;

export async function b11s(): Promise<Row[]> {
  const alone = await child<number>('./limits/sketch.ts', { count: 600, side: 512, steps: 8 });
  await alone.stop();
  await using gateway = await startGateway({ nodes: [], sketch: true, models: SKETCH_MODEL });
  const start = performance.now();
  const { id } = await create(gateway.url, { name: 'night', items: items(ITEMS, SKETCH), concurrency: 50 });
  const end = await until(gateway.url, id, (b) => b.status === 'finished', 100);
  if (end.counts.succeeded !== ITEMS) throw new Error(`not all succeeded: ${JSON.stringify(end.counts)}`);
  const ours = ITEMS / ((performance.now() - start) / 1000);
  const ratio = ours / alone.ready;
  return [
    {
      id: 'B11s',
      what: `${ITEMS.toLocaleString('en')} items on the built-in node, end to end`,
      limit: `${alone.ready.toFixed(1)}/s`,
      ours: `${ours.toFixed(1)}/s`,
      ratio: times(ratio),
      goal: '≥ 0.9 ×',
      met: ratio >= 0.9,
    },
  ];
}

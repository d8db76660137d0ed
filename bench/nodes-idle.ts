// B3 and B4: what the gateway adds to a render, and how long a node stands idle between two jobs. The nodes' own logs
// tell when they rendered.

import {
  client,
  expectStatus,
  ms,
  type NodeLog,
  nodesOnline,
  percentiles,
  REQUEST,
  type Row,
  startGateway,
  startNodes,
  times,
} from './rig.ts';

const RENDER_MS = 50;

export async function b3(): Promise<Row[]> {
  const nodes = await startNodes(1, { renderMs: RENDER_MS, image: 'large', historyMs: 0 });
  await using gateway = await startGateway({ nodes: nodes.ready });
  await nodesOnline(gateway.url, 1);
  const c = client(gateway.url);
  const overheads: number[] = [];
  for (let i = 0; i < 140; i++) {
    const start = performance.now();
    const g = JSON.parse(
      expectStatus(await c('POST', '/v1/generations', { ...REQUEST, seed: i, wait: 20 }), 200).body,
    ) as { status: string };
    if (g.status !== 'succeeded') throw new Error(JSON.stringify(g));
    if (i >= 20) overheads.push(performance.now() - start);
  }
  const [log] = await nodes.ask<NodeLog[][]>('log');
  await nodes.stop();
  const renders = spans(log ?? []).slice(20);
  const render = percentiles(renders.map(([from, to]) => to - from));
  const over = percentiles(overheads.map((total, i) => total - ((renders[i]?.[1] ?? 0) - (renders[i]?.[0] ?? 0))));
  return [
    {
      id: 'B3a',
      what: 'overhead above the render, 1.9 MB: p50',
      limit: `render ${ms(render.p50)}`,
      ours: ms(over.p50),
      ratio: '–',
      goal: '≤ 15 ms',
      met: over.p50 <= 15,
    },
    {
      id: 'B3a',
      what: 'the same: p99',
      limit: `render ${ms(render.p99)}`,
      ours: ms(over.p99),
      ratio: '–',
      goal: '≤ 40 ms',
      met: over.p99 <= 40,
    },
  ];
}

export async function b4(): Promise<Row[]> {
  const nodes = await startNodes(4, { renderMs: 300, image: 'large', historyMs: 0 });
  await using gateway = await startGateway({ nodes: nodes.ready });
  await nodesOnline(gateway.url, 4);
  const c = client(gateway.url);
  const ids: string[] = [];
  for (let i = 0; i < 160; i++)
    ids.push(
      (
        JSON.parse(expectStatus(await c('POST', '/v1/generations', { ...REQUEST, seed: i }), 202).body) as {
          id: string;
        }
      ).id,
    );
  for (const id of ids) await c('GET', `/v1/generations/${id}?wait=60`);
  const logs = await nodes.ask<NodeLog[][]>('log');
  await nodes.stop();
  const gaps = logs.flatMap((log) => {
    const done = spans(log);
    return done.slice(2, -1).map(([, to], i) => (done[i + 3]?.[0] ?? to) - to);
  });
  const gap = percentiles(gaps);
  const busy = 300 / (300 + gap.p50);
  return [
    {
      id: 'B4b',
      what: 'node idle between jobs, no prefetch: p50',
      limit: '0 ms',
      ours: ms(gap.p50),
      ratio: times(busy),
      goal: '–',
      met: true,
    },
    {
      id: 'B4b',
      what: 'the same: p99',
      limit: '0 ms',
      ours: ms(gap.p99),
      ratio: '–',
      goal: '≤ 20 ms',
      met: gap.p99 <= 20,
    },
  ];
}

/** Renders of one node as [begin, end], in order. */
function spans(log: readonly NodeLog[]): [number, number][] {
  const begun = new Map<string, number>();
  const done: [number, number][] = [];
  for (const { at, what, promptId = '' } of log) {
    if (what === 'render_begin') begun.set(promptId, at);
    if (what === 'render_end') done.push([begun.get(promptId) ?? at, at]);
  }
  return done;
}

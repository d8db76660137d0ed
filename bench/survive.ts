// B7 and B8: memory, and kill -9 in the middle of everything.

import {
  client,
  expectStatus,
  ms,
  type NodeLog,
  nodesOnline,
  percentiles,
  REQUEST,
  type Row,
  sleep,
  startGateway,
  startNodes,
} from './rig.ts';

export async function b7(): Promise<Row[]> {
  const nodes = await startNodes(20, { renderMs: 60_000, image: 'small', historyMs: 0 });
  await using gateway = await startGateway({ nodes: nodes.ready });
  await nodesOnline(gateway.url, 20);
  await sleep(2_000);
  const idle = await gateway.residentMb();
  const loops = Array.from({ length: 20 }, async () => {
    const c = client(gateway.url);
    for (let i = 0; i < 5_000; i++) expectStatus(await c('POST', '/v1/generations', REQUEST), 202);
  });
  await Promise.all(loops);
  await sleep(10_000);
  const grown = (await gateway.residentMb()) - idle;
  await nodes.stop();
  return [
    {
      id: 'B7a',
      what: 'idle with 20 nodes connected: resident',
      limit: '–',
      ours: `${idle.toFixed(0)} MB`,
      ratio: '–',
      goal: '≤ 120 MB',
      met: idle <= 120,
    },
    {
      id: 'B7b',
      what: '+ 100 k queued: growth',
      limit: '–',
      ours: `${grown.toFixed(0)} MB`,
      ratio: '–',
      goal: '≤ 25 MB',
      met: grown <= 25,
    },
  ];
}

const KILLS = 5;

export async function b8(): Promise<Row[]> {
  const nodes = await startNodes(20, { renderMs: 2_000, image: 'small', historyMs: 0 });
  let gateway = await startGateway({ nodes: nodes.ready });
  await nodesOnline(gateway.url, 20);
  const ids: string[] = [];
  const c = client(gateway.url);
  for (let i = 0; i < 500; i++)
    ids.push(
      (
        JSON.parse(expectStatus(await c('POST', '/v1/generations', { ...REQUEST, seed: i }), 202).body) as {
          id: string;
        }
      ).id,
    );
  const ready: number[] = [];
  for (let kill = 0; kill < KILLS; kill++) {
    await sleep(700 + Math.random() * 3_000);
    gateway = await gateway.crash();
    ready.push(gateway.startedInMs);
  }
  const after = client(gateway.url);
  let lost = 0;
  let credits = 0;
  for (const id of ids) {
    const poll = async () =>
      JSON.parse((await after('GET', `/v1/generations/${id}?wait=60`)).body) as {
        status: string;
        credits_charged?: number;
      };
    let g = await poll();
    for (let i = 0; i < 5 && (g.status === 'queued' || g.status === 'running'); i++) g = await poll();
    if (g.status !== 'succeeded') lost++;
    credits += g.credits_charged ?? 0;
  }
  const logs = await nodes.ask<NodeLog[][]>('log');
  const begun = logs
    .flat()
    .filter((l) => l.what === 'render_begin')
    .map((l) => /gen_[0-9A-Z]{26}/.exec(l.prefix ?? '')?.[0] ?? l.promptId);
  const twice = begun.length - new Set(begun).size;
  await gateway[Symbol.asyncDispose]();
  await nodes.stop();
  const start = percentiles(ready);
  return [
    {
      id: 'B8a',
      what: `${KILLS} × kill -9 with 500 in flight: lost`,
      limit: '0',
      ours: String(lost),
      ratio: '–',
      goal: '0',
      met: lost === 0,
    },
    {
      id: 'B8a',
      what: 'the same: renders begun twice',
      limit: '0',
      ours: String(twice),
      ratio: '–',
      goal: '0',
      met: twice === 0,
    },
    {
      id: 'B8a',
      what: 'the same: credits charged for 500',
      limit: '500',
      ours: String(credits),
      ratio: '–',
      goal: '500',
      met: credits === 500,
    },
    {
      id: 'B8a',
      what: 'the same: ready again, slowest',
      limit: '–',
      ours: ms(start.p99),
      ratio: '–',
      goal: '≤ 1,000 ms',
      met: start.p99 <= 1_000,
    },
  ];
}

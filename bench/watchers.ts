// B9: 200 watchers of one workspace while its generations move fifty times a second. A final event carries the moment it
// was made, so what is measured is from that moment, the commit included, to the watcher's hands.

import {
  child,
  client,
  expectStatus,
  KEY,
  ms,
  nodesOnline,
  REQUEST,
  type Row,
  sleep,
  startGateway,
  startNodes,
} from './rig.ts';

const WATCHERS = 200;
/** Each is announced three times: queued, running, succeeded. */
const GENERATIONS_PER_SECOND = 17;
const SECONDS = 15;

interface Seen {
  readonly p50: number;
  readonly p99: number;
  readonly events: number;
  /** Final events, over all watchers. */
  readonly finals: number;
}

export async function b9(): Promise<Row[]> {
  const nodes = await startNodes(8, { renderMs: 50, image: 'small', historyMs: 0 });
  await using gateway = await startGateway({ nodes: nodes.ready });
  await nodesOnline(gateway.url, 8);
  const watchers = await child<string>('./limits/watchers.ts', { url: gateway.url, key: KEY, count: WATCHERS });
  const c = client(gateway.url);
  const total = GENERATIONS_PER_SECOND * SECONDS;
  const start = performance.now();
  const sent: Promise<unknown>[] = [];
  for (let i = 0; i < total; i++) {
    sent.push(
      client(gateway.url)('POST', '/v1/generations', { ...REQUEST, seed: i }).then((a) => expectStatus(a, 202)),
    );
    await sleep(Math.max(0, start + ((i + 1) * 1000) / GENERATIONS_PER_SECOND - performance.now()));
  }
  await Promise.all(sent);
  for (let left = 1; left > 0; ) {
    const list = async (status: string) =>
      (JSON.parse((await c('GET', `/v1/generations?status=${status}&limit=1`)).body) as { data: unknown[] }).data
        .length;
    left = (await list('queued')) + (await list('running'));
    await sleep(100);
  }
  await sleep(1_000);
  const seen = await watchers.ask<Seen>('seen');
  await watchers.stop();
  await nodes.stop();
  const missing = total * WATCHERS - seen.finals;
  return [
    {
      id: 'B9a',
      what: `${WATCHERS} watchers, 50 events/s: p50`,
      limit: '–',
      ours: ms(seen.p50),
      ratio: '–',
      goal: '≤ 6 ms',
      met: seen.p50 <= 6,
    },
    {
      id: 'B9a',
      what: 'the same: p99',
      limit: '–',
      ours: ms(seen.p99),
      ratio: '–',
      goal: '≤ 25 ms',
      met: seen.p99 <= 25,
    },
    {
      id: 'B9a',
      what: `the same: final events missing of ${(total * WATCHERS).toLocaleString('en')}`,
      limit: '0',
      ours: String(missing),
      ratio: '–',
      goal: '0',
      met: missing === 0,
    },
  ];
}

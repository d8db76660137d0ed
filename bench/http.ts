// B1 and B2: submitting and polling, against raw node:http doing the least that could be called the same.

import { child, client, expectStatus, hammer, ms, REQUEST, type Row, rate, startGateway, times } from './rig.ts';

const RUN_MS = 5_000;

export async function b1(): Promise<Row[]> {
  const raw = await child<number>('./limits/submit.ts', {});
  const limit = await hammer(
    `http://127.0.0.1:${raw.ready}`,
    50,
    RUN_MS,
    async (c) => void expectStatus(await c('POST', '/', REQUEST), 202),
  );
  const alone = await hammer(
    `http://127.0.0.1:${raw.ready}`,
    1,
    2_000,
    async (c) => void expectStatus(await c('POST', '/', REQUEST), 202),
    500,
  );
  await raw.stop();
  await using gateway = await startGateway({ nodes: ['http://127.0.0.1:9'] });
  const submit = async (c: ReturnType<typeof client>) =>
    void expectStatus(await c('POST', '/v1/generations', REQUEST), 202);
  const ours = await hammer(gateway.url, 50, RUN_MS, submit);
  const one = await hammer(gateway.url, 1, 2_000, submit, 500);
  const ratio = ours.perSecond / limit.perSecond;
  return [
    {
      id: 'B1a',
      what: 'submit, durable, 50 in flight: accepted',
      limit: rate(limit.perSecond),
      ours: rate(ours.perSecond),
      ratio: times(ratio),
      goal: '≥ 0.33 ×',
      met: ratio >= 1 / 3,
    },
    {
      id: 'B1a',
      what: 'the same: p99',
      limit: ms(limit.p99),
      ours: ms(ours.p99),
      ratio: times(ours.p99 / limit.p99),
      goal: '≤ 10 ms or 2 ×',
      met: ours.p99 <= 10 || ours.p99 <= 2 * limit.p99,
    },
    {
      id: 'B1b',
      what: 'submit, one client: p50',
      limit: ms(alone.p50),
      ours: ms(one.p50),
      ratio: times(one.p50 / alone.p50),
      goal: '≤ 1 ms or 3 ×',
      met: one.p50 <= 1 || one.p50 <= 3 * alone.p50,
    },
  ];
}

export async function b2(): Promise<Row[]> {
  await using gateway = await startGateway({ nodes: ['http://127.0.0.1:9'] });
  const c = client(gateway.url);
  const ids: string[] = [];
  for (let i = 0; i < 200; i++)
    ids.push((JSON.parse(expectStatus(await c('POST', '/v1/generations', REQUEST), 202).body) as { id: string }).id);
  const { body } = await c('GET', `/v1/generations/${ids[0]}`);
  const raw = await child<number>('./limits/poll.ts', { body });
  const limit = await hammer(
    `http://127.0.0.1:${raw.ready}`,
    50,
    RUN_MS,
    async (k) => void expectStatus(await k('GET', '/'), 200),
  );
  await raw.stop();
  const ours = await hammer(
    gateway.url,
    50,
    RUN_MS,
    async (k, i) => void expectStatus(await k('GET', `/v1/generations/${ids[i]}`), 200),
  );
  const ratio = ours.perSecond / limit.perSecond;
  return [
    {
      id: 'B2a',
      what: 'poll, 50 connections',
      limit: rate(limit.perSecond),
      ours: rate(ours.perSecond),
      ratio: times(ratio),
      goal: '≥ 0.25 ×',
      met: ratio >= 0.25,
    },
    {
      id: 'B2a',
      what: 'the same: p99',
      limit: ms(limit.p99),
      ours: ms(ours.p99),
      ratio: times(ours.p99 / limit.p99),
      goal: '≤ 8 ms or 4 ×',
      met: ours.p99 <= 8 || ours.p99 <= 4 * limit.p99,
    },
  ];
}

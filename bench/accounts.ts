// B19: what the gateway adds to a hosted provider's own time, asked one after another: the provider here answers at once,
// so all of it is ours, from the request to a picture that can be fetched. One that is polled adds its first pause. And what
// it costs this account's work that another account has no money left while hundreds of jobs wait for that one.

import { type HostedDouble, type HostedKind, startHosted } from '../test/doubles/hosted/hosted.ts';
import { client, ms, type Percentiles, percentiles, type Row, startGateway } from './rig.ts';

const JOBS = 60;
const WAITING = 500;

const modelOf = (id: string, kind: HostedKind, remote: string): string => `  ${id}:
    name: Bench
    kind: image
    best_for: Measuring.
    capabilities: [text-to-image, seed]
    price: 1
    limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}
    defaults: {width: 512, height: 512, steps: 4}
    estimate_seconds: 1
    routes: [{backend: ${kind}, remote: ${remote}}]
`;
const accountOf = (id: string, kind: HostedKind, { key, url }: HostedDouble): string =>
  `  - {id: ${id}, kind: ${kind}, token: "${key}", base_url: "${url}"}\n`;

/** A gateway with this account, and another that has no money left. */
async function open(kind: HostedKind, remote: string) {
  const double = await startHosted(kind, { pace: { queuedPolls: 0, runningPolls: 0 } });
  const other = await startHosted('fal');
  other.faults.on('balance');
  const models = `models:\n${modelOf('bench', kind, remote)}${modelOf('broke', 'fal', 'fal-ai/flux/dev')}`;
  const settings = `default_model: bench\noutbound: {allow_private: ["127.0.0.0/8"]}\naccounts:\n${accountOf('a', kind, double)}${accountOf('b', 'fal', other)}`;
  const gateway = await startGateway({ nodes: [], models, settings });
  const c = client(gateway.url);
  const ask = async (model: string, wait: number, expected: string): Promise<number> => {
    const start = performance.now();
    const answer = await c('POST', '/v1/generations', { model, prompt: 'a lighthouse', wait });
    const took = performance.now() - start;
    if (!answer.body.includes(`"status":"${expected}"`)) throw new Error(answer.body.slice(0, 300));
    return took;
  };
  return {
    ask: () => ask('bench', 30, 'succeeded'),
    /** One finds out, so many wait for it to be mended. */
    async wait(jobs: number) {
      await ask('broke', 30, 'failed');
      for (let i = 0; i < jobs; i++) await ask('broke', 0, 'queued');
    },
    async [Symbol.asyncDispose]() {
      await gateway[Symbol.asyncDispose]();
      await Promise.all([double.close(), other.close()]);
    },
  };
}

/** Asked in turn, so that what else the machine does falls on all alike. */
async function inTurn(asks: readonly (() => Promise<number>)[]): Promise<readonly Percentiles[]> {
  const samples = asks.map((): number[] => []);
  for (let i = 0; i < JOBS; i++) for (const [k, ask] of asks.entries()) samples[k]?.push(await ask());
  return samples.map((all) => percentiles(all.slice(10)));
}

export async function b19(): Promise<Row[]> {
  await using one = await open('openai', 'gpt-image-1.5');
  await using troubled = await open('openai', 'gpt-image-1.5');
  await troubled.wait(WAITING);
  const [at, beside] = (await inTurn([one.ask, troubled.ask])) as [Percentiles, Percentiles];
  await using asked = await open('bfl', 'flux-dev');
  const [polled] = (await inTurn([asked.ask])) as [Percentiles];
  return [
    {
      id: 'B19',
      what: 'a hosted provider that answers at once: p50',
      limit: '0 ms',
      ours: ms(at.p50),
      ratio: '–',
      goal: '≤ 20 ms',
      met: at.p50 <= 20,
    },
    {
      id: 'B19',
      what: `the same while ${WAITING} jobs wait for an account without money: p50`,
      limit: ms(at.p50),
      ours: ms(beside.p50),
      ratio: (at.p50 / beside.p50).toFixed(2),
      goal: '≥ 0.9',
      met: at.p50 / beside.p50 >= 0.9,
    },
    {
      id: 'B19',
      what: 'one that is polled, its first pause included: p50',
      limit: '500 ms',
      ours: ms(polled.p50),
      ratio: '–',
      goal: '–',
      met: true,
    },
  ];
}

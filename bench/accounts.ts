// B19: what the gateway adds to a hosted provider's own time, asked one after another: the provider here answers at once,
// so all of it is ours, from the request to a picture that can be fetched. One that is polled adds its first pause.

import { type HostedKind, startHosted } from '../test/doubles/hosted/hosted.ts';
import { client, expectStatus, ms, type Percentiles, percentiles, type Row, startGateway } from './rig.ts';

const JOBS = 60;

async function overhead(kind: HostedKind, remote: string): Promise<Percentiles> {
  const double = await startHosted(kind, { pace: { queuedPolls: 0, runningPolls: 0 } });
  const models = `models:
  bench:
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
  const settings = `default_model: bench\noutbound: {allow_private: ["127.0.0.0/8"]}\naccounts:\n  - {id: a, kind: ${kind}, token: "${double.key}", base_url: "${double.url}"}\n`;
  await using gateway = await startGateway({ nodes: [], models, settings });
  const c = client(gateway.url);
  const samples: number[] = [];
  for (let i = 0; i < JOBS; i++) {
    const start = performance.now();
    const answer = await c('POST', '/v1/generations', { prompt: `a lighthouse ${i}`, seed: i, wait: 30 });
    samples.push(performance.now() - start);
    if (!expectStatus(answer, 200).body.includes('"status":"succeeded"')) throw new Error(answer.body.slice(0, 300));
  }
  await double.close();
  return percentiles(samples.slice(10));
}

export async function b19(): Promise<Row[]> {
  const at = await overhead('openai', 'gpt-image-1.5');
  const polled = await overhead('bfl', 'flux-dev');
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
      what: 'one that is polled, its first pause included: p50',
      limit: '500 ms',
      ours: ms(polled.p50),
      ratio: '–',
      goal: '–',
      met: true,
    },
  ];
}

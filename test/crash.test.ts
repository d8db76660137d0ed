// kill -9 of a real gateway process, again and again, while ComfyUI doubles go on rendering. The nodes' logs are the
// evidence: nothing accepted is lost, nothing is rendered twice, nothing is charged twice.

import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import type { GenerationBody } from '../src/contract/generations.ts';
import { type ComfyUiDouble, startComfyUi } from './doubles/comfyui/server.ts';
import { type GatewayProcess, gatewayProcess } from './harness/gateway-process.ts';
import { until } from './harness/manual-clock.ts';

const KEY = 'dk_crash';
const JOBS = 24;
const KILLS = 4;
const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' };

let folder: string;
let nodes: ComfyUiDouble[];
let url: string;
let gateway: GatewayProcess;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'darkroom-crash-'));
  nodes = await Promise.all(
    [1, 2, 3].map(() =>
      startComfyUi({ renderMs: 250, image: 'small', installed: { checkpoints: ['sdxl.safetensors'] } }),
    ),
  );
  await writeFile(
    join(folder, 'models.yaml'),
    'models:\n  sdxl: {name: SDXL, kind: image, best_for: Tests., capabilities: [text-to-image, seed, guidance], price: 1, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 512, height: 512, steps: 4, guidance: 5}, estimate_seconds: 1, routes: [{backend: comfyui, workflow: txt2img, checkpoint: sdxl.safetensors}]}\n',
  );
  const list = nodes.map((n, i) => `  - {id: rack-${i}, kind: comfyui, url: "${n.url}"}`).join('\n');
  await writeFile(
    join(folder, 'darkroom.yaml'),
    `log_level: silent\nsketch: false\ndefault_model: sdxl\nnodes:\n${list}\n`,
  );
  gateway = await gatewayProcess(folder, KEY);
  ({ url } = gateway);
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  for (const node of nodes ?? []) await node.stop();
  await rm(folder, { recursive: true, force: true });
});

const submit = async (i: number): Promise<string> => {
  const body = JSON.stringify({ prompt: `job ${i}`, seed: i, idempotency_key: `job-${i}` });
  const response = await fetch(`${url}/v1/generations`, { method: 'POST', headers, body });
  return ((await response.json()) as GenerationBody).id;
};
const poll = async (id: string) =>
  (await (await fetch(`${url}/v1/generations/${id}`, { headers })).json()) as GenerationBody;

describe('kill -9', () => {
  it(`${KILLS} times with ${JOBS} in flight: nothing lost, rendered twice, charged twice or delivered twice`, async () => {
    await gateway.start();
    const ids = await Promise.all(Array.from({ length: JOBS }, (_, i) => submit(i)));
    const ends = () => nodes.flatMap((n) => n.log).filter((l) => l.what === 'render_end').length;
    for (let k = 1; k <= KILLS; k++) {
      await until(() => ends() >= k * 4, `${k * 4} renders`, 30_000);
      await gateway.kill();
      await gateway.start();
    }
    expect(await Promise.all(ids.map((_, i) => submit(i)))).toEqual(ids);
    const done: GenerationBody[] = [];
    for (const id of ids)
      done.push(
        await until(
          async () => [await poll(id)].find((g) => g.status !== 'queued' && g.status !== 'running'),
          `${id} to end`,
          60_000,
        ),
      );
    expect(done.map((g) => g.status)).toEqual(ids.map(() => 'succeeded'));
    const begun = nodes
      .flatMap((n) => n.log)
      .filter((l) => l.what === 'render_begin')
      .map((l) => /gen_[0-9A-Z]{26}/.exec(l.prefix ?? '')?.[0]);
    expect(begun.sort()).toEqual([...ids].sort());
    const credits = (await (await fetch(`${url}/v1/credits`, { headers })).json()) as {
      balance: number;
      reserved: number;
    };
    expect(credits).toMatchObject({ balance: 1000 - JOBS, reserved: 0 });
    const usage = (await (await fetch(`${url}/v1/usage`, { headers })).json()) as {
      total: { jobs: number; credits: number };
    };
    expect(usage.total).toMatchObject({ jobs: JOBS, credits: JOBS });
    expect((await fetch(done[0]?.url as string)).status).toBe(200);
  }, 120_000);

  it('a polite stop takes no new work, answers who asks, lets watchers go and hands over what runs', async () => {
    for (const node of nodes) node.faults.on('silent_load', { ms: 1500 });
    const id = await submit(1000);
    await until(async () => (await poll(id)).status !== 'queued', 'it to start');
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/events`, [`darkroom.key.${KEY}`]);
    const closed = once(socket, 'close');
    await once(socket, 'open');
    const exited = gateway.kill('SIGTERM');
    const refused = await until(async () => {
      const answer = await fetch(`${url}/v1/generations`, { method: 'POST', headers, body: '{"prompt": "late"}' });
      return answer.status === 503 ? answer : null;
    }, 'a refusal');
    expect(await refused.json()).toMatchObject({ error: { code: 'shutting_down', retryable: true } });
    expect((await poll(id)).status).toBe('running');
    expect(await exited).toBe(0);
    expect((await closed)[0]).toBe(1001);
    for (const node of nodes) node.faults.off();
    await gateway.start();
    const done = await until(async () => [await poll(id)].find((g) => g.status === 'succeeded'), 'it to end', 30_000);
    expect(done.attempts).toHaveLength(1);
  }, 60_000);
});

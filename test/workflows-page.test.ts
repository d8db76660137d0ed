// docs/workflows.md as its readers use it: the example's files are taken from the page, laid where it says, and asked for.

import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { loadConfig } from '../src/config.ts';
import type { GenerationBody } from '../src/contract/generations.ts';
import { type Darkroom, openDarkroom } from '../src/main.ts';
import { startComfyUi } from './doubles/comfyui/server.ts';
import { until } from './harness/manual-clock.ts';

const PAGE = resolve(import.meta.dirname, '../docs/workflows.md');
const KEY = 'dk_page';

/** The fenced blocks of the page: the graph, its slots, the catalog entry. */
async function example(): Promise<readonly [graph: string, slots: string, entry: string]> {
  const text = await readFile(PAGE, 'utf8');
  const blocks = [...text.matchAll(/^```(?:json|yaml)\n([\s\S]*?)^```/gm)].map((match) => match[1] ?? '');
  expect(blocks).toHaveLength(3);
  return blocks as unknown as readonly [string, string, string];
}

async function studio(): Promise<Darkroom> {
  const [graph, slots, entry] = await example();
  const folder = await mkdtemp(join(tmpdir(), 'darkroom-page-'));
  const comfy = await startComfyUi();
  await mkdir(join(folder, 'workflows'));
  await writeFile(join(folder, 'workflows', 'poster.json'), graph);
  await writeFile(join(folder, 'workflows', 'poster.slots.yaml'), slots);
  await writeFile(join(folder, 'models.yaml'), `models:\n${entry}`);
  const node = `{id: rack-1, kind: comfyui, url: "${comfy.url}", labels: [big]}`;
  await writeFile(join(folder, 'darkroom.yaml'), `log_level: silent\nsketch: false\nnodes: [${node}]\n`);
  const env = {
    DARKROOM_CONFIG: join(folder, 'darkroom.yaml'),
    DARKROOM_MODELS: join(folder, 'models.yaml'),
    DARKROOM_DATA: join(folder, 'data'),
    DARKROOM_PORT: '0',
    DARKROOM_ADMIN_KEY: KEY,
  };
  const darkroom = await openDarkroom(loadConfig(env, folder));
  onTestFinished(async () => {
    await darkroom.stop();
    await comfy.stop();
    await rm(folder, { recursive: true, force: true });
  });
  await until(() => darkroom.gateway.nodes().every((n) => n.status === 'online'), 'the node online');
  return darkroom;
}

test('the example of the page is a model that can be asked for', async () => {
  const { url } = await studio();
  const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' };
  const call = async (path: string, body?: object) => {
    const reply = await fetch(
      `${url}${path}`,
      body ? { method: 'POST', headers, body: JSON.stringify(body) } : { headers },
    );
    return { status: reply.status, body: (await reply.json()) as GenerationBody & { usable: boolean } };
  };
  expect((await call('/v1/models/poster')).body).toMatchObject({ id: 'poster', usable: true });

  const asked = { model: 'poster', prompt: 'a lighthouse at dawn', width: 512, height: 768 };
  const done = await call('/v1/generations', {
    ...asked,
    inputs: { enlarge: 2, method: 'bicubic' },
    loras: [{ name: 'add_detail.safetensors', strength: 0.8 }],
    wait: true,
  });
  expect(done.body).toMatchObject({
    status: 'succeeded',
    inputs: { enlarge: 2, method: 'bicubic' },
    credits_charged: 2,
  });
  expect(done.body.outputs).toMatchObject([{ media_type: 'image/png', width: 1024, height: 1536 }]);

  expect((await call('/v1/generations', { ...asked, wait: true })).body.inputs).toEqual({
    enlarge: 3,
    method: 'lanczos',
  });
  const refused = await call('/v1/generations', { ...asked, inputs: { enlarge: 5 } });
  expect(refused.status).toBe(422);
});

import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { loadConfig } from '../src/config.ts';
import type { GenerationBody } from '../src/contract/generations.ts';
import { type Darkroom, openDarkroom } from '../src/main.ts';
import { type ComfyUiDouble, startComfyUi } from './doubles/comfyui/server.ts';
import { type SdapiDouble, startSdapi } from './doubles/sdapi/server.ts';
import { until } from './harness/manual-clock.ts';
import { createTestDatabase, postgresMissing } from './harness/postgres.ts';
import { type Studio, studio } from './harness/studio.ts';

const KEY = 'dk_journey';
const MODELS = `models:
  sketch: {name: Sketch, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: 0, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 256, height: 256, steps: 4}, estimate_seconds: 1, routes: [{backend: sketch}]}
  sdxl: {name: SDXL, kind: image, best_for: Tests., capabilities: [text-to-image, seed, guidance, negative-prompt], price: 1.5, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 512, height: 512, steps: 4, guidance: 5}, estimate_seconds: 1, routes: [{backend: comfyui, workflow: txt2img, checkpoint: sdxl.safetensors}]}
  sd15: {name: SD 1.5, kind: image, best_for: Tests., capabilities: [text-to-image, seed, guidance], price: 0.25, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 512, height: 512, steps: 4, guidance: 5}, estimate_seconds: 1, routes: [{backend: sdapi, checkpoint: sd15}]}
`;

let house: Studio;
let comfy: ComfyUiDouble;
let a1111: SdapiDouble;
let darkroom: Darkroom;

beforeAll(async () => {
  comfy = await startComfyUi({ renderMs: 20, installed: { checkpoints: ['sdxl.safetensors'] } });
  a1111 = await startSdapi({ flavour: 'a1111', renderMs: 20, checkpoints: ['sd15.safetensors'] });
  house = await studio(
    KEY,
    MODELS,
    `nodes:\n  - {id: rack-1, kind: comfyui, url: "${comfy.url}"}\n  - {id: rack-2, kind: sdapi, url: "${a1111.url}"}\n`,
  );
  darkroom = await house.open();
  await until(() => darkroom.gateway.nodes().every((n) => n.status === 'online'), 'every node online');
});
afterAll(async () => {
  await darkroom?.stop();
  await comfy?.stop();
  await a1111?.stop();
  await house?.[Symbol.asyncDispose]();
});

const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' };
const post = (path: string, body: unknown) =>
  fetch(`${darkroom.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
const get = async (path: string) => (await fetch(`${darkroom.url}${path}`, { headers })).json();

/** A caller's polling loop as the contract describes it. */
async function pollUntilDone(id: string): Promise<{ url: string; seed: number }> {
  for (;;) {
    const g = (await get(`/v1/generations/${id}?wait=20`)) as GenerationBody;
    if (g.status === 'succeeded') return { url: g.output_url as string, seed: g.seed };
    if (g.status === 'failed' || g.status === 'timeout' || g.status === 'cancelled')
      throw Object.assign(new Error(g.reason), { code: g.error?.code });
  }
}

describe('one generation per kind of node', () => {
  for (const [model, cost] of [
    ['sketch', 0],
    ['sdxl', 1.5],
    ['sd15', 0.25],
  ] as const) {
    it(`${model}: asked, made, paid, fetched by a link without a key`, async () => {
      const before = ((await get('/v1/credits')) as { balance: number }).balance;
      const answer = await post('/v1/generations', { model, prompt: 'a lighthouse', seed: 11 });
      expect(answer.status).toBe(202);
      const asked = (await answer.json()) as GenerationBody;
      const { url, seed } = await pollUntilDone(asked.id);
      expect(seed).toBe(11);
      const picture = await fetch(url);
      const bytes = Buffer.from(await picture.arrayBuffer());
      const { width, height } = await sharp(bytes).metadata();
      const done = (await get(`/v1/generations/${asked.id}`)) as GenerationBody;
      expect([width, height]).toEqual([done.width, done.height]);
      expect(done.outputs[0]?.bytes).toBe(bytes.length);
      expect(done.credits_charged).toBe(cost);
      expect(((await get('/v1/credits')) as { balance: number }).balance).toBe(before - cost);
      expect((await fetch(done.outputs[0]?.thumbnail_url as string)).headers.get('content-type')).toBe('image/webp');
      expect(bytes.includes(asked.id)).toBe(true);
    });
  }

  it('converts on request and keeps the original', async () => {
    const g = (await (
      await post('/v1/generations', {
        model: 'sdxl',
        prompt: 'x',
        output: { format: 'webp', max_side: 256 },
        wait: true,
      })
    ).json()) as GenerationBody;
    expect(g.outputs[0]).toMatchObject({ media_type: 'image/webp', width: 256, height: 256 });
  });
  it('makes four of one request, each with its own seed', async () => {
    const g = (await (
      await post('/v1/generations', { model: 'sdxl', prompt: 'x', n: 4, seed: 100, wait: true })
    ).json()) as GenerationBody;
    expect(g.outputs.map((o) => o.seed)).toEqual([100, 101, 102, 103]);
    expect(g.credits_charged).toBe(6);
  });
  it('throws in a caller that reads error.code', async () => {
    const asked = (await (
      await post('/v1/generations', { model: 'sketch', prompt: '[[fail:safety_filter]]' })
    ).json()) as GenerationBody;
    await expect(pollUntilDone(asked.id)).rejects.toMatchObject({ code: 'safety_filter' });
  });
});

describe('when a node misbehaves', () => {
  it('a crash in the middle costs a retry, not the job', async () => {
    comfy.faults.next('crash');
    const g = (await (
      await post('/v1/generations', { model: 'sdxl', prompt: 'crash', wait: 60 })
    ).json()) as GenerationBody;
    const done = g.status === 'succeeded' ? g : ((await get(`/v1/generations/${g.id}?wait=60`)) as GenerationBody);
    expect(done.status).toBe('succeeded');
    expect(done.attempts.length).toBe(2);
    expect(done.credits_charged).toBe(1.5);
  });
});

describe('the event socket', () => {
  it('tells the whole story of a generation, once', async () => {
    const socket = new WebSocket(`${darkroom.url.replace('http', 'ws')}/v1/events`, [`darkroom.key.${KEY}`]);
    const frames: { type: string; event?: string; generation?: GenerationBody }[] = [];
    socket.on('message', (data) => frames.push(JSON.parse(String(data))));
    await until(() => frames.some((f) => f.type === 'ready'), 'ready');
    const asked = (await (
      await post('/v1/generations', { model: 'sdxl', prompt: 'watched' })
    ).json()) as GenerationBody;
    const story = () => frames.filter((f) => f.generation?.id === asked.id).map((f) => f.event);
    await until(() => story().includes('generation.succeeded'), 'the end of the story');
    expect(story()).toEqual(['generation.queued', 'generation.running', 'generation.succeeded']);
    socket.terminate();
  });
});

describe.skipIf(postgresMissing() !== null)('on PostgreSQL', () => {
  it('does the same over a database server, and finds it all again after a restart', async () => {
    const database = await createTestDatabase();
    const { folder } = house;
    const env = {
      DARKROOM_DATABASE_URL: database.url,
      DARKROOM_DATA: join(folder, 'pg'),
      DARKROOM_PORT: '0',
      DARKROOM_ADMIN_KEY: KEY,
    };
    const config = { ...loadConfig(env, folder), models: join(folder, 'models.yaml'), logLevel: 'silent' } as const;
    const ask = async (url: string, body: unknown) =>
      (await (
        await fetch(`${url}/v1/generations`, { method: 'POST', headers, body: JSON.stringify(body) })
      ).json()) as GenerationBody;
    let server = await openDarkroom(config);
    const first = await ask(server.url, { model: 'sketch', prompt: 'x', wait: true, idempotency_key: 'one' });
    expect(first.status).toBe('succeeded');
    await server.stop();
    server = await openDarkroom(config);
    const again = await ask(server.url, { model: 'sketch', prompt: 'x', idempotency_key: 'one' });
    expect([again.id, again.status]).toEqual([first.id, 'succeeded']);
    const picture = await fetch((again.url as string).replace(/^http:..[^/]+/, server.url));
    expect(picture.status).toBe(200);
    await server.stop();
    await database.drop();
  });
});

// How the ComfyUI double behaves where no recording reaches: identity, cancelling, files, restarts, profiles.

import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ManualClock, until } from '../../harness/manual-clock.ts';
import { type ComfyUiDouble, type ComfyUiOptions, startComfyUi } from './server.ts';

const started: ComfyUiDouble[] = [];
const start = async (options: ComfyUiOptions = {}) => {
  const box = await startComfyUi({ historyMs: 0, ...options });
  started.push(box);
  return box;
};
afterEach(async () => {
  for (const box of started.splice(0)) await box.stop();
});

const textToImage = (seed = 1, text = 'a cat', checkpoint = 'sd_xl_base_1.0.safetensors') => ({
  '4': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: checkpoint } },
  '5': { class_type: 'EmptyLatentImage', inputs: { width: 64, height: 96, batch_size: 1 } },
  '6': { class_type: 'CLIPTextEncode', inputs: { text, clip: ['4', 1] } },
  '7': { class_type: 'CLIPTextEncode', inputs: { text: '', clip: ['4', 1] } },
  '3': {
    class_type: 'KSampler',
    inputs: {
      seed,
      steps: 4,
      cfg: 7,
      sampler_name: 'euler',
      scheduler: 'normal',
      denoise: 1,
      model: ['4', 0],
      positive: ['6', 0],
      negative: ['7', 0],
      latent_image: ['5', 0],
    },
  },
  '8': { class_type: 'VAEDecode', inputs: { samples: ['3', 0], vae: ['4', 2] } },
  '9': { class_type: 'SaveImage', inputs: { images: ['8', 0], filename_prefix: `gw/${seed}` } },
});
const plain = (prefix = 'gw/x') => ({
  '1': { class_type: 'EmptyImage', inputs: { width: 64, height: 64, batch_size: 1, color: 255 } },
  '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: prefix } },
});

const post = (box: ComfyUiDouble, path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(`${box.url}${path}`, { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body), headers });
const get = async <T>(box: ComfyUiDouble, path: string) => (await fetch(`${box.url}${path}`)).json() as Promise<T>;

async function submit(box: ComfyUiDouble, prompt: unknown, more: Record<string, unknown> = {}): Promise<string> {
  const response = await post(box, '/api/prompt', { prompt, client_id: 'me', ...more });
  expect(response.status).toBe(200);
  return ((await response.json()) as { prompt_id: string }).prompt_id;
}

interface Entry {
  readonly outputs: Record<string, { images?: { filename: string; subfolder: string; type: string }[] }>;
  readonly status: { status_str: string; messages: [string, Record<string, unknown>][] };
}
const history = async (box: ComfyUiDouble, id: string) => (await get<Record<string, Entry>>(box, `/history/${id}`))[id];
const done = (box: ComfyUiDouble, id: string): Promise<Entry> => until(() => history(box, id), `prompt ${id} to end`);
const lastMessage = (entry: Entry) => entry.status.messages.at(-1)?.[0];

async function fileOf(box: ComfyUiDouble, entry: Entry, node = '9'): Promise<Response> {
  const [image] = entry.outputs[node]?.images ?? [];
  return fetch(`${box.url}/view?${new URLSearchParams({ ...image })}`);
}

async function listen(box: ComfyUiDouble, clientId = 'me') {
  const socket = new WebSocket(`${box.url.replace('http', 'ws')}/ws?clientId=${clientId}`);
  const heard: { type: string; data: Record<string, unknown> }[] = [];
  let closed = false;
  socket.on('message', (data, binary) => binary || heard.push(JSON.parse(String(data))));
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
  });
  await until(() => heard.length > 0 || closed, 'the first frame');
  return { socket, heard, types: () => heard.map(({ type }) => type), isClosed: () => closed };
}

describe('running prompts', () => {
  it('makes a picture that decodes at the asked size, with the graph in its text, and different for another seed', async () => {
    const box = await start();
    const [a, b] = [await submit(box, textToImage(1)), await submit(box, textToImage(2))];
    const files = await Promise.all(
      [a, b].map(async (id) => Buffer.from(await (await fileOf(box, await done(box, id))).arrayBuffer())),
    );
    const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = files;
    const { info, data } = await sharp(first).raw().toBuffer({ resolveWithObject: true });
    expect([info.width, info.height]).toEqual([64, 96]);
    expect(first.includes('tEXtprompt')).toBe(true);
    expect(data.equals(await sharp(second).raw().toBuffer())).toBe(false);
  });

  it('offers fixed pictures of 1.9 MB and of 10 KB', async () => {
    const sizes = [];
    for (const image of ['large', 'small'] as const) {
      const box = await start({ image });
      const response = await fileOf(box, await done(box, await submit(box, textToImage())));
      const bytes = Buffer.from(await response.arrayBuffer());
      expect((await sharp(bytes).stats()).channels).toHaveLength(3);
      sizes.push(bytes.length);
    }
    expect(sizes[0]).toBeGreaterThan(1_850_000);
    expect(sizes[0]).toBeLessThan(1_960_000);
    expect(sizes[1]).toBeGreaterThan(8_000);
    expect(sizes[1]).toBeLessThan(13_000);
  });

  it.each([
    ['SaveAnimatedWEBP', { fps: 6, lossless: false, quality: 80, method: 'default' }, 'images', 'webp'],
    ['SaveWEBM', { codec: 'vp9', fps: 24, crf: 32 }, 'images', 'webm'],
    [
      'VHS_VideoCombine',
      { frame_rate: 8, loop_count: 0, format: 'video/h264-mp4', pingpong: false, save_output: true },
      'gifs',
      'mp4',
    ],
  ])('%s leaves a moving picture', async (class_type, inputs, key, extension) => {
    const box = await start();
    const graph = {
      '1': { class_type: 'EmptyImage', inputs: { width: 64, height: 64, batch_size: 4, color: 1 } },
      '2': { class_type, inputs: { images: ['1', 0], filename_prefix: 'gw/clip', ...inputs } },
    };
    const { outputs } = await done(box, await submit(box, graph));
    const [file] = (outputs['2'] as Record<string, { filename: string }[]>)[key] ?? [];
    expect(file?.filename).toBe(`clip_00001_.${extension}`);
  });

  it('logs what it loaded and rendered, and keeps the checkpoint in memory between prompts', async () => {
    const box = await start();
    const a = await submit(box, textToImage(1));
    await done(box, a);
    await done(box, await submit(box, textToImage(2, 'a dog')));
    await done(box, await submit(box, textToImage(3, 'a dog', 'flux1-dev-fp8.safetensors')));
    expect(box.log.filter(({ what }) => what === 'load').map(({ checkpoint }) => checkpoint)).toEqual([
      'sd_xl_base_1.0.safetensors',
      'flux1-dev-fp8.safetensors',
    ]);
    expect(box.log.find(({ what }) => what === 'render_begin')).toMatchObject({ promptId: a, prefix: 'gw/1' });
    await until(() => box.log.at(-1)?.what === 'idle', 'the idle line');
  });

  it('answers a repeated graph with the old file, and 404 for it once that was deleted', async () => {
    const box = await start();
    const first = await done(box, await submit(box, plain()));
    const again = await done(box, await submit(box, plain()));
    expect(again.outputs).toEqual(first.outputs);
    box.files.remove({ filename: 'x_00001_.png', subfolder: 'gw', type: 'output' });
    expect((await fileOf(box, again, '2')).status).toBe(404);
    await done(
      box,
      await submit(box, {
        ...plain(),
        '1': { class_type: 'EmptyImage', inputs: { width: 32, height: 32, batch_size: 1, color: 7 } },
      }),
    );
    const stranger = await fileOf(box, again, '2');
    expect((await sharp(Buffer.from(await stranger.arrayBuffer())).metadata()).width).toBe(32);
  });

  it('says success before the history knows it', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, historyMs: 50 });
    const ear = await listen(box);
    const id = await submit(box, plain());
    await until(() => ear.types().includes('execution_success'), 'the success message');
    expect(await get(box, `/history/${id}`)).toEqual({});
    await clock.advance(50);
    expect(lastMessage(await done(box, id))).toBe('execution_success');
  });
});

describe('queue and cancelling', () => {
  it('runs in heap order and shows the raw heap', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 10 });
    const running = await submit(box, textToImage(1));
    await until(() => box.box.running?.id === running, 'the first to run');
    for (const number of [9, -10, 8]) await submit(box, textToImage(10 + number), { number, prompt_id: `n${number}` });
    const { queue_pending } = await get<{ queue_pending: [number, string][] }>(box, '/queue');
    expect(queue_pending.map(([number]) => number)).toEqual([-10, 9, 8]);
    await until(async () => {
      await clock.advance(10);
      return box.log.filter(({ what }) => what === 'render_end').length === 4;
    }, 'all to end');
    const order = box.log.filter(({ what }) => what === 'render_begin').map(({ promptId }) => promptId);
    expect(order.slice(1)).toEqual(['n-10', 'n8', 'n9']);
  });

  it('forgets a deleted prompt without a trace', async () => {
    const box = await start({ clock: new ManualClock(), renderMs: 10 });
    await submit(box, textToImage(1));
    const id = await submit(box, textToImage(2));
    await post(box, '/queue', { delete: [id, 'unknown'] });
    const { queue_pending } = await get<{ queue_pending: unknown[] }>(box, '/queue');
    expect(queue_pending).toEqual([]);
    expect(await get(box, `/history/${id}`)).toEqual({});
  });

  it('interrupts the running prompt only when it is the one named, and records it as an error', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 40 });
    const [a, b] = [await submit(box, textToImage(1)), await submit(box, textToImage(2))];
    await until(() => clock.pending > 0, 'the first step');
    await post(box, '/interrupt', { prompt_id: b });
    await clock.advance(10);
    expect(box.log.some(({ what }) => what === 'render_end')).toBe(false);
    await post(box, '/interrupt', { prompt_id: a });
    await clock.advance(10);
    const entry = await done(box, a);
    expect([entry.status.status_str, lastMessage(entry)]).toEqual(['error', 'execution_interrupted']);
  });

  it('loses an interrupt that comes before the start', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, gapMs: 5 });
    const id = await submit(box, textToImage(1));
    await until(() => clock.pending > 0, 'the gap');
    await post(box, '/interrupt', { prompt_id: id });
    await clock.advance(5);
    expect(lastMessage(await done(box, id))).toBe('execution_success');
  });

  it('on the old profile ignores the named id, for prompts and for interrupts', async () => {
    const clock = new ManualClock();
    const box = await start({ profile: 'old', clock, renderMs: 40 });
    const ear = await listen(box);
    const id = await submit(box, textToImage(1), { prompt_id: 'mine' });
    expect(id).not.toBe('mine');
    await until(() => clock.pending > 0, 'the first step');
    await clock.advance(10);
    await post(box, '/interrupt', { prompt_id: 'somebody else' });
    await clock.advance(10);
    expect(lastMessage(await done(box, id))).toBe('execution_interrupted');
    expect(ear.types()).toContain('progress');
    expect(ear.types()).not.toContain('progress_state');
    expect((await fetch(`${box.url}/features`)).status).toBe(404);
  });

  it('on profile B knows jobs, cancels them atomically, and takes UUIDs only', async () => {
    const clock = new ManualClock();
    const box = await start({ profile: 'B', clock, renderMs: 40 });
    const [a, b] = [crypto.randomUUID(), crypto.randomUUID()];
    expect((await post(box, '/prompt', { prompt: plain(), prompt_id: 'x' })).status).toBe(400);
    await submit(box, textToImage(1), { prompt_id: a });
    await submit(box, textToImage(2), { prompt_id: b });
    await until(() => clock.pending > 0, 'the first step');
    const cancel = async (id: string) => (await post(box, `/api/jobs/${id}/cancel`, '')).json();
    expect([await cancel(b), await cancel(a), await cancel(b)]).toEqual([
      { cancelled: true },
      { cancelled: true },
      { cancelled: false },
    ]);
    await clock.advance(10);
    await done(box, a);
    expect(await get(box, `/api/jobs/${a}`)).toMatchObject({ id: a, status: 'cancelled' });
    expect((await fetch(`${box.url}/api/jobs/${b}`)).status).toBe(404);
    expect((await fetch(`${box.url}/jobs/${a}`)).status).toBe(404);
    const missing = await post(box, '/prompt', { prompt: { '1': { class_type: 'Nope', inputs: {} } } });
    expect(await missing.json()).toMatchObject({
      error: { type: 'missing_node_type', extra_info: { class_type: 'Nope' } },
    });
  });
});

describe('the transport', () => {
  it('answers bad JSON with a plain 500, a large body with 413, an unknown path with an empty 404', async () => {
    const box = await start({ maxBodyBytes: 1000 });
    expect([(await post(box, '/prompt', '{')).status, (await post(box, '/prompt', 'x'.repeat(2000))).status]).toEqual([
      500, 413,
    ]);
    const unknown = await fetch(`${box.url}/api/jobs`);
    expect([unknown.status, unknown.headers.get('content-type'), await unknown.text()]).toEqual([
      404,
      'application/octet-stream',
      '',
    ]);
  });

  it.each([
    [undefined, 200],
    ['SELF', 200],
    ['http://127.0.0.1', 200],
    ['http://localhost:8199', 403],
    ['http://127.0.0.1:3000', 403],
    ['http://evil.example', 403],
    ['null', 200],
  ])('checks the origin %s against its host', async (origin, status) => {
    const box = await start();
    const headers = origin === undefined ? {} : { origin: origin === 'SELF' ? box.url : origin };
    expect((await fetch(`${box.url}/prompt`, { headers })).status).toBe(status);
  });

  it('makes a second socket of the same client deaf once the first closes', async () => {
    const box = await start();
    const first = await listen(box);
    const second = await listen(box);
    first.socket.close();
    await until(() => box.sockets === 1, 'the first to be gone');
    await done(box, await submit(box, plain()));
    expect(second.types()).toEqual(['status']);
  });

  it('tells a reconnecting client which node runs, and nothing else', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 40 });
    await submit(box, textToImage(1));
    await until(() => clock.pending > 0, 'the first step');
    const late = await listen(box);
    await until(() => late.heard.length === 2, 'two frames');
    expect(late.heard[1]).toEqual({ type: 'executing', data: { node: '3' } });
  });

  it('gives uploads another name when name and bytes differ, and lets a graph use them', async () => {
    const box = await start();
    const upload = async (colour: string) => {
      const form = new FormData();
      const png = await sharp({ create: { width: 40, height: 20, channels: 3, background: colour } })
        .png()
        .toBuffer();
      form.set('image', new Blob([new Uint8Array(png)]), 'u.png');
      const response = await fetch(`${box.url}/upload/image`, { method: 'POST', body: form });
      return (await response.json()) as { name: string };
    };
    const names = [await upload('red'), await upload('red'), await upload('blue')].map(({ name }) => name);
    expect(names).toEqual(['u.png', 'u.png', 'u (1).png']);
    const graph = (image: string) => ({
      '1': { class_type: 'LoadImage', inputs: { image } },
      '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'gw/up' } },
    });
    const response = await fileOf(box, await done(box, await submit(box, graph('u (1).png'))), '2');
    expect((await sharp(Buffer.from(await response.arrayBuffer())).metadata()).width).toBe(40);
    const refused = await post(box, '/prompt', { prompt: graph('missing.png') });
    expect(await refused.json()).toMatchObject({
      node_errors: { '1': { errors: [{ type: 'custom_validation_failed' }] } },
    });
  });

  it('serves files by range, refuses odd names, and encodes previews', async () => {
    const box = await start();
    await done(box, await submit(box, plain()));
    const view = (query: string, headers = {}) => fetch(`${box.url}/view?${query}`, { headers });
    const file = 'filename=x_00001_.png&subfolder=gw';
    const part = await view(file, { range: 'bytes=1-3' });
    expect([part.status, await part.text()]).toEqual([206, 'PNG']);
    expect((await view(`${file}&preview=webp;80`)).headers.get('content-type')).toBe('image/webp');
    const refusals = [
      '',
      'filename=',
      'filename=../x.png',
      'filename=/x.png',
      'filename=a.png&type=disk',
      'filename=a.png&subfolder=../..',
      'filename=a.png',
    ];
    expect(await Promise.all(refusals.map(async (query) => (await view(query)).status))).toEqual([
      404, 400, 400, 400, 400, 403, 404,
    ]);
  });

  it('restarts empty on the same port: no queue, no history, no previews, numbers from 0, outputs still there', async () => {
    const box = await start();
    const entry = await done(box, await submit(box, plain()));
    await box.restartEmpty();
    const first = await until(() => get(box, '/history').catch(() => null), 'the box to be back');
    expect(first).toEqual({});
    expect((await fileOf(box, entry, '2')).status).toBe(200);
    const response = await post(box, '/prompt', { prompt: plain() });
    expect(await response.json()).toMatchObject({ number: 0 });
  });
});

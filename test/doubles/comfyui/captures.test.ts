// The double against the recordings: the same fourteen exchanges, in the order they were recorded, on one server. Equal
// means the same frames in the same order with the same keys and values; ids, times, tensors and tracebacks are set aside.

import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import features from '../../captures/comfyui/features.json' with { type: 'json' };
import objectInfo from '../../captures/comfyui/object_info-subset.json' with { type: 'json' };
import stats from '../../captures/comfyui/system_stats.json' with { type: 'json' };
import { ManualClock, until } from '../../harness/manual-clock.ts';
import { type ComfyUiDouble, startComfyUi } from './server.ts';

const FOLDER = new URL('../../captures/comfyui/', import.meta.url);

interface Line {
  readonly dir?: 's2c' | 'c2s';
  readonly json?: { readonly type: string; readonly data: Record<string, unknown> };
  readonly http?: string;
  readonly status?: number;
  readonly request_keys?: readonly string[];
  readonly response?: Record<string, unknown>;
  readonly binary_len?: number;
  readonly event?: number;
  readonly head_hex?: string;
  readonly metadata?: Record<string, unknown>;
}

const read = (name: string): Line[] =>
  readFileSync(new URL(name, FOLDER), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Line);

const names = readdirSync(FOLDER).filter((name) => name.endsWith('.jsonl'));

/** The interrupted run had so many steps; here they take a millisecond each, on a clock moved by hand. */
const LONG = 200;

/** The graphs that were refused left no history; this is what the request was. */
const REFUSED: Readonly<Record<string, unknown>> = {
  '10-missing-checkpoint-400.jsonl': {
    '4': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'nope.safetensors' } },
    '5': { class_type: 'EmptyLatentImage', inputs: { width: 64, height: 64, batch_size: 1 } },
    '6': { class_type: 'CLIPTextEncode', inputs: { text: 'a cat', clip: ['4', 1] } },
    '7': { class_type: 'CLIPTextEncode', inputs: { text: 'bad', clip: ['4', 1] } },
    '3': {
      class_type: 'KSampler',
      inputs: {
        seed: 75,
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
    '9': { class_type: 'SaveImage', inputs: { images: ['8', 0], filename_prefix: 'cap/k' } },
  },
  '11-missing-node-400.jsonl': { '1': { class_type: 'NoSuchNode', inputs: {} } },
};

function graphOf(name: string, lines: readonly Line[]): unknown {
  const [entry] = Object.values(lines.find((line) => line.http === 'GET /history/{id}')?.response ?? {});
  return (entry as { prompt: unknown[] } | undefined)?.prompt[2] ?? REFUSED[name];
}

/** Everything that may differ between two honest runs becomes the same word. */
function plain(value: unknown, key = ''): unknown {
  if (key === 'timestamp') return '<time>';
  if (['prompt_id', 'sid', 'client_id'].includes(key)) return value === undefined ? undefined : '<id>';
  if (key === 'traceback') return (value as unknown[]).length === 0 ? [] : ['<lines>'];
  if (key === 'current_outputs' || key === 'outputs_to_execute') return [...(value as string[])].sort();
  if (typeof value === 'string') {
    if (value.startsWith('tensor(')) return '<tensor>';
    return value.replace(/ComfyUI_temp_[a-z]{5}_/, 'ComfyUI_temp_<five>_').replace(/^[0-9a-f-]{36}$/, '<id>');
  }
  if (Array.isArray(value)) {
    const items = value.map((item) => plain(item));
    return key === 'prompt' && Array.isArray(items[4]) ? [...items.slice(0, 4), [...items[4]].sort()] : items;
  }
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [plain(k), plain(v, k)]));
}

interface Frame {
  readonly json?: unknown;
  readonly event?: number;
  readonly head?: string;
  readonly metadata?: unknown;
}

/** The event, then: the picture's format and magic (1), the whole frame (3), the metadata (4). */
function binaryFrame(bytes: Buffer): Frame {
  const event = bytes.readUInt32BE(0);
  if (event === 1) return { event, head: bytes.subarray(0, 20).toString('hex') };
  if (event === 3) return { event, head: bytes.toString('hex') };
  const length = bytes.readUInt32BE(4);
  const metadata = JSON.parse(bytes.subarray(8, 8 + length).toString()) as unknown;
  return { event, metadata: plain(metadata), head: bytes.subarray(8 + length, 16 + length).toString('hex') };
}

function recordedFrame(line: Line & { readonly image_head_hex?: string }): Frame {
  if (line.json) return { json: plain(line.json) };
  const event = line.event ?? 0;
  if (event === 1) return { event, head: line.head_hex?.slice(0, 40) ?? '' };
  if (event === 3) return { event, head: line.head_hex ?? '' };
  return { event, metadata: plain(line.metadata), head: line.image_head_hex ?? '' };
}

describe('the ComfyUI double, replayed against recordings of the real server', () => {
  const clock = new ManualClock();
  let box: ComfyUiDouble;
  beforeAll(async () => {
    box = await startComfyUi({
      installed: { checkpoints: ['corrupt.safetensors', 'tiny-rand.safetensors', 'tiny-zero.safetensors'] },
      corrupt: ['corrupt.safetensors'],
      previews: true,
      historyMs: 0,
      gpu: null,
      clock,
      renderMs: ({ graph }) => (graph['3']?.inputs.steps === LONG ? LONG : 0),
    });
  });
  afterAll(() => box.stop());

  it.each(names)('%s', async (name) => {
    const lines = read(name);
    const frames: Frame[] = [];
    const clientId = crypto.randomUUID();
    const socket = new WebSocket(`${box.url.replace('http', 'ws')}/ws?clientId=${clientId}`);
    socket.on('message', (data: Buffer, binary) =>
      frames.push(binary ? binaryFrame(data) : { json: plain(JSON.parse(data.toString())) }),
    );
    for (const line of lines) {
      if (line.dir === 'c2s') await once(socket, () => socket.send(JSON.stringify(line.json)));
    }
    const heard = (end: number) => lines.slice(0, end).filter((line) => line.dir === 's2c').length;
    const posted = heard(lines.findIndex((line) => line.http));
    await until(() => frames.length >= posted, 'the first frames');

    const post = lines.find((line) => line.http === 'POST /prompt');
    const asked = { prompt: graphOf(name, lines), client_id: clientId };
    const body = Object.fromEntries(Object.entries(asked).filter(([key]) => post?.request_keys?.includes(key)));
    const response = await fetch(`${box.url}/prompt`, { method: 'POST', body: JSON.stringify(body) });
    const answer = (await response.json()) as { prompt_id?: string };
    expect(response.status).toBe(post?.status);
    expect(plain(answer)).toEqual(plain(post?.response));

    const expected = lines.filter((line) => line.dir === 's2c').map(recordedFrame);
    const interrupt = lines.findIndex((line) => line.http === 'POST /interrupt');
    if (interrupt >= 0) {
      const steps = lines.filter((line) => line.json?.type === 'progress').length;
      await until(() => clock.pending > 0, 'the first step');
      await clock.advance(steps);
      await until(() => frames.length >= heard(interrupt), 'the frames before the interrupt');
      box.interrupt();
      await clock.advance(1);
    }
    await until(() => frames.length >= expected.length, `${expected.length} frames`);
    expect(frames).toEqual(expected);

    const history = lines.find((line) => line.http === 'GET /history/{id}');
    if (history) {
      const kept = await fetch(`${box.url}/history/${answer.prompt_id}`);
      expect(plain(await kept.json())).toEqual(plain(history.response));
    }
    await once(socket, () => socket.close(), 'close');
  });

  it('describes the recorded machine, its features and its nodes in the recorded words', async () => {
    const get = async (path: string) => (await fetch(`${box.url}${path}`)).json() as Promise<Record<string, unknown>>;
    expect(await get('/system_stats')).toEqual(stats);
    expect(await get('/features')).toEqual(features);
    const { LoadImage, ...told } = await get('/object_info');
    const { LoadImage: recorded, ...others } = objectInfo;
    expect(told).toMatchObject(others);
    expect(Object.keys(LoadImage as object)).toEqual(Object.keys(recorded));
  });
});

/** Runs `act` once the socket is open; with an event, waits for that afterwards. */
async function once(socket: WebSocket, act: () => void, event?: 'close'): Promise<void> {
  if (socket.readyState === WebSocket.CONNECTING) await new Promise((resolve) => socket.once('open', resolve));
  const done = event ? new Promise((resolve) => socket.once(event, resolve)) : null;
  act();
  await done;
}

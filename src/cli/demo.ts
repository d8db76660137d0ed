// `darkroom demo`: the whole road on a gateway of its own, through the same doors as everybody: submit over REST, watch
// over WebSocket, download by signed link. Needs no GPU and leaves the pictures in a folder.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import type { GenerationBody } from '../contract/generations.ts';
import { type Board, createBoard } from './board.ts';

const SHOTS = [
  { prompt: 'a lighthouse at dawn [[slow:3]]', size: '1024x1024' },
  { prompt: 'hero shot of a glass bottle on wet slate [[slow:4]]', size: '1280x720' },
  { prompt: 'poster of a night train [[slow:2]]', size: '768x1152', output: { format: 'webp' } },
  { prompt: 'a node that dies once [[slow:1]] [[fail:node_lost once]]', size: '1024x1024' },
  { prompt: 'four moods of the sea [[slow:2]]', size: '512x512', n: 4 },
  { prompt: 'a request the filter stops [[slow:1]] [[fail:safety_filter]]', size: '512x512' },
] as const;

const KEY = 'dk_demo-key-of-a-gateway-that-lives-for-a-minute';

export const demoCommand = new Command('demo')
  .description('send six requests to a gateway of its own, without a GPU, and watch them')
  .option('--out <folder>', 'where the pictures go', 'pictures')
  .action(async ({ out }: { out: string }) => {
    const [{ openDarkroom }, { settingsFrom }] = await Promise.all([import('../main.ts'), import('./settings.ts')]);
    const data = await mkdtemp(join(tmpdir(), 'darkroom-demo-'));
    const config = {
      ...settingsFrom({ data }),
      adminKey: KEY,
      port: 0,
      host: '127.0.0.1',
      nodes: [],
      sketch: true,
      databaseUrl: null,
      logLevel: 'silent',
    } as const;
    const darkroom = await openDarkroom(config);
    const board = createBoard();
    const leave = async () => {
      board.stop();
      await darkroom.stop();
      await rm(data, { recursive: true, force: true });
    };
    process.once('SIGINT', () => void leave().then(() => process.exit(130)));
    process.stdout.write(`A gateway of its own listens at ${darkroom.url}; its "sketch" node draws, no AI.\n\n`);
    const saved = await shoot(darkroom.url, resolve(out), board);
    await leave();
    process.stdout.write(`\n${saved} pictures are in ${resolve(out)}\nNext: npm start, and the curl line it prints.\n`);
  });

async function shoot(url: string, folder: string, board: Board): Promise<number> {
  await mkdir(folder, { recursive: true });
  const jobs = await Promise.all(
    SHOTS.map((shot) => call(`${url}/v1/generations`, { model: 'sketch', seed: 7, ...shot })),
  );
  for (const job of jobs) board.add(job.id, job.prompt.replaceAll(/ ?\[\[.*?\]\]/g, ''));
  const open = new Set(jobs.map((j) => j.id));
  let saved = 0;
  for await (const frame of watch(url, [...open])) {
    if (frame.type === 'progress') board.progress(frame.id, frame.progress);
    if (frame.type !== 'event') continue;
    const g = frame.generation;
    board.state(g);
    if (g.status === 'queued' || g.status === 'running') continue;
    saved += await save(await call(`${url}/v1/generations/${g.id}`), folder);
    open.delete(g.id);
    if (open.size === 0) break;
  }
  return saved;
}

async function save(g: GenerationBody, folder: string): Promise<number> {
  const named = g.outputs.filter((o) => o.url !== null);
  for (const output of named) {
    const bytes = await (await fetch(output.url as string)).bytes();
    const name = `${g.prompt
      .replaceAll(/\[\[.*?\]\]/g, '')
      .trim()
      .replaceAll(/\W+/g, '-')
      .slice(0, 40)}-${output.index + 1}`;
    await writeFile(join(folder, `${name}.${output.media_type.split('/')[1]}`), bytes);
  }
  return named.length;
}

async function call(url: string, body?: unknown): Promise<GenerationBody> {
  const headers = { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' };
  const response = await fetch(
    url,
    body === undefined ? { headers } : { method: 'POST', headers, body: JSON.stringify(body) },
  );
  const answer = (await response.json()) as GenerationBody & { error?: { message: string } };
  if (!response.ok) throw new Error(answer.error?.message ?? `the gateway answered ${response.status}`);
  return answer;
}

type Frame =
  | { readonly type: 'event'; readonly event: string; readonly generation: GenerationBody }
  | {
      readonly type: 'progress';
      readonly id: string;
      readonly progress: { readonly fraction: number; readonly message: string };
    }
  | { readonly type: 'ready' };

/** Frames of the event socket, from the beginning of the log. */
async function* watch(url: string, ids: readonly string[]): AsyncGenerator<Frame> {
  const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/events?ids=${ids.join(',')}`, [`darkroom.key.${KEY}`]);
  const frames: Frame[] = [];
  let wake = () => {};
  socket.onmessage = ({ data }) => {
    frames.push(JSON.parse(String(data)) as Frame);
    wake();
  };
  socket.onclose = () => wake();
  try {
    for (;;) {
      yield* frames.splice(0);
      if (socket.readyState === WebSocket.CLOSED) return;
      await new Promise<void>((go) => {
        wake = go;
        if (frames.length > 0) go();
      });
    }
  } finally {
    socket.close();
  }
}

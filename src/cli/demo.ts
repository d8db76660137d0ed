// `darkroom demo`: the whole road on a gateway of its own, through the same doors as everybody: submit over REST, watch
// over WebSocket, download by signed link. Needs no GPU and leaves the pictures in a folder.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import type { Client } from '../client/client.ts';
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
    const [{ openDarkroom }, { settingsFrom }, { createClient }, { near, readyFolder }] = await Promise.all([
      import('../main.ts'),
      import('./settings.ts'),
      import('../client/client.ts'),
      import('./pictures.ts'),
    ]);
    const folder = await readyFolder(out);
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
    const saved = await shoot(createClient({ url: darkroom.url, key: KEY }), folder, board);
    await leave();
    process.stdout.write(`\n${saved} pictures are in ${near(folder)}\nNext: npm start, and the curl line it prints.\n`);
  });

/** How many pictures came of it. */
async function shoot(client: Client, folder: string, board: Board): Promise<number> {
  const [{ followOn }, { save }] = await Promise.all([import('./follow.ts'), import('./pictures.ts')]);
  const { signal } = new AbortController();
  const jobs = await Promise.all(SHOTS.map((shot) => client.submit({ model: 'sketch', seed: 7, ...shot })));
  const saved = await Promise.all(
    jobs.map(async (job) => save(client, await followOn(board, client, job, signal), folder)),
  );
  return saved.flat().length;
}

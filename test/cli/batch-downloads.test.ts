// Pictures from a gateway that lies about them: what it says never leads out of the folder, nor fills the disk.

import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createDownloads } from '../../src/cli/batch-downloads.ts';
import { openState } from '../../src/cli/batch-state.ts';
import { save } from '../../src/cli/pictures.ts';
import type { Client } from '../../src/client/client.ts';
import type { GenerationBody } from '../../src/contract/generations.ts';

const BYTES = new Uint8Array(1000).fill(7);
const CHUNKS = 50;

let home: string;
let folder: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'darkroom-downloads-'));
  folder = join(home, 'pictures');
  await mkdir(folder);
});
afterEach(() => rm(home, { recursive: true, force: true }));

const made = (lies: object, more: object = {}): GenerationBody =>
  ({
    id: 'gen_01',
    model: 'sketch',
    prompt: 'a',
    outputs: [
      {
        index: 0,
        url: 'http://127.0.0.1/f',
        media_type: 'image/png',
        bytes: BYTES.length,
        sha256: createHash('sha256').update(BYTES).digest('hex'),
        seed: 1,
        ...lies,
      },
    ],
    ...more,
  }) as unknown as GenerationBody;

/** Sends the file so many times over; tells how many were taken. */
function sender(times: number) {
  let sent = 0;
  const pull = (to: ReadableStreamDefaultController) => (sent++ < times ? to.enqueue(BYTES) : to.close());
  const download = async () => new Response(new ReadableStream({ pull }, { highWaterMark: 0 }));
  return { client: { download } as unknown as Client, sent: () => sent };
}

async function fetchAll(client: Client, generation: GenerationBody) {
  const state = await openState(join(home, 'state.json'));
  const downloads = createDownloads(client, folder, state, new AbortController().signal);
  downloads.add(generation, '1-A');
  await downloads.settled();
  await state.close();
  return downloads.counts();
}

it('a number that is a path leaves the folder as little as any other', async () => {
  const { saved, failed } = await fetchAll(sender(1).client, made({ index: 'x/../../stolen' }));
  expect([saved, failed.length]).toEqual([0, 1]);
  expect(await readdir(folder)).toEqual([]);
  expect(await readdir(home)).toEqual(['pictures']);
});
it('a file that goes on after its announced end is let go there', async () => {
  const { client, sent } = sender(CHUNKS);
  const { failed } = await fetchAll(client, made({}));
  expect(failed).toEqual(['1-A-0.png: The file is larger than the gateway said.']);
  expect(sent()).toBeLessThan(CHUNKS);
  expect(await readdir(folder)).toEqual([]);
});
it('the same holds for a single generation', async () => {
  const { client, sent } = sender(CHUNKS);
  await expect(save(client, made({}), folder)).rejects.toThrow('larger than the gateway said');
  expect(sent()).toBeLessThan(CHUNKS);
  await save(sender(1).client, made({ seed: '/../../stolen' }), folder);
  expect(existsSync(join(home, 'stolen.png'))).toBe(false);
  expect(await readdir(folder)).toEqual(['a--..-..-stolen.png']);
});

import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { from, openRoom, plain, read, refusal } from './fixtures/room.ts';
import * as samples from './fixtures/samples.ts';

const PROGRAM = fileURLToPath(new URL('./fixtures/ingest-once.ts', import.meta.url));
const SIZE = { width: 240, height: 160 };

async function freshDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'darkroom-full-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

/** What becomes of a picture in a process whose files may not grow beyond `limit` bytes: the write that crosses it is cut short. */
async function ingestWithin(limit: number, png: Buffer): Promise<Record<string, unknown>> {
  const box = await freshDirectory();
  const path = join(box, 'download');
  await writeFile(path, png);
  const limited = ['-c', `ulimit -f ${limit / 512}; exec "$0" "$@"`, process.execPath, PROGRAM, path, box];
  return JSON.parse((await promisify(execFile)('sh', limited)).stdout);
}

test('a write that is cut short is our fault and never passes for the whole file', async () => {
  const png = await samples.comfyPng(SIZE);
  expect(png.length).toBeGreaterThan(65_536);
  expect(await ingestWithin(65_536, png)).toMatchObject({
    ok: false,
    fault: 'gateway',
    message: expect.stringContaining('EFBIG'),
  });
  expect(await ingestWithin(1_048_576, png)).toMatchObject({ ok: true });
});

test('a full disk leaves nothing behind, and once there is room the same file is stored whole', async (context) => {
  const above = await freshDirectory();
  const png = await samples.comfyPng(SIZE);
  const options = ['-t', 'tmpfs', '-o', `size=${Math.ceil(png.length / 4096) * 4 + 32}k`, 'tmpfs', above];
  if (spawnSync('mount', options).status !== 0) return context.skip('only root may mount a small disk');
  onTestFinished(() => void spawnSync('umount', [above]));
  const { media, files } = await openRoom(above);
  const converted = { ...plain, output: { maxSide: 230 } };
  expect(await refusal(media.ingest(from(png), converted))).toMatchObject({ code: 'internal' });
  expect([...(await files('staging')), ...(await files('blobs'))]).toEqual([]);
  spawnSync('mount', ['-o', 'remount,size=4m', above]);
  const stored = await media.ingest(from(png), converted);
  expect(stored.bytes).toBeGreaterThan(32 * 1024);
  expect(await read(media.blobs.open(stored.blob))).toHaveLength(stored.bytes);
});

import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { type BlobStore, openBlobs } from '../../src/media/blobs.ts';
import { ManualClock } from '../harness/manual-clock.ts';
import { read, refusal } from './fixtures/room.ts';

async function openStore() {
  const directory = await mkdtemp(join(tmpdir(), 'darkroom-blobs-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const put = async (blobs: BlobStore, text: string, ext = 'png') => {
    const key = `${createHash('sha256').update(text).digest('hex')}.${ext}`;
    const from = join(directory, `staged-${Math.random()}`);
    await writeFile(from, text);
    await blobs.put([{ key, from }]);
    return key;
  };
  const clock = new ManualClock();
  return { directory: join(directory, 'blobs'), blobs: await openBlobs(join(directory, 'blobs'), clock), clock, put };
}

test('a blob lies in a fan of directories and is read whole or in part', async () => {
  const { blobs, directory, put } = await openStore();
  const key = await put(blobs, 'hello world');
  expect(await blobs.path(key)).toBe(join(directory, key.slice(0, 2), key.slice(2, 4), key));
  expect((await read(blobs.open(key))).toString()).toBe('hello world');
  expect((await read(blobs.open(key, { start: 2, end: 4 }))).toString()).toBe('llo');
  expect(await blobs.stat(key)).toEqual({ bytes: 11, mediaType: 'image/png', etag: key.slice(0, 64) });
});

test('what is not there is not found, and a key is never a path', async () => {
  const { blobs } = await openStore();
  for (const key of [`${'0'.repeat(64)}.png`, '../../../etc/passwd', '', `${'0'.repeat(64)}.png/../x`]) {
    expect(await blobs.stat(key)).toBeNull();
    expect(await refusal(blobs.open(key))).toMatchObject({ code: 'not_found' });
    expect(await refusal(blobs.path(key))).toMatchObject({ code: 'not_found' });
    await blobs.remove(key);
  }
});

test('removing a blob takes its sidecar and thumbnail along, and the count follows', async () => {
  const { blobs, put } = await openStore();
  const key = await put(blobs, 'picture');
  const sidecar = key.replace('.png', '.json');
  const thumbnail = `${key}.thumb.webp`;
  for (const beside of [sidecar, thumbnail]) {
    const from = `${await blobs.path(key)}.staged`;
    await writeFile(from, 'beside');
    await blobs.put([{ key: beside, from }]);
  }
  const other = await put(blobs, 'other');
  const paths = [key, sidecar, thumbnail].map((k) => join(join(key.slice(0, 2), key.slice(2, 4)), k));
  expect(await blobs.usedBytes()).toBe(7 + 6 + 6 + 5);
  const root = (await blobs.path(key)).slice(0, -(paths[0]?.length ?? 0));
  await blobs.remove(key);
  for (const path of paths) await expect(stat(join(root, path))).rejects.toThrow('ENOENT');
  expect(await blobs.usedBytes()).toBe(5);
  await blobs.remove(key);
  expect(await blobs.usedBytes()).toBe(5);
  expect(await blobs.stat(other)).not.toBeNull();
});

test('what was stored again a moment ago is spared, for its new owner may not be on record yet', async () => {
  const { blobs, clock, put } = await openStore();
  const key = await put(blobs, 'picture');
  await put(blobs, 'picture');
  expect(await blobs.remove(key)).toBe(false);
  await clock.advance(9 * 60_000);
  await put(blobs, 'picture');
  await clock.advance(9 * 60_000);
  expect(await blobs.remove(key)).toBe(false);
  expect(await blobs.stat(key)).not.toBeNull();
  await clock.advance(60_001);
  expect(await blobs.remove(key)).toBe(true);
  expect(await blobs.stat(key)).toBeNull();
  await put(blobs, 'picture');
  expect(await blobs.remove(key)).toBe(true);
  expect(await blobs.usedBytes()).toBe(0);
});

test('whoever stores a file while it is removed has it afterwards', async () => {
  const { blobs, put } = await openStore();
  const texts = Array.from({ length: 50 }, (_, i) => `picture ${i}`);
  const keys = await Promise.all(texts.map((text) => put(blobs, text)));
  await Promise.all(texts.flatMap((text, i) => [put(blobs, text), blobs.remove(keys[i] ?? ''), put(blobs, text)]));
  for (const key of keys) expect(await blobs.stat(key)).not.toBeNull();
  expect(await blobs.usedBytes()).toBe(texts.join('').length);
});

test('the count survives a restart and counts nothing twice that arrives while it scans', async () => {
  const { directory, clock } = await openStore();
  const home = (i: number) => join('00', i.toString(16).padStart(2, '0'));
  const keyAt = (i: number, rest: string) => `${home(i).replace('/', '')}${rest.repeat(60)}.png`;
  const all = Array.from({ length: 256 }, (_, i) => i);
  for (const i of all) {
    await mkdir(join(directory, home(i)), { recursive: true });
    await writeFile(join(directory, home(i), keyAt(i, 'a')), 'here');
    await writeFile(join(directory, '..', keyAt(i, 'b')), 'new');
  }
  const again = await openBlobs(directory, clock);
  const staged = all.map((i) => ({ key: keyAt(i, 'b'), from: join(directory, '..', keyAt(i, 'b')) }));
  await Promise.all(staged.map((file) => again.put([file])));
  expect(await again.usedBytes()).toBe(256 * ('here'.length + 'new'.length));
});

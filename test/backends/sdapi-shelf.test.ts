import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createShelf, type Shelf } from '../../src/backends/sdapi/shelf.ts';
import { toFailure } from '../../src/domain/failure.ts';
import { type TestSystem, testSystem } from '../harness/system.ts';

const forever = new AbortController().signal;
let scratch: string;
let system: TestSystem;
let shelf: Shelf;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'shelf-'));
  system = testSystem();
  shelf = createShelf(scratch, system);
});
afterEach(async () => {
  await shelf.clear();
  expect(await readdir(scratch)).toEqual([]);
  await rm(scratch, { recursive: true });
});

const chunked = (text: string, size: number) => {
  const bytes = Buffer.from(text);
  const count = Math.ceil(bytes.length / size);
  return Readable.from(Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size)));
};
const bytes = (length: number) => Buffer.from(Array.from({ length }, (_, i) => (i * 7919) % 251));
const read = async (name: string, from: Awaited<ReturnType<Shelf['harvest']>>) => {
  const file = from.picture(name);
  if (!file) throw new Error(`no ${name}`);
  return buffer(await file.open(forever));
};

it('takes pictures out of an answer however it is cut into pieces', async () => {
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 0, max: 500 }), async (size, length) => {
      const [a, b] = [bytes(length), bytes(length + 1)];
      const info = JSON.stringify({ prompt: 'a "quoted" \\ fox: [images] {', infotexts: ['é雪'] });
      const text = JSON.stringify({
        images: [a.toString('base64'), b.toString('base64')],
        parameters: { init_images: null, list: [] },
        info,
      });
      const harvest = await shelf.harvest(chunked(text, size), forever);
      expect(harvest.body).toEqual({
        images: ['picture:0', 'picture:1'],
        parameters: { init_images: null, list: [] },
        info,
      });
      expect((await read('picture:0', harvest)).equals(a)).toBe(true);
      expect((await read('picture:1', harvest)).equals(b)).toBe(true);
    }),
    { numRuns: 60 },
  );
});

it('reads every shape the family sends: one image, b64_json in objects, data: URLs, escaped slashes', async () => {
  const picture = bytes(100);
  const base64 = picture.toString('base64');
  const text = `{"image":"data:image/png;base64,${base64}","html_info":"<p>","result":{"images":[{"index":0,"b64_json":"${base64.replaceAll('/', '\\/')}"}]}}`;
  const harvest = await shelf.harvest(chunked(text, 50), forever);
  expect(harvest.body).toEqual({
    image: 'picture:0',
    html_info: '<p>',
    result: { images: [{ index: 0, b64_json: 'picture:1' }] },
  });
  expect((await read('picture:0', harvest)).equals(picture)).toBe(true);
  expect((await read('picture:1', harvest)).equals(picture)).toBe(true);
});

it('leaves out what is to be dropped, whatever is in it', async () => {
  await fc.assert(
    fc.asyncProperty(fc.json(), fc.integer({ min: 1, max: 40 }), async (value, size) => {
      const text = `[{"name":"a","metadata":${value}},{"metadata":${value},"name":"b"}]`;
      const { body } = await shelf.harvest(chunked(text, size), forever, new Set(['metadata']));
      expect(body).toEqual([
        { name: 'a', metadata: null },
        { name: 'b', metadata: null },
      ]);
    }),
    { numRuns: 100 },
  );
});

it('calls an answer that breaks off, or is no JSON, or never ends, the fault of the node', async () => {
  const codes = await Promise.all(
    ['{"images":["AAAA', '<html>', `{"info":"${'x'.repeat(9 * 1024 * 1024)}"}`, '['.repeat(1000)].map((text) =>
      shelf.harvest(chunked(text, 65536), forever).then(
        () => 'fine',
        (error: unknown) => toFailure(error).code,
      ),
    ),
  );
  expect(codes).toEqual(['node_lost', 'node_lost', 'node_lost', 'node_lost']);
});

it('keeps a picture openable for a while and lets it go when others come later', async () => {
  const text = JSON.stringify({ images: [bytes(10).toString('base64')] });
  const first = await shelf.harvest(chunked(text, 1000), forever);
  await system.clock.advance(60_000);
  await shelf.harvest(chunked(text, 1000), forever);
  expect((await read('picture:0', first)).length).toBe(10);
  await system.clock.advance(5 * 60_000);
  await shelf.harvest(chunked(text, 1000), forever);
  expect(await readdir(scratch)).toHaveLength(1);
  await expect(read('picture:0', first)).rejects.toMatchObject({ failure: { code: 'node_lost' } });
});

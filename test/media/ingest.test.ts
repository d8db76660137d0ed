import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import sharp from 'sharp';
import { describe, expect, onTestFinished, test } from 'vitest';
import { realSystem } from '../harness/system.ts';
import { from, openRoom, plain, read, refusal } from './fixtures/room.ts';
import * as samples from './fixtures/samples.ts';

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

describe('a result', () => {
  test('is kept exactly as it came when provenance is off', async () => {
    const { media, files } = await openRoom();
    const png = await samples.comfyPng({ width: 96, height: 64 });
    const stored = await media.ingest(from(png), plain);
    expect(stored).toEqual({
      kind: 'image',
      mediaType: 'image/png',
      width: 96,
      height: 64,
      bytes: png.length,
      sha256: sha256(png),
      blob: `${sha256(png)}.png`,
      original: `${sha256(png)}.png`,
      thumbnail: expect.any(String),
    });
    expect(await read(media.blobs.open(stored.blob))).toEqual(png);
    await media.blobs.stat(stored.thumbnail as string);
    expect(await files('staging')).toEqual([]);
    expect(await files('blobs')).toHaveLength(2);
  });

  test('may be text where the backend says so: valid UTF-8, served as plain text', async () => {
    const { media, files } = await openRoom();
    const words = Buffer.from('a lighthouse, ein Leuchtturm, 灯台');
    const stored = await media.ingest(from(words), { ...plain, expect: 'text' });
    expect(stored).toMatchObject({
      kind: 'text',
      mediaType: 'text/plain; charset=utf-8',
      blob: `${sha256(words)}.txt`,
      thumbnail: null,
    });
    expect(await read(media.blobs.open(stored.blob))).toEqual(words);
    const broken = media.ingest(from(Buffer.from([0xc3, 0x28])), { ...plain, expect: 'text' });
    await expect(broken).rejects.toMatchObject({ failure: { code: 'node_lost' } });
    await expect(media.ingest(from(words), plain)).rejects.toMatchObject({ failure: { code: 'node_lost' } });
    expect(await files('staging')).toEqual([]);
  });

  test('that comes twice is stored once', async () => {
    const { media, files } = await openRoom();
    const png = await samples.comfyPng();
    const [first, second] = await Promise.all([media.ingest(from(png), plain), media.ingest(from(png), plain)]);
    expect(second).toEqual(first);
    await media.blobs.stat(first.thumbnail as string);
    expect((await files('blobs')).filter((f) => f.endsWith('.thumb.webp') === false)).toHaveLength(1);
    expect(await media.blobs.usedBytes()).toBe(
      png.length + ((await media.blobs.stat(first.thumbnail as string))?.bytes ?? 0),
    );
  });

  test('is converted as asked, and the original stays', async () => {
    const { media } = await openRoom();
    const png = await samples.comfyPng({ width: 300, height: 200 });
    const stored = await media.ingest(from(png), { ...plain, output: { format: 'webp', quality: 70, maxSide: 150 } });
    expect(stored).toMatchObject({ mediaType: 'image/webp', width: 150, height: 100, original: `${sha256(png)}.png` });
    const served = await read(media.blobs.open(stored.blob));
    expect(stored.sha256).toBe(sha256(served));
    expect(stored.bytes).toBe(served.length);
    expect(await sharp(served).metadata()).toMatchObject({ format: 'webp', width: 150, height: 100 });
    expect(await read(media.blobs.open(stored.original))).toEqual(png);
  });

  test.each([
    ['jpeg', 'image/jpeg'],
    ['avif', 'image/avif'],
    ['png', 'image/png'],
  ] as const)('can be had as %s', async (format, mediaType) => {
    const { media } = await openRoom();
    const webp = await samples.picture().webp().toBuffer();
    const stored = await media.ingest(from(webp), { ...plain, output: { format } });
    expect(stored).toMatchObject({ mediaType, width: 96, height: 64 });
    const { format: found, compression } = await sharp(await media.blobs.path(stored.blob)).metadata();
    expect(compression === 'av1' ? 'avif' : found).toBe(format);
  });

  test('is never enlarged, nor re-encoded where it already is what was asked for', async () => {
    const { media } = await openRoom();
    const png = await samples.comfyPng();
    const stored = await media.ingest(from(png), { ...plain, output: { format: 'png', quality: 50, maxSide: 4096 } });
    expect(stored.blob).toBe(`${sha256(png)}.png`);
  });

  test('that moves keeps its frames as WebP and passes for a video', async () => {
    const { media } = await openRoom();
    const gif = await samples.animated('gif');
    const stored = await media.ingest(from(gif), { ...plain, output: { format: 'webp' } });
    expect(stored).toMatchObject({ mediaType: 'image/webp', width: 40, height: 30 });
    expect((await sharp(await media.blobs.path(stored.blob)).metadata()).pages).toBe(3);
    const video = await media.ingest(from(await samples.animated('webp')), { ...plain, expect: 'video' });
    expect(video).toMatchObject({ kind: 'video', mediaType: 'image/webp', width: 40, height: 30 });
  });

  test.each([
    ['mp4', 'video', 'video/mp4', samples.mp4()],
    ['webm', 'video', 'video/webm', samples.webm()],
    ['wav', 'audio', 'audio/wav', samples.wav()],
    ['flac', 'audio', 'audio/flac', samples.flac()],
    ['ogg', 'audio', 'audio/ogg', samples.ogg()],
    ['mp3', 'audio', 'audio/mpeg', samples.mp3()],
  ] as const)('may be a whole %s', async (_name, kind, mediaType, bytes) => {
    const { media } = await openRoom();
    const stored = await media.ingest(from(bytes), { ...plain, expect: kind, provenance: samples.provenance });
    expect(stored).toMatchObject({ kind, mediaType, bytes: bytes.length, sha256: sha256(bytes), thumbnail: null });
    const sidecar = await readFile((await media.blobs.path(stored.blob)).replace(/\.\w+$/, '.json'), 'utf8');
    expect(JSON.parse(sidecar)).toMatchObject({ generation: samples.provenance.generation, media_type: mediaType });
  });

  test('tells the size of its film where the container does', async () => {
    const { media } = await openRoom();
    const stored = await media.ingest(from(samples.mp4()), { ...plain, expect: 'video' });
    expect(stored).toMatchObject({ width: 832, height: 480 });
  });

  test('whose download breaks off is the fault of its node, and a second try is welcome', async () => {
    const { media, files } = await openRoom();
    const png = await samples.comfyPng();
    let requests = 0;
    const server = createServer((_request, response) => {
      response.writeHead(200, { 'content-length': png.length });
      if (++requests === 1) return void response.write(png.subarray(0, 100), () => response.destroy());
      response.end(png);
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    onTestFinished(() => void server.close());
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const { http } = realSystem();
    const open = async () => (await http.request(url, { trust: 'node' })).stream();
    expect(await refusal(media.ingest(open, plain))).toMatchObject({ code: 'node_lost' });
    expect(await files('staging')).toEqual([]);
    expect(await media.ingest(open, plain)).toMatchObject({ sha256: sha256(png) });
  });
});

describe('a result is refused as the fault of its node', () => {
  const cut = async (bytes: Buffer | Promise<Buffer>) => {
    const whole = await bytes;
    return whole.subarray(0, Math.floor(whole.length * 0.8));
  };
  const damaged = async (bytes: Promise<Buffer>) => {
    const copy = Buffer.from(await bytes);
    copy.fill(0x55, copy.length >> 1, (copy.length >> 1) + 400);
    return copy;
  };

  test.each([
    ['an HTML page', 'image', async () => Buffer.from('<!doctype html><title>502 Bad Gateway</title>'), /no picture/],
    ['nothing', 'image', async () => Buffer.alloc(0), /empty/],
    ['a decompression bomb', 'image', samples.bombPng, /60000×60000/],
    ['a PNG cut short', 'image', () => cut(samples.comfyPng()), /stops before its end|does not decode/],
    ['a damaged PNG', 'image', () => damaged(samples.comfyPng()), /damaged chunk|does not decode/],
    ['a JPEG cut short', 'image', () => cut(samples.picture().jpeg().toBuffer()), /does not decode/],
    ['a WebP cut short', 'image', () => cut(samples.picture().webp().toBuffer()), /does not decode/],
    ['an AVIF cut short', 'image', () => cut(samples.picture().avif({ effort: 0 }).toBuffer()), /does not decode/],
    ['a GIF cut short', 'image', () => cut(samples.animated('gif')), /stops before its end/],
    ['an MP4 cut short', 'video', () => cut(samples.mp4()), /stops before its end/],
    ['a WebM cut short', 'video', () => cut(samples.webm()), /stops before its end/],
    ['a WAV cut short', 'audio', () => cut(samples.wav()), /stops before its end/],
    ['an Ogg cut short', 'audio', () => cut(samples.ogg()), /stops before its end/],
  ] as const)('%s', async (_name, kind, make, message) => {
    const { media, files } = await openRoom();
    const bytes = await make();
    for (const provenance of [null, samples.provenance]) {
      const refused = await refusal(media.ingest(from(bytes), { ...plain, expect: kind, provenance }));
      expect(refused).toMatchObject({ code: 'node_lost', message: expect.stringMatching(message) });
    }
    expect(await files('staging')).toEqual([]);
    expect(await files('blobs')).toEqual([]);
    expect(await media.ingest(from(await samples.comfyPng()), plain)).toMatchObject({ mediaType: 'image/png' });
  });

  test('a PNG cut short that was to be converted', async () => {
    const { media, files } = await openRoom();
    const options = { ...plain, output: { format: 'webp' as const }, provenance: samples.provenance };
    const refused = await refusal(media.ingest(from(await cut(samples.comfyPng())), options));
    expect(refused.code).toBe('node_lost');
    expect(await files('staging')).toEqual([]);
    expect(await files('blobs')).toEqual([]);
  });
});

test('a good file of another kind is a fault of the model', async () => {
  const { media } = await openRoom();
  const refused = await refusal(media.ingest(from(await samples.comfyPng()), { ...plain, expect: 'video' }));
  expect(refused).toMatchObject({ code: 'model_error', message: expect.stringContaining('a video was expected') });
});

test('an abort ends the download with its reason and leaves nothing', async () => {
  const { media, files } = await openRoom();
  const abort = new AbortController();
  const endless = Readable.from(
    (async function* () {
      yield (await samples.comfyPng()).subarray(0, 50);
      abort.abort(new Error('cancelled by caller'));
      await new Promise(() => {});
    })(),
  );
  const work = media.ingest(async () => endless, { ...plain, signal: abort.signal });
  await expect(work).rejects.toThrow('cancelled by caller');
  expect(await files('staging')).toEqual([]);
});

test('what a crashed process left in staging goes at recovery', async () => {
  const { media, directory, files } = await openRoom();
  const { mkdir, writeFile } = await import('node:fs/promises');
  await mkdir(`${directory}/staging/left-over`);
  await writeFile(`${directory}/staging/left-over/download`, 'half');
  await media.recover();
  expect(await files('staging')).toEqual([]);
});

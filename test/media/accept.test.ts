import { Readable } from 'node:stream';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { openRoom, read, refusal } from './fixtures/room.ts';
import * as samples from './fixtures/samples.ts';

const { signal } = new AbortController();
const stream = (bytes: Buffer) => Readable.from([bytes]);

describe("a caller's picture", () => {
  test.each(['png', 'jpeg', 'webp', 'avif'] as const)('is kept as it is: %s', async (format) => {
    const { media, files } = await openRoom();
    const bytes = await samples.picture().toFormat(format).toBuffer();
    const accepted = await media.accept(stream(bytes), signal);
    expect(accepted).toMatchObject({
      kind: 'blob',
      mediaType: `image/${format}`,
      width: 96,
      height: 64,
      bytes: bytes.length,
    });
    expect(accepted.blob.startsWith(accepted.sha256)).toBe(true);
    expect(await read(media.blobs.open(accepted.blob))).toEqual(bytes);
    expect(await files('staging')).toEqual([]);
  });

  test('keeps its own text: nothing is taken out of what a caller sends', async () => {
    const { media } = await openRoom();
    const png = await samples.comfyPng();
    const { blob } = await media.accept(stream(png), signal);
    expect(await read(media.blobs.open(blob))).toEqual(png);
  });

  test.each(['gif', 'webp'] as const)('that moves is taken by its first frame: %s', async (format) => {
    const { media } = await openRoom();
    const accepted = await media.accept(stream(await samples.animated(format)), signal);
    expect(accepted).toMatchObject({ mediaType: 'image/png', width: 40, height: 30 });
    expect(await sharp(await media.blobs.path(accepted.blob)).metadata()).toMatchObject({ format: 'png', height: 30 });
  });

  test.each([
    ['text', 'invalid_request', async () => Buffer.from('hello')],
    ['nothing', 'invalid_request', async () => Buffer.alloc(0)],
    ['an SVG', 'invalid_request', async () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>')],
    ['a film', 'invalid_request', async () => samples.mp4()],
    ['a picture cut short', 'invalid_request', async () => (await samples.comfyPng()).subarray(0, 5_000)],
    ['a decompression bomb', 'too_large', samples.bombPng],
  ])('is refused when it is %s', async (_name, code, make) => {
    const { media, files } = await openRoom();
    expect(await refusal(media.accept(stream(await make()), signal))).toMatchObject({ code });
    expect(await files('staging')).toEqual([]);
    expect(await files('blobs')).toEqual([]);
  });

  test('is refused beyond 64 MB without reading on', async () => {
    const { media, files } = await openRoom();
    let sent = 0;
    const megabyte = Buffer.alloc(1024 * 1024);
    const endless = Readable.from(
      (function* () {
        for (;;) {
          sent++;
          yield megabyte;
        }
      })(),
    );
    expect(await refusal(media.accept(endless, signal))).toMatchObject({ code: 'too_large' });
    expect(sent).toBeLessThan(80);
    expect(await files('staging')).toEqual([]);
  });

  test('that breaks off is the sender’s fault', async () => {
    const { media } = await openRoom();
    const broken = new Readable({ read: () => broken.destroy(new Error('socket hang up')) });
    expect(await refusal(media.accept(broken, signal))).toMatchObject({ code: 'invalid_request' });
  });
});

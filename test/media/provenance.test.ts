import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { from, openRoom, plain, read } from './fixtures/room.ts';
import * as samples from './fixtures/samples.ts';

const { provenance } = samples;
const stamped = { ...plain, provenance };
const decode = (bytes: Buffer) => sharp(bytes).raw().toBuffer();

/** What every form must tell. */
function expectRecord(json: string) {
  expect(JSON.parse(json)).toMatchObject({
    generation: provenance.generation,
    prompt: provenance.prompt,
    negative_prompt: 'blurry',
    seed: provenance.seed,
    workflow_hash: provenance.workflowHash,
    node: 'rack-1',
  });
}

/** The description of a TIFF block as ours are built: first entry of the first directory. */
function exifDescription(exif: Buffer): string {
  const tiff = exif.toString('latin1', 0, 4) === 'Exif' ? exif.subarray(6) : exif;
  expect(tiff.readUInt16LE(10)).toBe(0x010e);
  const [length, at] = [tiff.readUInt32LE(14), tiff.readUInt32LE(18)];
  return tiff.toString('latin1', at, at + length - 1);
}

describe('provenance', () => {
  test('replaces the text of a PNG and leaves its pixels as they were', async () => {
    const { media } = await openRoom();
    const png = await samples.comfyPng();
    const stored = await media.ingest(from(png), stamped);
    const kept = await read(media.blobs.open(stored.blob));
    expect(kept.includes('secret-recipe')).toBe(false);
    expect(kept.includes('KSampler')).toBe(false);
    const data = (bytes: Buffer) =>
      Buffer.concat(
        samples
          .pngChunks(bytes)
          .filter((c) => c.type === 'IDAT')
          .map((c) => c.data),
      );
    expect(data(kept)).toEqual(data(png));
    const texts = samples.pngChunks(kept).filter((c) => c.type === 'tEXt' || c.type === 'iTXt');
    expect(texts.map((c) => c.data.toString('latin1').split('\0')[0])).toEqual([
      'parameters',
      'darkroom',
      'XML:com.adobe.xmp',
    ]);
    const [parameters, record] = texts.map((c) => c.data.toString('utf8').split('\0').at(-1));
    expectRecord(record as string);
    expect(parameters).toBe(
      `${provenance.prompt}\nNegative prompt: blurry\nSteps: 28, CFG scale: 3.5, Seed: 1234567890123, Model: flux-dev`,
    );
    expect(samples.pngChunks(kept)[0]?.type).toBe('IHDR');
    expect(await decode(kept)).toEqual(await decode(png));
    expect(stored).toMatchObject({ bytes: kept.length, blob: stored.original });
  });

  test.each(['jpeg', 'webp', 'avif', 'png'] as const)('is in the EXIF and XMP of a copy made as %s', async (format) => {
    const { media } = await openRoom();
    const source = await samples
      .picture()
      .tiff()
      .toBuffer()
      .then((t) => sharp(t).webp({ lossless: true }).toBuffer());
    const png = format === 'webp' ? await samples.comfyPng() : source;
    const stored = await media.ingest(from(png), { ...stamped, output: { format } });
    const { exif, xmp } = await sharp(await media.blobs.path(stored.blob)).metadata();
    expectRecord(exifDescription(exif as Buffer));
    expect(xmp?.toString('utf8')).toContain('&quot;neon&quot; &lt;sign&gt; &amp; rain 🌧');
    expect(xmp?.toString('utf8')).toContain(`darkroom:generation="${provenance.generation}"`);
  });

  test('replaces the EXIF of a JPEG but not the way it is turned', async () => {
    const { media } = await openRoom();
    const jpeg = await samples
      .picture({ width: 96, height: 64 })
      .jpeg()
      .withExif({ IFD0: { ImageDescription: 'secret-recipe' } })
      .withMetadata({ orientation: 6 })
      .toBuffer();
    expect((await sharp(jpeg).metadata()).orientation).toBe(6);
    const stored = await media.ingest(from(jpeg), stamped);
    expect(stored).toMatchObject({ width: 64, height: 96 });
    const kept = await read(media.blobs.open(stored.blob));
    expect(kept.includes('secret-recipe')).toBe(false);
    const { orientation, exif } = await sharp(kept).metadata();
    expect(orientation).toBe(6);
    expectRecord(exifDescription(exif as Buffer));
    expect(await decode(kept)).toEqual(await decode(jpeg));
  });

  test.each([
    ['lossy', { quality: 80 }],
    ['lossless', { lossless: true }],
  ] as const)('goes into a simple %s WebP without touching its pixels or its alpha', async (_name, options) => {
    const { media } = await openRoom();
    const webp = await samples.picture({ width: 33, height: 21 }).ensureAlpha(0.5).webp(options).toBuffer();
    const stored = await media.ingest(from(webp), stamped);
    const kept = await read(media.blobs.open(stored.blob));
    const { exif, width, height, hasAlpha } = await sharp(kept).metadata();
    expect({ width, height, hasAlpha }).toEqual({ width: 33, height: 21, hasAlpha: true });
    expectRecord(exifDescription(exif as Buffer));
    expect(await decode(kept)).toEqual(await decode(webp));
  });

  test('keeps an animation moving', async () => {
    const { media } = await openRoom();
    const stored = await media.ingest(from(await samples.animated('webp')), stamped);
    const { pages, xmp } = await sharp(await media.blobs.path(stored.blob)).metadata();
    expect(pages).toBe(3);
    expect(xmp).toBeDefined();
  });

  test('lies beside every file, served or kept', async () => {
    const { media } = await openRoom();
    const stored = await media.ingest(from(await samples.comfyPng()), { ...stamped, output: { format: 'webp' } });
    for (const [key, mediaType] of [
      [stored.blob, 'image/webp'],
      [stored.original, 'image/png'],
    ] as const) {
      const sidecar = await readFile((await media.blobs.path(key)).replace(/\.\w+$/, '.json'), 'utf8');
      expectRecord(sidecar);
      expect(JSON.parse(sidecar)).toMatchObject({ sha256: key.slice(0, 64), media_type: mediaType });
    }
  });

  test('leaves a JPEG readable when the prompt is too long for its segments', async () => {
    const { media } = await openRoom();
    const long = { ...provenance, prompt: '雨'.repeat(10_000), negativePrompt: '&'.repeat(10_000) };
    const jpeg = await samples.picture().jpeg().toBuffer();
    const stored = await media.ingest(from(jpeg), { ...plain, provenance: long });
    expect(await decode(await read(media.blobs.open(stored.blob)))).toEqual(await decode(jpeg));
  });
});

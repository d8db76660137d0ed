import { rm } from 'node:fs/promises';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { openMedia } from '../../src/media/media.ts';
import { until } from '../harness/manual-clock.ts';
import { realSystem } from '../harness/system.ts';
import { from, openRoom, plain, read, refusal } from './fixtures/room.ts';
import * as samples from './fixtures/samples.ts';

const big = { width: 1200, height: 600 };

describe('a thumbnail', () => {
  test('is there as soon as the result is: opening it waits for it', async () => {
    const { media } = await openRoom();
    const { thumbnail } = await media.ingest(from(await samples.comfyPng(big)), plain);
    const [bytes, stat] = await Promise.all([
      read(media.blobs.open(thumbnail as string)),
      media.blobs.stat(thumbnail as string),
    ]);
    expect(await sharp(bytes).metadata()).toMatchObject({ format: 'webp', width: 512, height: 256 });
    expect(stat).toMatchObject({ bytes: bytes.length, mediaType: 'image/webp' });
  });

  test('is made in the background when nobody asks', async () => {
    const { media, files } = await openRoom();
    const pngs = await Promise.all([1, 2, 3, 4].map((salt) => samples.comfyPng(undefined, salt)));
    await Promise.all(pngs.map((png) => media.ingest(from(png), plain)));
    await until(async () => (await files('blobs')).filter((f) => f.endsWith('.thumb.webp')).length === 4);
    await until(async () => (await files('staging')).length === 0);
  });

  test('is never larger than its picture', async () => {
    const { media } = await openRoom();
    const { thumbnail } = await media.ingest(from(await samples.comfyPng({ width: 60, height: 40 })), plain);
    expect(await sharp(await media.blobs.path(thumbnail as string)).metadata()).toMatchObject({
      width: 60,
      height: 40,
    });
  });

  test('shows the first frame of an animation', async () => {
    const { media } = await openRoom();
    const { thumbnail } = await media.ingest(from(await samples.animated('webp')), plain);
    const { width, height, pages } = await sharp(await media.blobs.path(thumbnail as string)).metadata();
    expect({ width, height, pages }).toEqual({ width: 40, height: 30, pages: undefined });
  });

  test('that a crash lost is made again from its picture', async () => {
    const { media, directory } = await openRoom();
    const { thumbnail } = await media.ingest(from(await samples.comfyPng(big)), plain);
    await rm(await media.blobs.path(thumbnail as string));
    const later = await openMedia({ directory, system: realSystem(), secret: 'secret', workers: 1 });
    try {
      expect((await later.blobs.stat(thumbnail as string))?.bytes).toBeGreaterThan(0);
    } finally {
      await later.close();
    }
  });

  test('is gone when its picture is', async () => {
    const { media, files } = await openRoom();
    const { blob, thumbnail } = await media.ingest(from(await samples.comfyPng()), plain);
    await media.blobs.stat(thumbnail as string);
    await media.blobs.remove(blob);
    expect(await media.blobs.stat(thumbnail as string)).toBeNull();
    expect(await refusal(media.blobs.open(thumbnail as string))).toMatchObject({ code: 'not_found' });
    expect(await files('blobs')).toEqual([]);
    expect(await media.blobs.usedBytes()).toBe(0);
  });
});

// The files the doubles make are what they say they are, to readers that did not make them.

import { fileTypeFromBuffer } from 'file-type';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { flacClip, mp4Clip, webmClip, webpClip } from './clips.ts';
import { type FileBytes, picture, pngSize, previewJpeg } from './pictures.ts';

const join = ({ parts }: FileBytes) => Buffer.concat([...parts]);
const clip = { width: 64, height: 48, frames: 5, salt: 'one' };
const makers = { webp: webpClip, webm: webmClip, mp4: mp4Clip };

describe('files made without a GPU', () => {
  it.each(Object.entries(makers))('a %s is recognised, and differs with its salt', async (_name, make) => {
    const file = await make(clip);
    expect((await fileTypeFromBuffer(join(file)))?.mime).toBe(file.mime);
    expect(join(await make({ ...clip, salt: 'two' })).equals(join(file))).toBe(false);
  });

  it('an animated WebP has its frames', async () => {
    expect((await sharp(join(await webpClip(clip)), { animated: true }).metadata()).pages).toBe(5);
  });

  it('a FLAC is recognised, states its length, and differs with its salt', async () => {
    const bytes = join(flacClip(2, 'one'));
    expect((await fileTypeFromBuffer(bytes))?.mime).toBe('audio/flac');
    expect(bytes.readUInt32BE(22) / 44_100).toBeCloseTo(2, 0);
    expect(join(flacClip(2, 'two')).equals(bytes)).toBe(false);
  });

  it('two salts share the bytes of the pixels, not the colours', async () => {
    const make = (salt: string) => picture({ width: 256, height: 256, salt, kind: 'varied' });
    const [a, b] = [make('one'), make('two')];
    expect(a.parts[1]).toBe(b.parts[1]);
    expect((await sharp(join(a)).stats()).channels[0]?.mean).not.toBe((await sharp(join(b)).stats()).channels[0]?.mean);
    expect(pngSize(join(a))).toEqual({ width: 256, height: 256 });
  });

  it('the preview is a JPEG', async () => {
    expect((await sharp(await previewJpeg()).metadata()).format).toBe('jpeg');
  });
});

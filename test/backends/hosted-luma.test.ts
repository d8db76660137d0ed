import { describe, expect, it } from 'vitest';
import { luma } from '../../src/backends/luma/provider.ts';
import type { Params } from '../../src/domain/params.ts';
import { openAccount } from './hosted-account.ts';
import { describeCancelling, describePolled, describeUnserved, type Polled } from './hosted-polled.ts';

const CLIPS: Polled = { provider: luma, remote: 'ray-2', kind: 'video' };
const open = (remote = 'ray-2') => openAccount(luma, remote);
const ADDRESS = 'https://example.com/a.png';
const ref = { kind: 'url', url: ADDRESS } as const;
const stored = {
  kind: 'blob',
  blob: 'b',
  sha256: '0'.repeat(64),
  mediaType: 'image/png',
  width: 64,
  height: 48,
  bytes: 1,
} as const;

describePolled(CLIPS);
describeCancelling(CLIPS);

describe('clips', () => {
  it('are asked for in the words of Dream Machine, and come as files', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ width: 1280, height: 720, inputs: { seconds: 9 } }, { kind: 'video' }));
    expect([ran.failure, ran.warnings]).toEqual([null, []]);
    const [bytes] = await ran.files();
    expect(bytes?.subarray(4, 8).toString()).toBe('ftyp');
    const [post] = stage.requests('POST');
    expect(post?.path).toBe('/dream-machine/v1/generations/video');
    expect(post?.body).toEqual({
      model: 'ray-2',
      prompt: 'a red bicycle',
      duration: '9s',
      aspect_ratio: '16:9',
      resolution: '720p',
    });
  });

  it.each<[string, Partial<Params>, object, RegExp | null]>([
    ['five seconds when nothing is said', {}, { duration: '5s' }, null],
    ['duration in its own spelling', { inputs: { duration: '9s' } }, { duration: '9s' }, null],
    [
      'the nearest shape',
      { width: 832, height: 480 },
      { aspect_ratio: '16:9', resolution: '540p' },
      /not make 832x480/,
    ],
    ['a square of the same area in the same class', { width: 960, height: 960 }, { resolution: '720p' }, null],
    ['its own frame without a size', { width: null, height: null }, { duration: '5s' }, null],
  ])('%s', async (_, params, expected, warning) => {
    const stage = await open();
    const ran = await stage.run(stage.job(params, { kind: 'video' }));
    expect(stage.body()).toMatchObject(expected);
    expect(ran.warnings).toEqual(warning === null ? [] : [expect.stringMatching(warning)]);
  });

  it('n of them are n jobs, each with its own reference', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ n: 2 }, { kind: 'video' }));
    expect(await ran.files()).toHaveLength(2);
    expect(stage.double.paid).toHaveLength(2);
    expect(new Set(stage.double.jobs.map(({ id }) => id)).size).toBe(2);
  });

  it('killed between two of them, it begins only the one that is missing', async () => {
    const stage = await open();
    const remote = await stage.killedAfter(stage.job({ n: 2 }, { kind: 'video' }), 'accepted');
    const ran = await stage.resume(stage.job({ n: 2 }, { kind: 'video' }), remote);
    expect(await ran.files()).toHaveLength(2);
    expect(stage.double.paid).toHaveLength(2);
  });

  it('begin with a picture that has a public address', async () => {
    const stage = await open();
    const files = [await stage.file('init_image', 90)];
    const ran = await stage.run(stage.job({ initImage: ref, strength: 0.5 }, { kind: 'video', files }));
    expect(ran.failure).toBeNull();
    expect(stage.body()).toMatchObject({ keyframes: { frame0: { type: 'image', url: ADDRESS } } });
    expect(ran.warnings).toEqual(['The provider does not take strength; it was left out.']);
  });

  it('say what is left out of the request', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ negativePrompt: 'rain', inputs: { frames: 33 } }, { kind: 'video' }));
    expect(ran.warnings).toEqual(
      ['negative_prompt', 'inputs.frames'].map((f) => `The provider does not take ${f}; it was left out.`),
    );
  });
});

describe('pictures', () => {
  it('are made by photon, without loss', async () => {
    const stage = await open('photon-1');
    const ran = await stage.run(stage.job({ width: 1024, height: 768 }));
    expect((await ran.files())[0]?.subarray(1, 4).toString()).toBe('PNG');
    const [post] = stage.requests('POST');
    expect(post?.path).toBe('/dream-machine/v1/generations/image');
    expect(post?.body).toEqual({ model: 'photon-1', prompt: 'a red bicycle', format: 'png', aspect_ratio: '4:3' });
  });

  it('are changed from one with a public address, more the less it weighs', async () => {
    const stage = await open('photon-1');
    const files = [await stage.file('init_image', 90)];
    await stage.run(stage.job({ initImage: ref, strength: 0.25 }, { files }));
    expect(stage.body()).toMatchObject({ modify_image_ref: { url: ADDRESS, weight: 0.75 } });
  });
});

describeUnserved(CLIPS, [
  ['a picture without a public address', 'ray-2', ['init_image'], { initImage: stored }],
  ['a mask', 'ray-2', ['init_image', 'mask'], { initImage: ref, mask: ref }],
  ['LoRAs', 'ray-2', [], { loras: [{ name: 'ink', strength: 1 }] }],
  ['a length that is none', 'ray-2', [], { inputs: { seconds: 'long' } }],
  ['a length it does not make, which would be paid for', 'ray-2', [], { inputs: { seconds: 8 } }],
  ['a length far beyond', 'ray-2', [], { inputs: { duration: 100_000 } }],
]);

import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { pictureUri } from '../../src/backends/runway/pictures.ts';
import { runway } from '../../src/backends/runway/provider.ts';
import type { Params } from '../../src/domain/params.ts';
import { greyPicture, ofDataUrl, openAccount } from './hosted-account.ts';
import { describeCancelling, describePolled, describeUnserved, PAID_REFUSAL, type Polled } from './hosted-polled.ts';

const CLIPS: Polled = { provider: runway, remote: 'gen4.5', kind: 'video', own: PAID_REFUSAL };
const open = (remote = 'gen4.5') => openAccount(runway, remote);
const ref = { kind: 'url', url: 'https://example.com/a.png' } as const;

describePolled(CLIPS);
describeCancelling(CLIPS);

describe('clips', () => {
  it('are asked for in the words of the API, under its version', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ width: 1280, height: 720, inputs: { seconds: 8 } }, { kind: 'video' }));
    expect([ran.failure, ran.warnings]).toEqual([null, []]);
    expect((await ran.files())[0]?.subarray(4, 8).toString()).toBe('ftyp');
    const [post] = stage.requests('POST');
    expect(post?.path).toBe('/v1/text_to_video');
    expect(post?.headers['x-runway-version']).toBe('2024-11-06');
    expect(post?.body).toEqual({
      model: 'gen4.5',
      promptText: 'a red bicycle',
      ratio: '1280:720',
      duration: 8,
      seed: 7,
    });
  });

  it('are asked about no more often than every five seconds, whatever chance says', async () => {
    const stage = await open();
    stage.system.random.fraction = () => 0;
    await stage.run(stage.job({}, { kind: 'video' }));
    expect(stage.requests('GET').length).toBeGreaterThan(2);
    expect(Math.min(...stage.clock.slept)).toBeGreaterThanOrEqual(5000);
  });

  it.each([
    ['hailuo3', 'video'],
    ['gpt_image_2', 'image'],
  ] as const)(
    'and pictures of a model whose frames are not known are asked for without one (%s)',
    async (remote, kind) => {
      const stage = await open(remote);
      const sized = await stage.run(stage.job({ width: 1280, height: 720 }, { kind }));
      expect(sized).toMatchObject({ refused: true, failure: { code: 'unsupported_input' } });
      expect(sized.failure?.message).toContain(remote);
      expect(stage.requests('POST')).toEqual([]);
      await stage.run(stage.job({ width: null, height: null }, { kind }));
      expect(stage.body()).not.toHaveProperty('ratio');
    },
  );

  it('tell how far they are', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({}, { kind: 'video' }));
    const told = ran.events.flatMap((e) => (e.type === 'progress' ? [e.fraction] : []));
    expect(told).toEqual([0, 0.5]);
  });

  it('begin with a picture, byte for byte', async () => {
    const stage = await open();
    const files = [await stage.file('init_image', 90)];
    const size = { width: 960, height: 960 };
    const ran = await stage.run(stage.job({ ...size, initImage: ref, strength: 0.5 }, { kind: 'video', files }));
    expect(ran.failure).toBeNull();
    expect(ran.warnings).toEqual(['The provider does not take strength; it was left out.']);
    expect(stage.requests('POST')[0]?.path).toBe('/v1/image_to_video');
    const { promptImage, ...body } = stage.body() as Record<string, unknown>;
    expect(body).toMatchObject({ ratio: '960:960', duration: 5 });
    expect(ofDataUrl(promptImage)).toEqual(await greyPicture(64, 48, 90));
  });

  it.each<[string, string, Partial<Params>, object, string[]]>([
    ['the nearest frame', 'gen4.5', { width: 700, height: 1000 }, { ratio: '720:1280' }, ['shape']],
    ['of frames alike the nearest in size', 'veo3.1', { width: 1920, height: 1080 }, { ratio: '1920:1080' }, []],
    ['the lengths of veo', 'veo3.1', { inputs: { seconds: 6 } }, { duration: 6 }, ['shape']],
    ['what veo makes where no length is asked for', 'veo3.1', {}, { duration: 4 }, ['shape']],
    ['its negative prompt', 'veo3.1', { negativePrompt: 'rain' }, { negativePrompt: 'rain' }, ['shape']],
    ['seeds folded to its range', 'gen4.5', { seed: 2 ** 32 + 3 }, { seed: 3 }, ['shape']],
    ['no negative prompt for others', 'gen4.5', { negativePrompt: 'rain' }, {}, ['negative', 'shape']],
  ])('%s (%s)', async (_, remote, params, expected, warnings) => {
    const stage = await open(remote);
    const ran = await stage.run(stage.job(params, { kind: 'video' }));
    expect(stage.body()).toMatchObject(expected);
    const kinds = { shape: /does not make \d+x\d+/, negative: /not take negative_prompt/ };
    expect(ran.warnings.map((w) => Object.entries(kinds).find(([, like]) => like.test(w))?.[0]).sort()).toEqual(
      warnings.sort(),
    );
  });

  it('send veo no seed, which it does not take', async () => {
    const stage = await open('veo3.1');
    await stage.run(stage.job({}, { kind: 'video' }));
    expect(stage.body()).not.toHaveProperty('seed');
  });

  it('n of them are n tasks', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ n: 2 }, { kind: 'video' }));
    expect(await ran.files()).toHaveLength(2);
    const seeds = stage.requests('POST').map(({ body }) => (body as { seed: number }).seed);
    expect([stage.double.paid.length, seeds]).toEqual([2, [7, 8]]);
  });
});

it('pictures are made too, from others where they are given', async () => {
  const stage = await open('gen4_image');
  const files = [await stage.file('init_image', 90)];
  const ran = await stage.run(stage.job({ width: 1024, height: 1024, initImage: ref }, { files }));
  expect((await ran.files())[0]?.subarray(1, 4).toString()).toBe('PNG');
  expect(stage.requests('POST')[0]?.path).toBe('/v1/text_to_image');
  expect(stage.body()).toMatchObject({ ratio: '1024:1024', referenceImages: [{ uri: /^data:image\/png/ }], seed: 7 });
});

describe('a picture too large for a request', () => {
  it('goes as JPEG, smaller if it must', async () => {
    let state = 1;
    const noise = Buffer.from(
      Array.from({ length: 1500 * 1500 * 3 }, () => {
        state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
        return state >>> 24;
      }),
    );
    const bytes = await sharp(noise, { raw: { width: 1500, height: 1500, channels: 3 } })
      .png()
      .toBuffer();
    const sent = ofDataUrl(await pictureUri({ bytes, mediaType: 'image/png' }));
    expect(bytes.length).toBeGreaterThan(5_000_000);
    expect(sent.length).toBeLessThan(3_750_000);
    const { format, width } = await sharp(sent).metadata();
    expect([format, width]).toEqual(['jpeg', 1500]);
  });

  it('and one of a kind it does not know too', async () => {
    const bytes = await sharp(await greyPicture(64, 48, 90))
      .gif()
      .toBuffer();
    expect((await pictureUri({ bytes, mediaType: 'image/gif' })).slice(0, 16)).toBe('data:image/jpeg;');
  });
});

describeUnserved(CLIPS, [
  ['a mask', 'gen4.5', ['init_image', 'mask'], { initImage: ref, mask: ref }],
  ['LoRAs', 'gen4.5', [], { loras: [{ name: 'ink', strength: 1 }] }],
]);
describeUnserved({ ...CLIPS, kind: 'audio' }, [['sound', 'gen4.5', [], {}]]);

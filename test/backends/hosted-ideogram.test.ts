import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { ideogram } from '../../src/backends/ideogram/provider.ts';
import type { Params } from '../../src/domain/params.ts';
import type { FormFile } from '../doubles/hosted/call.ts';
import { forever, greyPicture, openAccount } from './hosted-account.ts';
import { describePolled } from './hosted-polled.ts';

const REMOTE = 'ideogram-3';
const open = (remote = REMOTE) => openAccount(ideogram, remote);
const ref = { kind: 'url', url: 'https://example.com/a.png' } as const;

describePolled({ provider: ideogram, remote: REMOTE, kind: 'image' });

describe('text to image', () => {
  it('is one request for all pictures, in the words of the v2 API', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ n: 3, negativePrompt: 'rain', width: 1280, height: 800 }));
    expect(ran.failure).toBeNull();
    expect(ran.warnings).toEqual([]);
    expect((await ran.files()).map(({ length }) => length > 100)).toEqual([true, true, true]);
    const [post] = stage.requests('POST');
    expect(post).toMatchObject({ path: '/v2/image/generate/ideogram-3' });
    expect(post?.body).toEqual({
      prompt: 'a red bicycle',
      negative_prompt: 'rain',
      resolution: '1280x800',
      seed: 7,
      num_images: 3,
      async: true,
    });
    expect(stage.double.paid).toHaveLength(1);
  });

  it('asks by the id it was given', async () => {
    const stage = await open();
    await stage.run(stage.job());
    const [job] = stage.double.jobs;
    expect(new Set(stage.requests('GET').map(({ path }) => path))).toEqual(new Set([`/v2/generations/${job?.id}`]));
  });

  it.each<[string, Partial<Params>, object, string[]]>([
    ['a listed resolution', { width: 736, height: 1312 }, { resolution: '736x1312' }, []],
    ['a ratio', { width: 512, height: 512 }, { aspect_ratio: '1x1' }, []],
    ['a ratio of other pixels', { width: 1920, height: 1080 }, { aspect_ratio: '16x9' }, []],
    [
      'the nearest ratio',
      { width: 1000, height: 700 },
      { aspect_ratio: '3x2' },
      ['The provider does not make 1000x700; it was asked for 3:2.'],
    ],
    ['no size', { width: null, height: null }, {}, []],
  ])('spells a size as %s', async (_, params, expected, warnings) => {
    const stage = await open();
    const ran = await stage.run(stage.job(params));
    expect(ran.warnings).toEqual(warnings);
    const { aspect_ratio, resolution } = stage.body() as Record<string, unknown>;
    expect({ aspect_ratio, resolution }).toEqual({ aspect_ratio: undefined, resolution: undefined, ...expected });
  });

  it('folds a seed that is too large, so that it asks for the same picture again', async () => {
    const stage = await open();
    await stage.run(stage.job({ seed: 2 ** 31 + 5 }));
    expect(stage.body()).toMatchObject({ seed: 5 });
  });

  it('says what it leaves out', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ steps: 20, guidance: 3, sampler: 'euler', inputs: { style: 'bold' } }));
    expect(ran.warnings).toEqual(
      ['steps', 'guidance', 'sampler', 'inputs.style'].map((f) => `The provider does not take ${f}; it was left out.`),
    );
  });

  it('knows that 4.5 takes pixels and no negative prompt', async () => {
    const stage = await open('ideogram-4-5');
    const ran = await stage.run(stage.job({ width: 1000, height: 700, negativePrompt: 'rain' }));
    expect(stage.body()).toEqual({ prompt: 'a red bicycle', num_images: 1, seed: 7, async: true, size: '1000x700' });
    expect(ran.warnings).toEqual(['The provider does not take negative_prompt; it was left out.']);
  });

  it('each picture has the seed that the answer tells of it', async () => {
    const data = [40, 41, null].map((seed) => ({ url: 'https://ideogram.ai/a.png', is_image_safe: true, seed }));
    const body = { generation_id: 'g1', status: 'completed', data };
    const asked = { method: 'GET', path: '/' } as const;
    const outcome = ideogram.polled?.({ status: 200, header: () => null, body }, { id: 'g1' }, asked);
    expect(outcome).toMatchObject({ state: 'done', results: [{ seed: 40 }, { seed: 41 }, { place: 2 }] });
    const stage = await open();
    const ran = await stage.run(stage.job({ n: 2, seed: 2 ** 31 + 7 }));
    expect(ran.events.flatMap((e) => (e.type === 'file' ? [e.file.seed] : []))).toEqual([7, 8]);
  });

  it('withheld pictures are counted; the others are delivered', async () => {
    const stage = await open();
    stage.double.faults.next('moderation_partial');
    const ran = await stage.run(stage.job({ n: 3 }));
    expect(await ran.files()).toHaveLength(2);
    expect(ran.warnings).toEqual(['1 of the pictures asked for is missing: the provider withheld them']);
  });
});

describe('pictures that go in', () => {
  const filled = (value: unknown) => value as Record<string, string | FormFile>;

  it('go to remix as they are, with the strength turned round', async () => {
    const stage = await open();
    const files = [await stage.file('init_image', 90)];
    const ran = await stage.run(stage.job({ initImage: ref, strength: 0.7, negativePrompt: 'rain' }, { files }));
    expect(ran.failure).toBeNull();
    expect(stage.requests('POST')[0]?.path).toBe('/v2/image/remix/ideogram-3');
    const { image, ...fields } = filled(stage.body());
    expect(fields).toEqual({
      prompt: 'a red bicycle',
      num_images: '1',
      seed: '7',
      async: 'true',
      negative_prompt: 'rain',
      image_weight: '30',
      aspect_ratio: '1x1',
    });
    expect(image).toEqual({ filename: 'image.png', mime: 'image/png', bytes: await greyPicture(64, 48, 90) });
  });

  it('a mask arrives black where ours is white, in the size of the picture', async () => {
    const stage = await open();
    const files = [await stage.file('init_image', 90), await stage.file('mask', 0, 255)];
    const ran = await stage.run(stage.job({ initImage: ref, mask: ref, strength: 0.5 }, { files }));
    expect(ran.failure).toBeNull();
    expect(ran.warnings).toEqual(['The provider does not take strength; it was left out.']);
    expect(stage.requests('POST')[0]?.path).toBe('/v2/image/inpaint/ideogram-3');
    const { mask } = filled(stage.body());
    const { bytes } = mask as FormFile;
    const { width, height, channels } = await sharp(bytes).metadata();
    expect([width, height, channels]).toEqual([64, 48, 1]);
    const data = await sharp(bytes).extractChannel(0).raw().toBuffer();
    expect([data[0], data[31], data[32], data[63]]).toEqual([0, 0, 255, 255]);
  });

  it('are edited in place by 4.5, with a mask or without', async () => {
    const stage = await open('ideogram-4-5');
    const files = [await stage.file('init_image', 90)];
    await stage.run(stage.job({ initImage: ref }, { files }));
    await stage.run(stage.job({ initImage: ref, mask: ref }, { files: [...files, await stage.file('mask', 255)] }));
    expect(stage.requests('POST').map(({ path }) => path)).toEqual(
      Array(2).fill('/v2/image/precise-edit/ideogram-4-5'),
    );
    expect(filled(stage.body())).not.toHaveProperty('size');
  });

  it.each<[string, string, ('init_image' | 'mask')[], Partial<Params>]>([
    ['a picture', 'ideogram-2', ['init_image'], {}],
    ['a mask', 'ideogram-4', ['init_image', 'mask'], {}],
    ['LoRAs', REMOTE, [], { loras: [{ name: 'ink', strength: 1 }] }],
  ])('%s that the model cannot take is refused before anything is sent', async (_, remote, roles, params) => {
    const stage = await open(remote);
    const files = await Promise.all(roles.map((role) => stage.file(role, 90)));
    const ran = await stage.run(stage.job(params, { files }));
    expect([ran.failure?.code, ran.refused]).toEqual(['unsupported_input', true]);
    expect(stage.requests()).toEqual([]);
  });
});

it('cannot cancel, and sends nothing', async () => {
  const stage = await open();
  const remote = await stage.killedAfter(stage.job(), 'accepted');
  const before = stage.requests().length;
  await stage.connection.cancel(remote, forever);
  expect(stage.requests()).toHaveLength(before);
});

// Black Forest Labs: one picture per task, moderation as a status, links that die and are renewed.

import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { openAccount, type StageOptions } from './hosted-account.ts';
import { describePolled, describeUnserved, PAID_REFUSAL, type Polled } from './hosted-polled.ts';

const open = (remote = 'flux-pro-1.1', options: StageOptions = {}) => openAccount(bfl, remote, options);
const bytes = (base64: unknown) => Buffer.from(String(base64), 'base64');

const ACCOUNT: Polled = {
  provider: bfl,
  remote: 'flux-pro-1.1',
  kind: 'image',
  own: PAID_REFUSAL,
  says: ['moderation_input', /Derivative Works Filter/],
  withholds: 'moderation_output',
};

describePolled(ACCOUNT);

describe('a task', () => {
  it('is asked for in the words of the model, and its picture is fetched without the key', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ width: 1024, height: 768 }));
    expect(ran).toMatchObject({ failure: null, warnings: [] });
    expect(stage.body()).toEqual({
      prompt: 'a red bicycle',
      width: 1024,
      height: 768,
      seed: 7,
      output_format: 'png',
    });
    expect(stage.requests('POST')[0]?.path).toBe('/v1/flux-pro-1.1');
    const [picture] = await ran.files();
    expect(await sharp(picture).metadata()).toMatchObject({ format: 'png', width: 1024, height: 768 });
    expect(stage.double.paid).toHaveLength(1);
  });

  it('is one per picture, each with its own seed', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ n: 3 }));
    expect(ran.failure).toBeNull();
    expect(stage.requests('POST').map(({ body }) => (body as { seed: number }).seed)).toEqual([7, 8, 9]);
    expect(new Set((await ran.files()).map(String)).size).toBe(3);
    expect(stage.double.paid).toHaveLength(3);
  });

  it('tells its progress', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job());
    expect(ran.events.map((e) => (e.type === 'progress' ? e.fraction : e.type))).toEqual([
      'intent',
      'accepted',
      0,
      0.5,
      'file',
      'rendered',
    ]);
  });

  it('is asked about by its number alone when the address it names is not the provider’s', async () => {
    const stage = await open();
    stage.double.faults.next('foreign_poll_url');
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.double.fileLog.filter(({ path }) => path.startsWith('/v1'))).toEqual([]);
  });
});

describe('parameters', () => {
  it('that the model does not know are left out with a warning', async () => {
    const stage = await open();
    const asked = { negativePrompt: 'rain', steps: 20, guidance: 3, sampler: 'euler' };
    const { warnings, failure } = await stage.run(stage.job(asked));
    expect(failure).toBeNull();
    expect(warnings.map((text) => /take (\w+)/.exec(text)?.[1])).toEqual([
      'negative_prompt',
      'sampler',
      'steps',
      'guidance',
    ]);
  });

  it('outside of its ranges are brought inside, and that is said', async () => {
    const stage = await open('flux-dev');
    const ran = await stage.run(stage.job({ width: 2000, height: 1000, steps: 80, guidance: 1 }));
    expect(ran.failure).toBeNull();
    expect(stage.body()).toMatchObject({ width: 1440, height: 704, steps: 50, guidance: 1.5 });
    expect(ran.warnings).toEqual([
      'The provider does not make 2000x1000; it was asked for 1440x704.',
      'The provider does not take steps 80; it was asked for 50.',
      'The provider does not take guidance 1; it was asked for 1.5.',
    ]);
  });

  it.each([
    ['flux-kontext-pro', 1360, 768, '16:9'],
    ['flux-pro-1.1-ultra', 700, 1000, '2:3'],
  ])('of size become a ratio for %s', async (remote, width, height, aspect_ratio) => {
    const stage = await open(remote);
    const { warnings } = await stage.run(stage.job({ width, height }));
    expect(stage.body()).toMatchObject({ aspect_ratio });
    expect(stage.body()).not.toHaveProperty('width');
    expect(warnings).toHaveLength(aspect_ratio === '16:9' ? 0 : 1);
  });

  it.each([
    ['flux-pro-1.1', 'image_prompt', {}],
    ['flux-pro-1.1-ultra', 'image_prompt', { image_prompt_strength: 0.25 }],
    ['flux-kontext-pro', 'input_image', {}],
    ['flux-2-pro', 'input_image', {}],
  ])('of an input picture: %s takes it as %s', async (remote, field, more) => {
    const stage = await open(remote);
    const file = await stage.file('init_image', 128);
    expect((await stage.run(stage.job({ strength: 0.75 }, { files: [file] }))).failure).toBeNull();
    const body = stage.body() as Record<string, unknown>;
    expect(body).toMatchObject(more);
    expect((await sharp(bytes(body[field])).stats()).channels[0]?.mean).toBe(128);
  });

  it('of a mask: white is painted anew, as with us', async () => {
    const stage = await open('flux-pro-1.0-fill');
    const files = [await stage.file('init_image', 128), await stage.file('mask', 0, 255)];
    expect((await stage.run(stage.job({}, { files }))).failure).toBeNull();
    const mask = sharp(bytes((stage.body() as { mask: string }).mask));
    const pixels = await mask.greyscale().raw().toBuffer();
    expect([pixels[0], pixels.at(-1)]).toEqual([255, 0]);
  });
});

describeUnserved(ACCOUNT, [
  ['a mask', 'flux-pro-1.1', ['init_image', 'mask'], {}],
  ['no picture to paint on', 'flux-pro-1.0-fill', [], {}],
  ['LoRAs', 'flux-dev', [], { loras: [{ name: 'style', strength: 1 }] }],
]);

describe('after a restart', () => {
  it('it sends what was not yet sent, and nothing twice', async () => {
    const stage = await open();
    const remote = await stage.killedAfter(stage.job({ n: 3 }), 'accepted', 2);
    const ran = await stage.resume(stage.job({ n: 3 }), remote);
    expect(await ran.files()).toHaveLength(3);
    expect(stage.double.paid).toHaveLength(3);
  });
});

it('a cancel asks nothing of a provider that knows none', async () => {
  const stage = await open();
  const remote = await stage.killedAfter(stage.job(), 'accepted');
  const before = stage.double.log.length;
  await stage.connection.cancel(remote, new AbortController().signal);
  expect(stage.double.log).toHaveLength(before);
});

// Stability's v2beta image routes, against a stand-in.

import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { stability } from '../../src/backends/stability/provider.ts';
import type { FormFile } from '../doubles/hosted/call.ts';
import { pngSize } from '../doubles/pictures.ts';
import { openAccount } from './hosted-account.ts';
import { answersAtOnce } from './hosted-at-once.ts';

const form = (body: unknown) => body as Readonly<Record<string, string & FormFile>>;
const meanOf = async (file: FormFile | undefined) => (await sharp(file?.bytes).stats()).channels[0]?.mean;
const path = (rest: string) => `/v2beta/stable-image/${rest}`;

answersAtOnce({ provider: stability, remote: 'core' });

test('a picture is asked for by a form and its shape', async () => {
  const stage = await openAccount(stability, 'core');
  const { failure, files, warnings } = await stage.run(
    stage.job({ width: 1920, height: 1080, negativePrompt: 'rain', inputs: { style_preset: 'anime' } }),
  );
  expect(failure).toBeNull();
  expect(warnings).toEqual([]);
  expect(stage.requests()).toMatchObject([
    { method: 'POST', path: path('generate/core'), headers: { accept: 'application/json' } },
  ]);
  expect(stage.body()).toEqual({
    prompt: 'a red bicycle',
    negative_prompt: 'rain',
    seed: '7',
    output_format: 'png',
    style_preset: 'anime',
    aspect_ratio: '16:9',
  });
  expect((await files()).map(pngSize)).toEqual([expect.objectContaining({ width: expect.any(Number) })]);
});

test('a model of the SD3 family is named in the form', async () => {
  const stage = await openAccount(stability, 'sd3.5-large');
  const { failure, warnings } = await stage.run(stage.job({ guidance: 4.5 }));
  expect(failure).toBeNull();
  expect(warnings).toEqual([]);
  expect(stage.requests()).toMatchObject([{ path: path('generate/sd3') }]);
  expect(stage.body()).toMatchObject({ model: 'sd3.5-large', cfg_scale: '4.5' });
});

test.each([
  [0, '4294967294'],
  [4_294_967_294, '4294967294'],
  [4_294_967_295, '4294967294'],
  [4_294_967_296, '1'],
])('seed %i is told as %s, since 0 means any', async (seed, told) => {
  const stage = await openAccount(stability, 'core');
  expect((await stage.run(stage.job({ seed }))).failure).toBeNull();
  expect(stage.body()).toMatchObject({ seed: told });
});

test('what it does not take is left out with a warning', async () => {
  const stage = await openAccount(stability, 'ultra');
  const { failure, warnings } = await stage.run(
    stage.job({ width: 1024, height: 768, steps: 20, guidance: 4, sampler: 'euler', scheduler: 'karras' }),
  );
  expect(failure).toBeNull();
  expect(stage.body()).toMatchObject({ aspect_ratio: '5:4' });
  expect(warnings).toEqual([
    'The provider does not make 1024x768; it was asked for 5:4.',
    ...['steps', 'sampler', 'scheduler', 'guidance'].map(
      (name) => `The provider does not take ${name}; it was left out.`,
    ),
  ]);
});

describe('input pictures', () => {
  test('go along as a file with how much of them is repainted', async () => {
    const stage = await openAccount(stability, 'sd3.5-medium');
    const files = [await stage.file('init_image', 90)];
    expect((await stage.run(stage.job({ strength: 0.35 }, { files }))).failure).toBeNull();
    const { image, ...fields } = form(stage.body());
    expect(fields).toEqual({
      prompt: 'a red bicycle',
      seed: '7',
      output_format: 'png',
      model: 'sd3.5-medium',
      mode: 'image-to-image',
      strength: '0.35',
    });
    expect(image).toMatchObject({ filename: 'image.png', mime: 'image/png' });
    expect(await meanOf(image)).toBe(90);
  });

  test('are refused by core', async () => {
    const stage = await openAccount(stability, 'core');
    const { failure, refused } = await stage.run(stage.job({}, { files: [await stage.file('init_image', 90)] }));
    expect(failure).toMatchObject({ code: 'unsupported_input' });
    expect(refused).toBe(true);
    expect(stage.requests()).toEqual([]);
  });

  test('with a mask go to the inpainting service, white still white, and it says so', async () => {
    const stage = await openAccount(stability, 'core');
    const files = [await stage.file('init_image', 90), await stage.file('mask', 0, 255)];
    const { failure, warnings } = await stage.run(stage.job({ strength: 0.5 }, { files }));
    expect(failure).toBeNull();
    expect(stage.requests()).toMatchObject([{ path: path('edit/inpaint') }]);
    const { image, mask } = form(stage.body());
    expect(await meanOf(image)).toBe(90);
    const grey = await sharp(mask?.bytes).toColourspace('b-w').raw().toBuffer();
    expect([grey.at(0), grey.at(-1)]).toEqual([255, 0]);
    expect(warnings).toEqual([
      'Masks are painted by the inpainting service of the provider.',
      'The provider does not take strength; it was left out.',
    ]);
  });

  test('are what the inpainting service cannot do without', async () => {
    const stage = await openAccount(stability, 'inpaint');
    expect((await stage.run(stage.job())).failure).toMatchObject({ code: 'unsupported_input' });
    expect(stage.requests()).toEqual([]);
  });
});

test('several pictures are several calls with a seed each', async () => {
  const stage = await openAccount(stability, 'core');
  const { failure, files } = await stage.run(stage.job({ n: 2 }));
  expect(failure).toBeNull();
  expect(await files()).toHaveLength(2);
  expect(stage.requests('POST').map(({ body }) => form(body).seed)).toEqual(['7', '8']);
  expect(stage.double.paid).toHaveLength(2);
});

test.each([
  [403, { name: 'content_moderation' }, 'policy_block'],
  [403, { name: 'forbidden' }, 'model_gone'],
  [402, {}, 'provider_balance'],
  [413, { name: 'payload_too_large' }, 'too_large'],
  [422, { name: 'invalid_language' }, 'unsupported_input'],
  [429, { name: 'rate_limit_exceeded' }, 'rate_limited'],
  [500, { name: 'internal_error' }, 'node_lost'],
] as const)('%i %o is %s', (status, body, code) => {
  expect(stability.refused({ status, header: () => null, body }, 'submit').code).toBe(code);
});

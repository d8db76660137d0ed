// Together's images, against a stand-in.

import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { together } from '../../src/backends/together/provider.ts';
import { pngSize } from '../doubles/pictures.ts';
import { ofDataUrl, openAccount } from './hosted-account.ts';
import { answersAtOnce } from './hosted-at-once.ts';

const REMOTE = 'black-forest-labs/FLUX.1-dev';
const KONTEXT = 'black-forest-labs/FLUX.1-kontext-pro';

answersAtOnce({ provider: together, remote: REMOTE, withheld: 'model_error' });

test('several pictures are one request, in the answer itself', async () => {
  const stage = await openAccount(together, REMOTE);
  const params = { n: 3, width: 640, height: 368, steps: 4, guidance: 3.5, negativePrompt: 'rain' };
  const { failure, files, warnings } = await stage.run(stage.job(params));
  expect(failure).toBeNull();
  expect(warnings).toEqual([expect.stringMatching(/one seed for several pictures/)]);
  expect(stage.body()).toEqual({
    model: REMOTE,
    prompt: 'a red bicycle',
    n: 3,
    seed: 7,
    width: 640,
    height: 368,
    steps: 4,
    guidance_scale: 3.5,
    negative_prompt: 'rain',
    response_format: 'base64',
    output_format: 'png',
  });
  expect((await files()).map(pngSize)).toEqual(Array(3).fill({ width: 640, height: 368 }));
  expect([stage.double.paid.length, stage.double.fileLog.length]).toEqual([1, 0]);
});

test('more than four are two requests, the second with the seed that follows', async () => {
  const stage = await openAccount(together, REMOTE);
  const { failure, files } = await stage.run(stage.job({ n: 6 }));
  expect(failure).toBeNull();
  expect(await files()).toHaveLength(6);
  expect(stage.requests('POST').map(({ body }) => body)).toMatchObject([
    { n: 4, seed: 7 },
    { n: 2, seed: 11 },
  ]);
});

test.each([
  [1000, 500, 1008, 496],
  [2048, 32, 1792, 64],
])('%ix%i becomes %ix%i, and it says so', async (width, height, w, h) => {
  const stage = await openAccount(together, REMOTE);
  const { failure, warnings } = await stage.run(stage.job({ width, height, sampler: 'euler' }));
  expect(failure).toBeNull();
  expect(stage.body()).toMatchObject({ width: w, height: h });
  expect(warnings).toEqual([
    `The provider does not make ${width}x${height}; it was asked for ${w}x${h}.`,
    'The provider does not take sampler; it was left out.',
  ]);
});

describe('an input picture', () => {
  test.each([
    [KONTEXT, (body: { image_url: string }) => body.image_url],
    ['black-forest-labs/FLUX.2-dev', (body: { reference_images: string[] }) => body.reference_images[0]],
  ])('goes to %s under the name that it has there', async (remote, urlIn) => {
    const stage = await openAccount(together, remote);
    const { failure } = await stage.run(stage.job({}, { files: [await stage.file('init_image', 90)] }));
    expect(failure).toBeNull();
    const picture = ofDataUrl(urlIn(stage.body() as never));
    expect((await sharp(picture).stats()).channels[0]?.mean).toBe(90);
  });

  test('is refused where the model would paint without looking at it, and so is a mask', async () => {
    const plain = await openAccount(together, REMOTE);
    const image = await plain.file('init_image', 90);
    const seen = await plain.run(plain.job({}, { files: [image] }));
    const masked = await openAccount(together, KONTEXT);
    const painted = await masked.run(masked.job({}, { files: [image, await masked.file('mask', 0, 255)] }));
    for (const { failure, refused } of [seen, painted]) {
      expect(failure).toMatchObject({ code: 'unsupported_input' });
      expect(refused).toBe(true);
    }
    expect([...plain.requests(), ...masked.requests()]).toEqual([]);
  });
});

test('links are fetched from the file host without the key', async () => {
  const linking: typeof together = {
    ...together,
    async submit(order) {
      const { call, warnings } = await together.submit(order);
      return { call: { ...call, json: { ...(call.json as object), response_format: 'url' } }, warnings };
    },
  };
  const stage = await openAccount(linking, REMOTE);
  const { failure, files } = await stage.run(stage.job());
  expect(failure).toBeNull();
  expect((await files()).map(pngSize)).toEqual([{ width: 512, height: 512 }]);
  expect(stage.double.fileLog.map(({ keys }) => keys)).toEqual([{}]);
});

test.each([
  [402, {}, 'provider_balance'],
  [400, { type: 'credit_limit' }, 'provider_balance'],
  [403, { code: null }, 'model_gone'],
  [422, { code: 'nsfw_content_detected', param: 'prompt' }, 'policy_block'],
  [422, { code: 'nsfw_content_detected', param: null }, 'safety_filter'],
  [400, { code: 'model_not_available' }, 'model_gone'],
  [422, { type: 'invalid_request_error', param: 'steps' }, 'unsupported_input'],
  [503, { type: 'server_error' }, 'node_lost'],
  [500, { type: 'server_error' }, 'node_lost'],
] as const)('%i %o is %s', (status, error, code) => {
  expect(together.refused({ status, header: () => null, body: { error } }, 'submit').code).toBe(code);
});

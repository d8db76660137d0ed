// OpenAI's images and the servers that imitate them, against a stand-in of either.

import { writeFile } from 'node:fs/promises';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { openai } from '../../src/backends/openai/provider.ts';
import type { FormFile } from '../doubles/hosted/call.ts';
import { pngSize } from '../doubles/pictures.ts';
import { greyPicture, openAccount } from './hosted-account.ts';
import { answersAtOnce } from './hosted-at-once.ts';

const OWN = 'gpt-image-1.5';
const LOCAL = 'flux.1-dev';
const local = { double: { local: true } } as const;
const SEEDLESS = expect.stringContaining('does not take seed');
const form = (body: unknown) => body as Readonly<Record<string, string & FormFile>>;

answersAtOnce({ provider: openai, remote: OWN });

test('several pictures are one request, paid once', async () => {
  const stage = await openAccount(openai, OWN);
  const { failure, files, warnings } = await stage.run(stage.job({ n: 3, width: 1536, height: 1024 }));
  expect(failure).toBeNull();
  expect(stage.body()).toEqual({
    model: OWN,
    prompt: 'a red bicycle',
    n: 3,
    size: '1536x1024',
    output_format: 'png',
  });
  expect((await files()).map(pngSize)).toEqual(Array(3).fill({ width: 1536, height: 1024 }));
  expect(warnings).toEqual([SEEDLESS]);
  expect(stage.double.paid).toHaveLength(1);
});

test.each([
  [OWN, 512, 512, '1024x1024'],
  [OWN, 1920, 1080, '1536x1024'],
  [OWN, 1000, 1400, '1024x1536'],
  ['gpt-image-2.5-sunburst', 1000, 1400, '1008x1408'],
  ['gpt-image-2.5-sunburst', 7680, 4320, '3840x2160'],
  ['gpt-image-2.5-sunburst', 2048, 256, '768x256'],
  ['gpt-image-2.5-sunburst', 4096, 4096, '2880x2880'],
])('%s asked for %ix%i makes %s, and says so', async (remote, width, height, size) => {
  const stage = await openAccount(openai, remote);
  const { failure, warnings } = await stage.run(stage.job({ width, height }));
  expect(failure).toBeNull();
  expect(stage.body()).toMatchObject({ size });
  expect(warnings).toContain(`The provider does not make ${width}x${height}; it was asked for ${size}.`);
});

test('what OpenAI has no field for is left out with a warning; its own settings come from the catalog', async () => {
  const stage = await openAccount(openai, OWN);
  const params = { negativePrompt: 'rain', steps: 20, guidance: 4, sampler: 'euler', scheduler: 'karras' };
  const { failure, warnings } = await stage.run(
    stage.job({ ...params, width: 1024, height: 1024, inputs: { quality: 'low', tone: 'warm' } }),
  );
  expect(failure).toBeNull();
  expect(Object.keys(stage.body() as object)).toEqual(['model', 'prompt', 'n', 'size', 'output_format', 'quality']);
  expect(warnings).toEqual([
    ...['negative_prompt', 'steps', 'guidance', 'sampler', 'scheduler', 'inputs.tone'].map(
      (name) => `The provider does not take ${name}; it was left out.`,
    ),
    SEEDLESS,
  ]);
});

test('an input picture goes to /images/edits as a file', async () => {
  const stage = await openAccount(openai, OWN);
  const file = await stage.file('init_image', 90);
  const { failure, files } = await stage.run(stage.job({ n: 2, strength: 0.5 }, { files: [file] }));
  expect(failure).toBeNull();
  expect(await files()).toHaveLength(2);
  const [request] = stage.requests('POST');
  expect(request?.path).toBe('/v1/images/edits');
  const { image, mask, ...fields } = form(request?.body);
  expect(fields).toEqual({ model: OWN, prompt: 'a red bicycle', n: '2', size: '1024x1024', output_format: 'png' });
  expect(image).toMatchObject({ filename: 'image.png', mime: 'image/png' });
  expect((await sharp(image?.bytes).stats()).channels[0]?.mean).toBe(90);
  expect(mask).toBeUndefined();
});

test('white of a mask becomes transparent, as large as the picture, and stays white for those who look at colours', async () => {
  const stage = await openAccount(openai, OWN);
  const smaller = await stage.file('mask', 0);
  await writeFile(smaller.path, await greyPicture(32, 24, 0, 255));
  const files = [await stage.file('init_image', 90), smaller];
  expect((await stage.run(stage.job({}, { files }))).failure).toBeNull();
  const { mask } = form(stage.body());
  expect(mask).toMatchObject({ filename: 'mask.png', mime: 'image/png' });
  const { data, info } = await sharp(mask?.bytes).raw().toBuffer({ resolveWithObject: true });
  expect(info).toMatchObject({ width: 64, height: 48, channels: 4 });
  expect([...data.subarray(0, 4)]).toEqual([255, 255, 255, 0]);
  expect([...data.subarray(-4)]).toEqual([0, 0, 0, 255]);
});

test('a mask without a picture is refused', async () => {
  const stage = await openAccount(openai, OWN);
  const { failure } = await stage.run(stage.job({}, { files: [await stage.file('mask', 0, 255)] }));
  expect(failure).toMatchObject({ code: 'unsupported_input' });
  expect(stage.requests()).toEqual([]);
});

test('one of several withheld: the others are delivered, with a warning', async () => {
  const stage = await openAccount(openai, OWN);
  stage.double.faults.next('moderation_partial');
  const { failure, files, warnings } = await stage.run(stage.job({ n: 3 }));
  expect(failure).toBeNull();
  expect(await files()).toHaveLength(2);
  expect(warnings.at(-1)).toMatch(/^1 of the pictures asked for is missing/);
});

describe('what a refusal means', () => {
  const refused = (status: number, error: unknown) =>
    openai.refused({ status, header: () => null, body: { error } }, 'submit').code;

  test.each([
    [429, { code: 'insufficient_quota', type: 'insufficient_quota' }, 'provider_balance'],
    [400, { code: 'billing_hard_limit_reached' }, 'provider_balance'],
    [403, { code: 'unsupported_country_region_territory' }, 'provider_auth'],
    [400, { code: 'moderation_blocked', moderation_details: { moderation_stage: 'input' } }, 'policy_block'],
    [400, { code: 'moderation_blocked', moderation_details: { moderation_stage: 'output' } }, 'safety_filter'],
    [400, { code: 'moderation_blocked', moderation_details: { moderation_stage: 'unknown' } }, 'safety_filter'],
    [400, { code: 'moderation_blocked' }, 'safety_filter'],
    [400, { code: 'content_policy_violation' }, 'policy_block'],
    [400, { code: 400, message: 'vLLM puts a number here' }, 'unsupported_input'],
    [400, 'prompt required', 'unsupported_input'],
    [413, { code: null }, 'too_large'],
    [503, { code: null, type: 'server_error', message: 'overloaded' }, 'node_lost'],
    [504, { code: null }, 'node_lost'],
  ] as const)('%i %o is %s', (status, error, code) => expect(refused(status, error)).toBe(code));
});

describe('a server that imitates OpenAI', () => {
  answersAtOnce({ provider: openai, remote: LOCAL, ...local });

  test('gets what diffusion models take, and the size that was asked for', async () => {
    const stage = await openAccount(openai, LOCAL, local);
    const params = { negativePrompt: 'rain', steps: 20, guidance: 4, sampler: 'euler', width: 640, height: 360 };
    const { failure, files, warnings } = await stage.run(stage.job({ ...params, n: 2 }));
    expect(failure).toBeNull();
    expect(stage.body()).toEqual({
      model: LOCAL,
      prompt: 'a red bicycle',
      n: 2,
      size: '640x360',
      output_format: 'png',
      response_format: 'b64_json',
      seed: 7,
      negative_prompt: 'rain',
      num_inference_steps: 20,
      step: 20,
      steps: 20,
      guidance_scale: 4,
    });
    expect((await files()).map(pngSize)).toEqual(Array(2).fill({ width: 640, height: 360 }));
    expect(warnings).toEqual([
      expect.stringMatching(/one seed for several pictures/),
      'The provider does not take sampler; it was left out.',
    ]);
  });

  test('may answer with links although it was asked for base64: fetched without the key', async () => {
    const stubborn: typeof openai = {
      ...openai,
      async submit(order) {
        const { call, warnings } = await openai.submit(order);
        return { call: { ...call, json: { ...(call.json as object), response_format: 'url' } }, warnings };
      },
    };
    const stage = await openAccount(stubborn, LOCAL, local);
    const { failure, files } = await stage.run(stage.job({ n: 2 }));
    expect(failure).toBeNull();
    expect((await files()).map(pngSize)).toEqual(Array(2).fill({ width: 512, height: 512 }));
    expect(stage.double.fileLog.map(({ keys }) => keys)).toEqual([{}, {}]);
  });

  test('may put the picture into a data URL', () => {
    const body = { data: [{ url: 'data:image/png;base64,AAAA' }, { b64_json: null, url: null }] };
    expect(openai.begun({ status: 200, header: () => null, body }, {} as never)).toEqual({
      outcome: { state: 'done', results: [{ base64: 'AAAA' }] },
    });
  });

  test('needs no key where it has none', () => {
    expect(openai.headers('')).toEqual({});
  });
});

// fal's queue: COMPLETED that is none, results with a status of their own, endpoints below the model's.

import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { fal } from '../../src/backends/fal/provider.ts';
import { ofDataUrl, openAccount } from './hosted-account.ts';
import { describeCancelSent, describePolled, describeUnserved, PAID_REFUSAL, type Polled } from './hosted-polled.ts';

const open = (remote = 'fal-ai/flux/dev', options = {}) => openAccount(fal, remote, options);
const fields = (body: unknown) => body as Record<string, unknown>;

const ACCOUNT: Polled = {
  provider: fal,
  remote: 'fal-ai/flux/dev',
  kind: 'image',
  own: { ...PAID_REFUSAL, invalid_params: { paid: 1, refused: false } },
  says: ['moderation_input', /content checker/],
  withholds: 'moderation_partial',
};

describePolled(ACCOUNT);
describeCancelSent(ACCOUNT, 'PUT', /^\/fal-ai\/flux\/requests\/.*\/cancel$/);

describe('a request', () => {
  it('is sent once for several pictures, and asked after by its app', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ width: 1024, height: 768, n: 3, steps: 28, guidance: 3.5 }));
    expect(ran).toMatchObject({ failure: null, warnings: [expect.stringMatching(/one seed for several pictures/)] });
    expect(stage.body()).toEqual({
      prompt: 'a red bicycle',
      seed: 7,
      image_size: { width: 1024, height: 768 },
      num_images: 3,
      output_format: 'png',
      num_inference_steps: 28,
      guidance_scale: 3.5,
    });
    expect(stage.requests('POST')[0]?.path).toBe('/fal-ai/flux/dev');
    const id = stage.double.paid[0]?.jobId;
    expect(new Set(stage.requests('GET').map(({ path }) => path))).toEqual(
      new Set([`/fal-ai/flux/requests/${id}/status`, `/fal-ai/flux/requests/${id}`]),
    );
    const files = await ran.files();
    expect(files).toHaveLength(3);
    expect(await sharp(files[0]).metadata()).toMatchObject({ format: 'png', width: 1024, height: 768 });
    expect(stage.double.paid).toHaveLength(1);
  });

  it('is split where more pictures are wanted than the model makes at once', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ n: 6 }));
    expect(stage.requests('POST').map(({ body }) => [fields(body).num_images, fields(body).seed])).toEqual([
      [4, 7],
      [2, 11],
    ]);
    expect(await ran.files()).toHaveLength(6);
    expect(stage.double.paid).toHaveLength(2);
  });

  it('tells how far it is', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job());
    expect(ran.events.flatMap((e) => (e.type === 'progress' ? [[e.fraction, e.message]] : []))).toEqual([
      [0, 'waiting for the provider'],
      [0.5, 'rendering'],
    ]);
  });

  it('is never asked after at an address that an answer names', async () => {
    const stage = await open();
    stage.double.faults.next('foreign_poll_url');
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.double.fileLog.filter(({ path }) => path.includes('/requests/'))).toEqual([]);
  });
});

describe('parameters', () => {
  it('go in the words of the model', async () => {
    const stage = await open('fal-ai/fast-lightning-sdxl');
    const ran = await stage.run(stage.job({ steps: 6, guidance: 1, negativePrompt: 'rain', scheduler: 'sgm_uniform' }));
    expect(stage.body()).toMatchObject({ num_inference_steps: '4', format: 'png' });
    expect(fields(stage.body())).not.toHaveProperty('negative_prompt');
    expect(ran.warnings).toEqual([
      'The provider does not take steps 6; it was asked for 4.',
      'The provider does not take scheduler; it was left out.',
      'The provider does not take negative_prompt; it was left out.',
      'The provider does not take guidance; it was left out.',
    ]);
  });

  it('of a negative prompt go where the model has one', async () => {
    const stage = await open('fal-ai/hidream-i1-full');
    const ran = await stage.run(stage.job({ negativePrompt: 'rain', steps: 90, guidance: 5 }));
    expect(stage.body()).toMatchObject({ negative_prompt: 'rain', num_inference_steps: 50, guidance_scale: 5 });
    expect(ran.warnings).toEqual(['The provider does not take steps 90; it was asked for 50.']);
  });

  it('of size become the nearest ratio where the model has ratios', async () => {
    const stage = await open('fal-ai/ideogram/v2');
    const ran = await stage.run(stage.job({ width: 1600, height: 1040 }));
    expect(stage.body()).toMatchObject({ aspect_ratio: '3:2' });
    expect(ran.warnings).toEqual(['The provider does not make 1600x1040; it was asked for 3:2.']);
  });

  it('of an input picture go to the endpoint for it', async () => {
    const stage = await open();
    const files = [await stage.file('init_image', 128)];
    expect((await stage.run(stage.job({ strength: 0.6 }, { files }))).failure).toBeNull();
    expect(stage.requests('POST')[0]?.path).toBe('/fal-ai/flux/dev/image-to-image');
    expect(stage.body()).toMatchObject({ strength: 0.6 });
    expect((await sharp(ofDataUrl(fields(stage.body()).image_url)).stats()).channels[0]?.mean).toBe(128);
  });

  it.each(['fal-ai/fast-sdxl', 'fal-ai/fast-sdxl/inpainting'])(
    'of a mask: white is painted anew (%s)',
    async (remote) => {
      const stage = await open(remote);
      const files = [await stage.file('init_image', 128), await stage.file('mask', 0, 255)];
      expect((await stage.run(stage.job({}, { files }))).failure).toBeNull();
      expect(stage.requests('POST')[0]?.path).toBe('/fal-ai/fast-sdxl/inpainting');
      const pixels = await sharp(ofDataUrl(fields(stage.body()).mask_url))
        .greyscale()
        .raw()
        .toBuffer();
      expect([pixels[0], pixels.at(-1)]).toEqual([255, 0]);
    },
  );
});

describeUnserved(ACCOUNT, [
  ['an input picture', 'fal-ai/flux/schnell', ['init_image'], {}],
  ['a mask', 'fal-ai/flux/dev', ['init_image', 'mask'], {}],
  ['no picture to work on', 'fal-ai/fast-sdxl/inpainting', [], {}],
  ['LoRAs', 'fal-ai/flux/dev', [], { loras: [{ name: 'style', strength: 1 }] }],
]);

describe('what goes wrong', () => {
  it('with asking for the result is no outcome either', async () => {
    const stage = await open('fal-ai/flux/dev', { double: { pace: { queuedPolls: 0, runningPolls: 0 } } });
    const run = stage.connection.run(stage.job(), new AbortController().signal)[Symbol.asyncIterator]();
    for (let next = await run.next(); !next.done && next.value.type !== 'accepted'; next = await run.next());
    stage.double.faults.on('poll_500', { times: 4 });
    const seen: string[] = [];
    for (let next = await run.next(); !next.done; next = await run.next()) seen.push(next.value.type);
    expect(seen).toEqual(['progress', 'file', 'rendered']);
  });
});

describe('after a restart', () => {
  it.each([
    ['accepted', 1],
    ['accepted', 2],
    ['progress', 2],
  ] as const)('it goes on with what it had begun (%s, %i)', async (type, count) => {
    const stage = await open();
    const remote = await stage.killedAfter(stage.job({ n: 6 }), type, count);
    const ran = await stage.resume(stage.job({ n: 6 }), remote);
    expect(await ran.files()).toHaveLength(6);
    expect(stage.double.paid).toHaveLength(2);
  });

  it('what is lost of several parts does not take the others with it', async () => {
    const stage = await open();
    const remote = await stage.killedAfter(stage.job({ n: 6 }), 'intent', 2);
    const ran = await stage.resume(stage.job({ n: 6 }), remote);
    expect(ran.failure).toBeNull();
    expect(await ran.files()).toHaveLength(4);
    expect(ran.warnings).toHaveLength(1);
    expect(stage.double.paid).toHaveLength(1);
  });
});

it('a request that was cancelled at the provider is over', async () => {
  const stage = await open();
  const remote = await stage.killedAfter(stage.job(), 'accepted');
  await stage.connection.cancel(remote, new AbortController().signal);
  expect((await stage.resume(stage.job(), remote)).failure).toMatchObject({ code: 'node_lost' });
});

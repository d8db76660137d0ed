// Replicate: predictions, a list that knows what was lost, pictures that are withheld by being missing.

import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { replicate } from '../../src/backends/replicate/provider.ts';
import { ofDataUrl, openAccount } from './hosted-account.ts';
import { describeCancelSent, describePolled, describeUnserved, type Polled } from './hosted-polled.ts';

const SCHNELL = 'black-forest-labs/flux-schnell';
const DEV = 'black-forest-labs/flux-dev';
const PRO = 'black-forest-labs/flux-1.1-pro';
const SDXL = `stability-ai/sdxl:${'7'.repeat(64)}`;
const open = (remote = SCHNELL, options = {}) => openAccount(replicate, remote, options);
const MEGAPIXEL = { width: 1024, height: 1024 };

const ACCOUNT: Polled = {
  provider: replicate,
  remote: SCHNELL,
  kind: 'image',
  own: {
    moderation_input: { code: 'safety_filter', paid: 1 },
    accept_then_drop: 'lived through',
    error_html: 'lived through',
    error_html_200: 'lived through',
  },
  says: ['balance', /Insufficient credit.*purchase/],
  withholds: 'moderation_partial',
};

describePolled(ACCOUNT);
describeCancelSent(ACCOUNT, 'POST', /\/cancel$/);

describe('a prediction', () => {
  it('is created once for several pictures, with a time by which it ends by itself', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ ...MEGAPIXEL, n: 3, steps: 4 }));
    expect(ran).toMatchObject({ failure: null, warnings: [expect.stringMatching(/one seed for several pictures/)] });
    const [post] = stage.requests('POST');
    expect(post?.path).toBe('/v1/models/black-forest-labs/flux-schnell/predictions');
    expect(post?.headers['cancel-after']).toBe('60m');
    expect(post?.body).toEqual({
      input: {
        prompt: 'a red bicycle',
        seed: 7,
        aspect_ratio: '1:1',
        num_outputs: 3,
        output_format: 'png',
        num_inference_steps: 4,
      },
    });
    expect(await ran.files()).toHaveLength(3);
    expect(stage.double.paid).toHaveLength(1);
  });

  it('is one per picture where the model makes one', async () => {
    const stage = await open(PRO);
    const ran = await stage.run(stage.job({ width: 1440, height: 960, n: 2 }));
    expect(stage.requests('POST').map(({ body }) => (body as { input: unknown }).input)).toEqual(
      [7, 8].map((seed) => ({
        prompt: 'a red bicycle',
        seed,
        aspect_ratio: 'custom',
        width: 1440,
        height: 960,
        output_format: 'png',
      })),
    );
    expect(await ran.files()).toHaveLength(2);
  });

  it.each([
    [SDXL, '/v1/predictions', { version: SDXL }],
    ['7'.repeat(64), '/v1/predictions', { version: '7'.repeat(64) }],
    ['deployments/studio/hero', '/v1/deployments/studio/hero/predictions', {}],
  ])('of %s is created where such models are', async (remote, path, more) => {
    const stage = await open(remote);
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.requests('POST')[0]).toMatchObject({ path, body: more });
  });

  it('waits, renders and is done', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job());
    expect(ran.events.flatMap((e) => (e.type === 'progress' ? [e.message] : []))).toEqual([
      'waiting for the provider',
      'rendering',
    ]);
  });
});

describe('parameters', () => {
  it('of SDXL go as they are', async () => {
    const stage = await open(SDXL);
    const asked = { width: 832, height: 1216, negativePrompt: 'rain', steps: 30, guidance: 6.5, sampler: 'euler' };
    const ran = await stage.run(stage.job(asked));
    expect(stage.body()).toEqual({
      version: SDXL,
      input: {
        prompt: 'a red bicycle',
        seed: 7,
        width: 832,
        height: 1216,
        num_outputs: 1,
        negative_prompt: 'rain',
        num_inference_steps: 30,
        guidance_scale: 6.5,
      },
    });
    expect(ran.warnings).toEqual(['The provider does not take sampler; it was left out.']);
  });

  it('of size become the nearest ratio, and what differs is said', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ width: 1600, height: 1000, steps: 12, guidance: 3 }));
    expect(stage.body()).toMatchObject({ input: { aspect_ratio: '3:2', num_inference_steps: 4 } });
    expect(ran.warnings).toEqual([
      'The provider does not make 1600x1000; it was asked for 3:2 at about one megapixel.',
      'The provider does not take steps 12; it was asked for 4.',
      'The provider does not take guidance; it was left out.',
    ]);
  });

  it('of small pictures ask for a quarter of a megapixel', async () => {
    const stage = await open();
    const ran = await stage.run(stage.job({ width: 512, height: 512 }));
    expect(stage.body()).toMatchObject({ input: { aspect_ratio: '1:1', megapixels: '0.25' } });
    expect(ran.warnings).toEqual([]);
  });

  it('of an input picture: how much is repainted is said as with us', async () => {
    const stage = await open(DEV);
    const files = [await stage.file('init_image', 128)];
    expect((await stage.run(stage.job({ strength: 0.6 }, { files }))).failure).toBeNull();
    const { input } = stage.body() as { input: Record<string, unknown> };
    expect(input).toMatchObject({ prompt_strength: 0.6 });
    expect((await sharp(ofDataUrl(input.image)).stats()).channels[0]?.mean).toBe(128);
  });

  it('of a mask: white is painted anew, as with us', async () => {
    const stage = await open(SDXL);
    const files = [await stage.file('init_image', 128), await stage.file('mask', 0, 255)];
    expect((await stage.run(stage.job({}, { files }))).failure).toBeNull();
    const { input } = stage.body() as { input: Record<string, unknown> };
    const pixels = await sharp(ofDataUrl(input.mask)).greyscale().raw().toBuffer();
    expect([pixels[0], pixels.at(-1)]).toEqual([255, 0]);
  });
});

describeUnserved(ACCOUNT, [
  ['an input picture', SCHNELL, ['init_image'], {}],
  ['a mask', DEV, ['init_image', 'mask'], {}],
  ['LoRAs', DEV, [], { loras: [{ name: 'style', strength: 1 }] }],
]);

describe('what goes wrong', () => {
  it('that was stopped at the provider is over', async () => {
    const stage = await open();
    stage.double.faults.next('aborted');
    expect(await stage.run(stage.job())).toMatchObject({ refused: false, failure: { code: 'node_lost' } });
    expect(stage.double.paid).toHaveLength(1);
  });

  it('with the address it names for questions is none: that is not asked', async () => {
    const stage = await open();
    stage.double.faults.next('foreign_poll_url');
    expect((await stage.run(stage.job())).failure).toBeNull();
    expect(stage.double.fileLog.filter(({ path }) => path.includes('/predictions/'))).toEqual([]);
  });
});

describe('a prediction whose answer was lost', () => {
  it('is not taken from the one that has the same input and is followed already', async () => {
    const stage = await open();
    const first = await stage.killedAfter(stage.job(), 'accepted');
    stage.double.faults.next('accept_then_drop');
    const second = await stage.killedAfter(stage.job(), 'accepted');
    expect(first).not.toEqual(second);
    const ids = JSON.stringify([first, second]);
    for (const { jobId } of stage.double.paid) expect(ids).toContain(jobId);
  });

  it('that never began is not taken for another’s, and not sent again', async () => {
    const stage = await open();
    await stage.killedAfter(stage.job(), 'accepted');
    stage.double.faults.next('drop_before');
    const ran = await stage.run(stage.job());
    expect(ran).toMatchObject({ refused: false, failure: { code: 'node_lost', possiblyBilled: true } });
    expect(stage.double.paid).toHaveLength(1);
  });

  it('is not guessed where two are alike', async () => {
    const stage = await open();
    const stranger = await openAccount(replicate, SCHNELL);
    const post = (seed: number) =>
      fetch(`${stage.double.url}/models/${SCHNELL}/predictions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${stage.double.key}`, 'content-type': 'application/json' },
        body: JSON.stringify({ input: { ...(stranger.body() as { input: object }).input, seed } }),
      });
    await stranger.run(stranger.job());
    await post(7);
    await post(8);
    stage.double.faults.next('accept_then_drop');
    expect((await stage.run(stage.job())).failure).toMatchObject({ code: 'node_lost', possiblyBilled: true });
    stage.double.faults.next('accept_then_drop');
    expect((await stage.run(stage.job({ seed: 9 }))).failure).toBeNull();
  });

  it('is not taken for one made from another picture', async () => {
    const stage = await open(DEV);
    const stranger = await openAccount(replicate, DEV);
    await stranger.run(stranger.job({}, { files: [await stranger.file('init_image', 128)] }));
    await fetch(`${stage.double.url}/models/${DEV}/predictions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stage.double.key}`, 'content-type': 'application/json' },
      body: JSON.stringify(stranger.body()),
    });
    stage.double.faults.next('drop_before');
    const ran = await stage.run(stage.job({}, { files: [await stage.file('init_image', 64)] }));
    expect(ran.failure).toMatchObject({ code: 'node_lost', possiblyBilled: true });
  });

  it('is found behind a hundred others', async () => {
    const stage = await open();
    const remote = await stage.killedAfter(stage.job(), 'intent');
    const sent = { input: { prompt: 'a red bicycle', seed: 7, aspect_ratio: '1:1', megapixels: '0.25' } };
    const post = (body: object) =>
      fetch(`${stage.double.url}/models/${SCHNELL}/predictions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${stage.double.key}`, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
    await post({ input: { ...sent.input, num_outputs: 1, output_format: 'png' } });
    for (let k = 0; k < 120; k++) await post({ input: { prompt: `another ${k}` } });
    const ran = await stage.resume(stage.job(), remote);
    expect(ran.failure).toBeNull();
    expect(stage.double.paid).toHaveLength(121);
  });
});

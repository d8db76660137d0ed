// What the adapters send is what the providers' own clients send when they are asked for the same: the clients' types hold
// the question, the clients themselves put it on the wire, and the stand-in's log is what both are compared by.

import { Modality } from '@google/genai';
import { toFile } from 'openai';
import { describe, expect, it } from 'vitest';
import { fal } from '../../../src/backends/fal/provider.ts';
import { gemini } from '../../../src/backends/gemini/provider.ts';
import type { Provider } from '../../../src/backends/hosted/provider.ts';
import { luma } from '../../../src/backends/luma/provider.ts';
import { openai } from '../../../src/backends/openai/provider.ts';
import { replicate } from '../../../src/backends/replicate/provider.ts';
import { abilitiesOf } from '../../../src/backends/runway/models.ts';
import { runway } from '../../../src/backends/runway/provider.ts';
import { together } from '../../../src/backends/together/provider.ts';
import type { Params } from '../../../src/domain/params.ts';
import { greyPicture, openAccount } from '../../backends/hosted-account.ts';
import { type HostedDouble, startHosted } from './hosted.ts';
import {
  falOf,
  geminiOf,
  lumaOf,
  openaiOf,
  replicateOf,
  requestsTo,
  runwayOf,
  togetherOf,
} from './official-clients.ts';
import { RUNWAY_RATIOS } from './runway-ratios.ts';

interface Pair {
  readonly provider: Provider;
  readonly remote: string;
  readonly wish: Partial<Params>;
  readonly kind?: 'image' | 'video';
  readonly pictures?: readonly ('init_image' | 'mask')[];
  readonly ask: (double: HostedDouble) => PromiseLike<unknown>;
}

const prompt = 'a red bicycle';
const seed = 7;
const url = 'https://example.com/a.png';
const GREY = 90;
const picture = await greyPicture(64, 48, GREY);
const base64 = picture.toString('base64');
const dataUrl = `data:image/png;base64,${base64}`;
const given = { pictures: ['init_image'] } as const;
const ours = { num_images: 2, output_format: 'png' } as const;

const PAIRS: Readonly<Record<string, Pair>> = {
  'OpenAI, a picture of the first generation': {
    provider: openai,
    remote: 'gpt-image-1.5',
    wish: { n: 2, width: 1536, height: 1024, inputs: { quality: 'low', background: 'opaque', moderation: 'low' } },
    ask: (double) =>
      openaiOf(double).images.generate({
        model: 'gpt-image-1.5',
        prompt,
        n: 2,
        size: '1536x1024',
        output_format: 'png',
        quality: 'low',
        background: 'opaque',
        moderation: 'low',
      }),
  },
  'OpenAI, a picture of any size': {
    provider: openai,
    remote: 'gpt-image-2',
    wish: { width: 1280, height: 720 },
    ask: (double) =>
      openaiOf(double).images.generate({ model: 'gpt-image-2', prompt, n: 1, size: '1280x720', output_format: 'png' }),
  },
  'OpenAI, a change': {
    provider: openai,
    remote: 'gpt-image-2',
    wish: { width: 1024, height: 1024, inputs: { quality: 'low' } },
    ...given,
    ask: async (double) =>
      openaiOf(double).images.edit({
        model: 'gpt-image-2',
        prompt,
        n: 1,
        size: '1024x1024',
        output_format: 'png',
        quality: 'low',
        image: [await toFile(picture, 'image.png', { type: 'image/png' })],
      }),
  },
  'Together, a picture': {
    provider: together,
    remote: 'black-forest-labs/FLUX.1-dev',
    wish: { n: 2, steps: 20, guidance: 3.5, negativePrompt: 'blur' },
    ask: (double) =>
      togetherOf(double).images.generate({
        model: 'black-forest-labs/FLUX.1-dev',
        prompt,
        n: 2,
        seed,
        width: 512,
        height: 512,
        steps: 20,
        guidance_scale: 3.5,
        negative_prompt: 'blur',
        response_format: 'base64',
        output_format: 'png',
      }),
  },
  'Together, a change': {
    provider: together,
    remote: 'black-forest-labs/FLUX.1-kontext-pro',
    wish: {},
    ...given,
    ask: (double) =>
      togetherOf(double).images.generate({
        model: 'black-forest-labs/FLUX.1-kontext-pro',
        prompt,
        n: 1,
        seed,
        width: 512,
        height: 512,
        image_url: dataUrl,
        response_format: 'base64',
        output_format: 'png',
      }),
  },
  'Together, a picture after another': {
    provider: together,
    remote: 'black-forest-labs/FLUX.2-pro',
    wish: { width: null, height: null },
    ...given,
    ask: (double) =>
      togetherOf(double).images.generate({
        model: 'black-forest-labs/FLUX.2-pro',
        prompt,
        n: 1,
        seed,
        reference_images: [dataUrl],
        response_format: 'base64',
        output_format: 'png',
      }),
  },
  'Gemini, a picture': {
    provider: gemini,
    remote: 'gemini-3-pro-image',
    wish: { width: 1920, height: 1080 },
    ask: (double) =>
      geminiOf(double, 'v1beta').models.generateContent({
        model: 'gemini-3-pro-image',
        contents: prompt,
        config: { responseModalities: [Modality.IMAGE], seed, imageConfig: { aspectRatio: '16:9', imageSize: '2K' } },
      }),
  },
  'Gemini, a change': {
    provider: gemini,
    remote: 'gemini-2.5-flash-image',
    wish: {},
    ...given,
    ask: (double) =>
      geminiOf(double, 'v1beta').models.generateContent({
        model: 'gemini-2.5-flash-image',
        contents: [{ inlineData: { mimeType: 'image/png', data: base64 } }, prompt],
        config: { responseModalities: [Modality.IMAGE], seed, imageConfig: { aspectRatio: '1:1' } },
      }),
  },
  'Replicate, an official model': {
    provider: replicate,
    remote: 'black-forest-labs/flux-schnell',
    wish: { n: 2, width: 1024, height: 1024, steps: 4 },
    ask: (double) =>
      replicateOf(double).predictions.create({
        model: 'black-forest-labs/flux-schnell',
        input: { prompt, seed, num_outputs: 2, aspect_ratio: '1:1', num_inference_steps: 4, output_format: 'png' },
      }),
  },
  'Replicate, a version': {
    provider: replicate,
    remote: 'f'.repeat(64),
    wish: { strength: 0.5 },
    ...given,
    ask: (double) =>
      replicateOf(double).predictions.create({
        version: 'f'.repeat(64),
        input: { prompt, seed, width: 512, height: 512, num_outputs: 1, image: dataUrl, prompt_strength: 0.5 },
      }),
  },
  'fal, a picture': {
    provider: fal,
    remote: 'fal-ai/flux/dev',
    wish: { n: 2, steps: 28, guidance: 3.5 },
    ask: (double) =>
      falOf(double).queue.submit('fal-ai/flux/dev', {
        input: {
          prompt,
          seed,
          ...ours,
          image_size: { width: 512, height: 512 },
          num_inference_steps: 28,
          guidance_scale: 3.5,
        },
      }),
  },
  'fal, an SDXL picture': {
    provider: fal,
    remote: 'fal-ai/fast-sdxl',
    wish: { negativePrompt: 'blur', steps: 25, guidance: 7 },
    ask: (double) =>
      falOf(double).queue.submit('fal-ai/fast-sdxl', {
        input: {
          prompt,
          seed,
          num_images: 1,
          format: 'png',
          image_size: { width: 512, height: 512 },
          negative_prompt: 'blur',
          num_inference_steps: 25,
          guidance_scale: 7,
        },
      }),
  },
  'fal, a lightning picture': {
    provider: fal,
    remote: 'fal-ai/fast-lightning-sdxl',
    wish: { steps: 4 },
    ask: (double) =>
      falOf(double).queue.submit('fal-ai/fast-lightning-sdxl', {
        input: {
          prompt,
          seed,
          num_images: 1,
          format: 'png',
          image_size: { width: 512, height: 512 },
          num_inference_steps: '4',
        },
      }),
  },
  'fal, a change': {
    provider: fal,
    remote: 'fal-ai/flux/dev',
    wish: { n: 2, strength: 0.5, width: null, height: null },
    ...given,
    ask: (double) =>
      falOf(double).queue.submit('fal-ai/flux/dev/image-to-image', {
        input: { prompt, seed, ...ours, image_url: dataUrl, strength: 0.5 },
      }),
  },
  'fal, a part of a picture': {
    provider: fal,
    remote: 'fal-ai/fast-sdxl',
    wish: { strength: 0.5, width: null, height: null },
    pictures: ['init_image', 'mask'],
    ask: (double) =>
      falOf(double).queue.submit('fal-ai/fast-sdxl/inpainting', {
        input: {
          prompt,
          seed,
          num_images: 1,
          format: 'png',
          image_url: dataUrl,
          mask_url: dataUrl,
          strength: 0.5,
        },
      }),
  },
  'Runway, a clip': {
    provider: runway,
    remote: 'gen4.5',
    wish: { width: 1280, height: 720, inputs: { seconds: 8 } },
    kind: 'video',
    ask: (double) =>
      runwayOf(double).textToVideo.create({
        model: 'gen4.5',
        promptText: prompt,
        ratio: '1280:720',
        duration: 8,
        seed,
      }),
  },
  'Runway, a clip from a picture': {
    provider: runway,
    remote: 'gen4.5',
    wish: { width: 960, height: 960 },
    kind: 'video',
    ...given,
    ask: (double) =>
      runwayOf(double).imageToVideo.create({
        model: 'gen4.5',
        promptText: prompt,
        promptImage: dataUrl,
        ratio: '960:960',
        duration: 5,
        seed,
      }),
  },
  'Runway, a clip of another maker': {
    provider: runway,
    remote: 'veo3.1',
    wish: { width: 1080, height: 1920, negativePrompt: 'blur', inputs: { seconds: 6 } },
    kind: 'video',
    ask: (double) =>
      runwayOf(double).textToVideo.create({
        model: 'veo3.1',
        promptText: prompt,
        ratio: '1080:1920',
        duration: 6,
        negativePrompt: 'blur',
      }),
  },
  'Runway, a picture after another': {
    provider: runway,
    remote: 'gen4_image',
    wish: { width: 1024, height: 1024 },
    ...given,
    ask: (double) =>
      runwayOf(double).textToImage.create({
        model: 'gen4_image',
        promptText: prompt,
        ratio: '1024:1024',
        referenceImages: [{ uri: dataUrl }],
        seed,
      }),
  },
  'Luma, a clip from a picture': {
    provider: luma,
    remote: 'ray-2',
    wish: { width: 1280, height: 720, initImage: { kind: 'url', url }, inputs: { seconds: 9 } },
    kind: 'video',
    ...given,
    ask: (double) =>
      lumaOf(double).generations.video.create({
        model: 'ray-2',
        prompt,
        duration: '9s',
        aspect_ratio: '16:9',
        resolution: '720p',
        keyframes: { frame0: { type: 'image', url } },
      }),
  },
  'Luma, a change': {
    provider: luma,
    remote: 'photon-1',
    wish: { initImage: { kind: 'url', url }, strength: 0.5 },
    ...given,
    ask: (double) =>
      lumaOf(double).generations.image.create({
        model: 'photon-1',
        prompt,
        format: 'png',
        aspect_ratio: '1:1',
        modify_image_ref: { url, weight: 0.5 },
      }),
  },
};

const sentTo = (double: HostedDouble) => requestsTo(double, 'POST').map(({ path, body }) => ({ path, body }));

describe("an adapter sends what the provider's own client would", () => {
  it.each(Object.entries(PAIRS))('%s', async (_, { provider, remote, wish, kind = 'image', pictures = [], ask }) => {
    const stage = await openAccount(provider, remote);
    const files = await Promise.all(pictures.map((role) => stage.file(role, GREY)));
    const { failure } = await stage.run(stage.job(wish, { kind, files }));
    expect(failure).toBeNull();
    await using double = await startHosted(provider.kind);
    await ask(double);
    expect(sentTo(stage.double)).toEqual(sentTo(double));
  });

  it('OpenAI, a change: without the parameters that its form does not have', async () => {
    const stage = await openAccount(openai, 'gpt-image-2');
    const files = [await stage.file('init_image', GREY)];
    const inputs = { moderation: 'low', quality: 'low' };
    const { failure, warnings } = await stage.run(stage.job({ inputs, width: 1024, height: 1024 }, { files }));
    expect(failure).toBeNull();
    expect(warnings).toContain('The provider does not take inputs.moderation; it was left out.');
    expect(stage.body()).toMatchObject({ quality: 'low' });
    expect(stage.body()).not.toHaveProperty('moderation');
  });
});

it.each(RUNWAY_RATIOS)("Runway's %s knows every frame of %s", (path, model, ratios) => {
  expect([...abilitiesOf(model, path).ratios].sort()).toEqual([...ratios].sort());
});

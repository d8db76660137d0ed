// fal's queue takes any body and the model complains later, perhaps paid: so what is sent to each endpoint of the catalog
// is held to that endpoint's own input type, and to what the stand-in was sent.

import type { EndpointTypeMap } from '@fal-ai/client/endpoints';
import { describe, expect, it } from 'vitest';
import { fal } from '../../../src/backends/fal/provider.ts';
import type { Params } from '../../../src/domain/params.ts';
import { greyPicture, openAccount } from '../../backends/hosted-account.ts';

const GREY = 90;
const url = `data:image/png;base64,${(await greyPicture(64, 48, GREY)).toString('base64')}`;
const base = { prompt: 'a red bicycle', seed: 7 };
const image_size = { width: 512, height: 512 };
const sized = { ...base, image_size };
const png = { num_images: 2, output_format: 'png' } as const;
const sdxl = { num_images: 2, format: 'png' } as const;
const full = { negativePrompt: 'blur', steps: 20, guidance: 5 };
const spelled = { negative_prompt: 'blur', num_inference_steps: 20, guidance_scale: 5 };

type Sent = { readonly [Endpoint in keyof EndpointTypeMap]?: EndpointTypeMap[Endpoint]['input'] };
const SENT = {
  'fal-ai/flux/schnell': { ...sized, ...png, num_inference_steps: 4 },
  'fal-ai/flux-1/dev': { ...sized, ...png, num_inference_steps: 20, guidance_scale: 5 },
  'fal-ai/flux-pro/v1.1': { ...sized, ...png },
  'fal-ai/flux-pro/v1.1-ultra': { ...base, ...png, aspect_ratio: '1:1' },
  'fal-ai/flux-pro/kontext': { ...base, ...png, aspect_ratio: '1:1', image_url: url },
  'fal-ai/playground-v25': { ...sized, ...sdxl, ...spelled },
  'fal-ai/hidream-i1-full': { ...sized, ...png, ...spelled },
  'fal-ai/fast-sdxl/image-to-image': { ...sized, ...sdxl, image_url: url, strength: 0.5 },
  'fal-ai/fast-lightning-sdxl/image-to-image': { ...sized, ...sdxl, image_url: url, strength: 0.5 },
  'fal-ai/hidream-i1-full/image-to-image': { ...sized, ...png, image_url: url, strength: 0.5 },
  'fal-ai/ideogram/v2': { ...base, aspect_ratio: '1:1', negative_prompt: 'blur' },
} satisfies Sent;

const WISHES: Readonly<Record<keyof typeof SENT, Partial<Params>>> = {
  'fal-ai/flux/schnell': { n: 2, steps: 4 },
  'fal-ai/flux-1/dev': { n: 2, steps: 20, guidance: 5 },
  'fal-ai/flux-pro/v1.1': { n: 2, steps: 20, guidance: 5 },
  'fal-ai/flux-pro/v1.1-ultra': { n: 2 },
  'fal-ai/flux-pro/kontext': { n: 2 },
  'fal-ai/playground-v25': { n: 2, ...full },
  'fal-ai/hidream-i1-full': { n: 2, ...full },
  'fal-ai/fast-sdxl/image-to-image': { n: 2, strength: 0.5 },
  'fal-ai/fast-lightning-sdxl/image-to-image': { n: 2, strength: 0.5 },
  'fal-ai/hidream-i1-full/image-to-image': { n: 2, strength: 0.5 },
  'fal-ai/ideogram/v2': { negativePrompt: 'blur' },
};

describe('fal is sent what the endpoint takes', () => {
  it.each(Object.keys(SENT) as (keyof typeof SENT)[])('%s', async (endpoint) => {
    const stage = await openAccount(fal, endpoint);
    const files = 'image_url' in SENT[endpoint] ? [await stage.file('init_image', GREY)] : [];
    expect((await stage.run(stage.job(WISHES[endpoint], { files }))).failure).toBeNull();
    expect(stage.double.paid).toMatchObject([{ model: endpoint }]);
    expect(stage.body()).toEqual(SENT[endpoint]);
  });
});

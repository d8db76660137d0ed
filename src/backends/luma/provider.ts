// Luma Dream Machine: clips and pictures, one to a job. It takes no seed, so nothing can be repeated there, and equal
// requests cannot be told apart in its list: a job whose answer was lost is not looked for. It fetches input pictures
// itself, so only one that was given by a public address can be passed on. Deleting a generation is its only way of
// cancelling, and destroys one that is finished.

import { z } from 'zod';
import { Refusal } from '../backend.ts';
import { MODERATED, mustBeAbout, readReply, told } from '../hosted/answered.ts';
import {
  LENGTH_INPUTS,
  leftOut,
  lengthOf,
  nearest,
  nearestRatio,
  notThatShape,
  type Size,
  sizeOf,
} from '../hosted/asked.ts';
import { keptAt, refusedInWords } from '../hosted/at-an-address.ts';
import type { Call, Order, Outcome, Provider } from '../hosted/provider.ts';

const RATIOS = ['1:1', '16:9', '9:16', '4:3', '3:4', '21:9', '9:21'];
const LENGTHS = [5, 9];
/** The height of each at 16:9. */
const RESOLUTIONS = { '540p': 540, '720p': 720, '1080p': 1080, '4k': 2160 } as const;

const Generation = z.object({
  id: z.string(),
  state: z.string(),
  failure_reason: z.string().nullish(),
  assets: z.object({ video: z.string().nullish(), image: z.string().nullish() }).nullish(),
});

export const luma: Provider = {
  kind: 'luma',
  makes: ['image', 'video'],
  baseUrl: 'https://api.lumalabs.ai/dream-machine/v1',
  fileHosts: ['lumalabs.ai', 'cdn-luma.com'],
  answerMs: 60_000,
  pollMs: [2000, 8000],
  headers: (token) => ({ authorization: `Bearer ${token}` }),
  most: () => 1,
  takes: () => ['prompt', 'init_image'],

  submit(order) {
    return order.job.kind === 'video' ? clip(order) : picture(order);
  },

  ...keptAt('/generations'),
  polled(reply, reference): Outcome {
    const { id, state, failure_reason, assets } = readReply(Generation, reply);
    mustBeAbout(id, reference.id);
    if (state === 'failed')
      return { state: 'failed', failure: told(MODERATED.test(failure_reason ?? '') ? 'safety_filter' : 'model_error') };
    if (state !== 'completed') return { state: 'running', ...(state === 'queued' ? { message: 'queued' } : {}) };
    const url = assets?.video ?? assets?.image;
    return { state: 'done', results: url ? [{ url }] : [] };
  },

  refused: refusedInWords('detail', 'key'),
};

interface Submit {
  readonly call: Call;
  readonly warnings: readonly string[];
}

function clip(order: Order): Submit {
  const { params } = order;
  const shape = shapeOf(order);
  const seconds = lengthOf(params, LENGTHS, 5);
  const size = sizeOf(params);
  const first = addressOf(order);
  const json = {
    model: order.remote,
    prompt: params.prompt,
    duration: `${seconds}s`,
    ...(size === null ? {} : { aspect_ratio: shape.ratio, resolution: resolutionOf(size) }),
    ...(first === null ? {} : { keyframes: { frame0: { type: 'image', url: first } } }),
  };
  return {
    call: { method: 'POST', path: '/generations/video', json },
    warnings: [
      ...leftOut(params, ['negativePrompt', 'steps', 'guidance', 'sampler', 'scheduler', 'strength'], LENGTH_INPUTS),
      ...shape.warnings,
    ],
  };
}

function picture(order: Order): Submit {
  const { params } = order;
  const shape = shapeOf(order);
  const from = addressOf(order);
  const weight = params.strength === null ? {} : { weight: 1 - params.strength };
  const json = {
    model: order.remote,
    prompt: params.prompt,
    format: 'png',
    ...(shape.ratio === null ? {} : { aspect_ratio: shape.ratio }),
    ...(from === null ? {} : { modify_image_ref: { url: from, ...weight } }),
  };
  return {
    call: { method: 'POST', path: '/generations/image', json },
    warnings: [...leftOut(params, ['negativePrompt', 'steps', 'guidance', 'sampler', 'scheduler']), ...shape.warnings],
  };
}

/** Where Luma itself can fetch the picture. */
function addressOf({ initImage, params }: Order): string | null {
  if (initImage === null) return null;
  if (params.initImage?.kind === 'url') return params.initImage.url;
  throw new Refusal(
    'unsupported_input',
    'The provider fetches input pictures itself: give init_image as a public https: address.',
  );
}

function shapeOf({ params }: Order): { readonly ratio: string | null; readonly warnings: readonly string[] } {
  const size = sizeOf(params);
  if (size === null) return { ratio: null, warnings: [] };
  const { ratio, exact } = nearestRatio(size, RATIOS);
  return { ratio, warnings: exact ? [] : [notThatShape(size, ratio)] };
}

/** By area, as it is billed: the class is named after the height of a 16:9 frame. */
function resolutionOf({ width, height }: Size): string {
  const side = Math.sqrt((width * height * 9) / 16);
  return nearest(Object.entries(RESOLUTIONS), ([, one]) => Math.abs(one - side))[0];
}

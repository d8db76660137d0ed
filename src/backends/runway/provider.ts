// Runway: clips and pictures as tasks behind a version header. A DELETE cancels a task that waits or runs and destroys
// one that is done; questions come no more often than every five seconds; a moderated task costs as much as any other.

import { z } from 'zod';
import { Refusal } from '../backend.ts';
import { mustBeAbout, readReply, told } from '../hosted/answered.ts';
import { LENGTH_INPUTS, leftOut, lengthOf, notThatShape, type Size, sizeOf } from '../hosted/asked.ts';
import { keptAt, refusedInWords } from '../hosted/at-an-address.ts';
import type { Call, Order, Outcome, Provider } from '../hosted/provider.ts';
import { abilitiesOf, ratioFor } from './models.ts';
import { pictureUri } from './pictures.ts';

const VERSION = '2024-11-06';
/** Seeds beyond it are folded: the same seed still asks for the same clip. */
const SEEDS = 2 ** 32;
const LENGTH = 5;

const Task = z.object({
  id: z.string(),
  status: z.string(),
  progress: z.number().nullish(),
  failureCode: z.string().nullish(),
  output: z.array(z.string()).nullish(),
});

export const runway: Provider = {
  kind: 'runway',
  makes: ['image', 'video'],
  baseUrl: 'https://api.dev.runwayml.com',
  /** Results lie at a content network, whose addresses are not promised; they are fetched without the key. */
  fileHosts: ['runwayml.com', 'cloudfront.net'],
  answerMs: 60_000,
  /** After the spread of the pauses, never below five seconds. */
  pollMs: [6000, 15_000],
  headers: (token) => ({ authorization: `Bearer ${token}`, 'x-runway-version': VERSION }),
  most: () => 1,
  takes: () => ['prompt', 'init_image'],

  async submit(order) {
    return order.job.kind === 'video' ? clip(order) : picture(order);
  },

  ...keptAt('/v1/tasks'),
  polled(reply, reference): Outcome {
    const task = readReply(Task, reply);
    mustBeAbout(task.id, reference.id);
    if (task.status === 'SUCCEEDED') return { state: 'done', results: (task.output ?? []).map((url) => ({ url })) };
    if (task.status === 'FAILED') return { state: 'failed', failure: failureOf(task.failureCode ?? '') };
    if (task.status === 'CANCELLED')
      return { state: 'failed', failure: told('model_error', 'The job was cancelled at the provider.') };
    if (task.status === 'RUNNING') return { state: 'running', fraction: task.progress ?? 0, message: 'running' };
    return { state: 'running' };
  },

  refused: refusedInWords('error'),
};

async function clip(order: Order) {
  const { params, initImage } = order;
  const able = abilitiesOf(order.remote, initImage === null ? 'text_to_video' : 'image_to_video');
  const duration = lengthOf(params, able.lengths, LENGTH);
  const first = initImage === null ? {} : { promptImage: await pictureUri(initImage) };
  return call(order, able, { ...first, duration });
}

async function picture(order: Order) {
  const { initImage } = order;
  const able = abilitiesOf(order.remote, 'text_to_image');
  const from = initImage === null ? {} : { referenceImages: [{ uri: await pictureUri(initImage) }] };
  return call(order, able, from);
}

function call(order: Order, able: ReturnType<typeof abilitiesOf>, more: object) {
  const { params, seed, remote } = order;
  const size = sizeOf(params);
  const frame = frameOf(order, able, size);
  const json = {
    model: remote,
    promptText: params.prompt,
    ...(frame === null ? {} : { ratio: frame.ratio }),
    ...more,
    ...(able.seed ? { seed: seed % SEEDS } : {}),
    ...(able.negative && params.negativePrompt ? { negativePrompt: params.negativePrompt } : {}),
  };
  const ignored = ['steps', 'guidance', 'sampler', 'scheduler', 'strength'] as const;
  return {
    call: { method: 'POST', path: `/v1/${able.path}`, json } satisfies Call,
    warnings: [
      ...leftOut(
        params,
        able.negative ? ignored : ['negativePrompt', ...ignored],
        able.lengths.length ? LENGTH_INPUTS : [],
      ),
      ...(size === null || frame === null || frame.exact ? [] : [notThatShape(size, frame.ratio.replace(':', 'x'))]),
    ],
  };
}

/** Null where the model is left to choose. */
function frameOf({ remote }: Order, { ratios }: ReturnType<typeof abilitiesOf>, size: Size | null) {
  if (ratios.length > 0) return ratioFor(size, ratios);
  if (size === null) return null;
  throw new Refusal('unsupported_input', `Which sizes ${remote} makes is not known here; ask for no width and height.`);
}

function failureOf(code: string) {
  if (/^(SAFETY\.INPUT|INPUT_PREPROCESSING\.SAFETY)/.test(code)) return told('policy_block');
  if (code.startsWith('SAFETY')) return told('safety_filter');
  return told(/^(INPUT_PREPROCESSING|ASSET)\./.test(code) ? 'unsupported_input' : 'model_error');
}

// Black Forest Labs: one picture per task, asked about at the address the task itself names (tasks live in a region, and
// the general address knows them only for a while). Moderation and failure are statuses of a 200. Tasks cannot be cancelled,
// and a result's link dies within minutes; asking again brings a fresh one.

import { z } from 'zod';
import { mustBeAbout, readReply, refusedPoll, refusedSubmit, told } from '../hosted/answered.ts';
import { brought, leftOut, nearestRatio, notThatShape, sizeOf, within } from '../hosted/asked.ts';
import type { Order, Outcome, Provider, Reply } from '../hosted/provider.ts';
import { fitted, type Model, modelOf } from './models.ts';

const RATIOS = ['1:1', '16:9', '9:16', '4:3', '3:4', '3:2', '2:3', '21:9', '9:21'];

const Begun = z.object({ id: z.string().min(1), polling_url: z.string().nullish() });
const Polled = z.object({
  id: z.string(),
  status: z.string(),
  result: z.object({ sample: z.string().nullish() }).nullish(),
  progress: z.number().nullish(),
});

export const bfl: Provider = {
  kind: 'bfl',
  makes: ['image'],
  baseUrl: 'https://api.bfl.ai',
  apiHosts: ['bfl.ai'],
  fileHosts: ['bfl.ai', 'bfldeliverysc.blob.core.windows.net', 'bfldeliveryprod.blob.core.windows.net'],
  answerMs: 60_000,
  pollMs: [500, 3_000],
  headers: (token) => ({ 'x-key': token }),
  most: () => 1,
  takes(remote) {
    const { picture, mask } = modelOf(remote);
    return picture === 'image'
      ? ['init_image', 'mask']
      : ['prompt', 'init_image', ...(mask ? (['mask'] as const) : [])];
  },
  submit(order) {
    const model = modelOf(order.remote);
    const { fields, warnings } = bodyOf(order, model);
    const path = `/v1/${encodeURIComponent(order.remote)}`;
    return { call: { method: 'POST', path, json: fields }, warnings };
  },
  begun(reply) {
    const { id, polling_url } = readReply(Begun, reply);
    return { reference: { id, ...(polling_url ? { at: polling_url } : {}) } };
  },
  poll({ id, at }) {
    const path = `/v1/get_result?id=${encodeURIComponent(String(id))}`;
    return { method: 'GET', path, ...(typeof at === 'string' ? { at } : {}) };
  },
  polled: (reply, { id }) => outcomeOf(reply, id),
  refused: (reply, stage) => (stage === 'poll' ? refusedPoll(reply, 'key') : refusedSubmit(reply, 'key')),
};

function bodyOf({ params, seed, initImage, mask }: Order, model: Model) {
  const { prompt, steps, guidance, strength } = params;
  const size = sizeFields(params, model);
  const numbers = {
    ...(model.steps && steps !== null ? { steps: within(steps, model.steps) } : {}),
    ...(model.guidance && guidance !== null ? { guidance: within(guidance, model.guidance) } : {}),
  };
  const weighs = model.weight !== undefined && initImage !== null && strength !== null;
  const fields = {
    prompt,
    seed: seed % 2 ** 32,
    output_format: 'png',
    ...size.fields,
    ...numbers,
    ...(initImage === null ? {} : { [model.picture]: initImage.bytes.toString('base64') }),
    ...(weighs ? { [model.weight ?? '']: 1 - strength } : {}),
    ...(mask === null ? {} : { mask: mask.bytes.toString('base64') }),
  };
  const warnings = [
    ...size.warnings,
    ...brought('steps', steps, numbers.steps),
    ...brought('guidance', guidance, numbers.guidance),
    ...leftOut(params, [
      'negativePrompt',
      'sampler',
      'scheduler',
      ...(model.steps ? [] : (['steps'] as const)),
      ...(model.guidance ? [] : (['guidance'] as const)),
      ...(weighs || initImage === null ? [] : (['strength'] as const)),
    ]),
  ];
  return { fields, warnings };
}

function sizeFields(params: Order['params'], { size }: Model) {
  const wanted = sizeOf(params);
  if (wanted === null || size === 'of the input picture') return { fields: {}, warnings: [] };
  if (size === 'ratio') {
    const { ratio, exact } = nearestRatio(wanted, RATIOS);
    return { fields: { aspect_ratio: ratio }, warnings: exact ? [] : [notThatShape(wanted, ratio)] };
  }
  const made = fitted(params, size) ?? wanted;
  const same = made.width === wanted.width && made.height === wanted.height;
  return { fields: made, warnings: same ? [] : [notThatShape(wanted, `${made.width}x${made.height}`)] };
}

function outcomeOf(reply: Reply, asked: unknown): Outcome {
  const { id, status, result, progress } = readReply(Polled, reply);
  mustBeAbout(id, asked);
  switch (status) {
    case 'Ready':
      return { state: 'done', results: result?.sample ? [{ url: result.sample }] : [] };
    case 'Request Moderated':
      return { state: 'failed', failure: told('policy_block') };
    case 'Content Moderated':
      return { state: 'failed', failure: told('safety_filter') };
    case 'Error':
      return { state: 'failed', failure: told('model_error') };
    case 'Task not found':
      return { state: 'unknown' };
    default:
      return { state: 'running', ...(progress == null ? {} : { fraction: progress }) };
  }
}

// Runway: tasks behind a version header. A DELETE cancels a task that runs and destroys one that is done, data and all.

import type { TaskRetrieveResponse } from '@runwayml/sdk/resources/tasks';
import type { TextToVideoCreateResponse } from '@runwayml/sdk/resources/text-to-video';
import { type Answer, type Call, type Fields, json, number, Refused, text, whole } from './call.ts';
import type { Job, Order, Phase } from './jobs.ts';
import { bearer, type House, type JobRoute, type Provider, type SubmitRoute } from './provider.ts';
import { RUNWAY_RATIOS } from './runway-ratios.ts';
import { worksOf } from './works.ts';

const error = (status: number, words: string, more: Fields = {}): Answer => json(status, { error: words, ...more });
const issue = (field: string, message: string, code = 'invalid_value'): Answer =>
  error(400, 'Validation of body failed', {
    issues: [{ code, path: [field], message }],
    docUrl: 'https://docs.dev.runwayml.com/api',
  });
const VERSION = '2024-11-06';
const CREDITS = { credits: 25 } as const;

export const runway = (): Provider => ({
  base: '',
  ids: 'uuid',
  renews: true,
  lacks: ['moderation_partial', 'foreign_poll_url', 'aborted'],
  keyOf: (call) => bearer(call),
  says: {
    auth: error(401, 'The API key provided is not valid.'),
    balance: error(400, 'You do not have enough credits to run this task.'),
    limited: () => error(429, 'You have exceeded the maximum number of requests.'),
    invalid: issue('duration', 'Too big: expected number to be <=10', 'too_big'),
    moderated: null,
    gone: (model) => error(404, `Model ${model} is not available`),
    trouble: (status) => error(status, status === 503 ? 'Service unavailable' : 'An unexpected error occurred'),
    unknownJob: () => error(404, 'Task not found'),
    cancelRefused: error(404, 'Task not found'),
  },
  routes: (house) => [create(house), ...about(house)],
});

const create = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/v1\/(?<kind>text_to_video|image_to_video|text_to_image)$/,
  read: (call, { kind = '' }) => {
    versioned(call);
    return read(call, kind);
  },
  answer: (job) => json(200, { id: house.idShown(job), estimatedCost: CREDITS } satisfies TextToVideoCreateResponse),
});

function versioned({ headers }: Call): void {
  if (headers['x-runway-version'] !== VERSION)
    throw new Refused(error(400, `This endpoint requires the header X-Runway-Version: ${VERSION}`));
}

function read({ body }: Call, kind: string): Order {
  const refuse = (field: string, message: string) => new Refused(issue(field, message));
  const model = text(body.model);
  if (model === '') throw refuse('model', 'Required');
  const prompt = text(body.promptText);
  if (kind !== 'image_to_video' && (prompt === '' || prompt.length > 1000))
    throw refuse('promptText', 'Must have between 1 and 1000 characters');
  if (kind === 'image_to_video' && body.promptImage === undefined) throw refuse('promptImage', 'Required');
  if (model === 'gen4.5' && prompt === '') throw refuse('promptText', 'Required');
  if (model === 'gen4.5' && body.duration === undefined) throw refuse('duration', 'Required');
  if (model === 'gen4_image_turbo' && !Array.isArray(body.referenceImages)) throw refuse('referenceImages', 'Required');
  const ratio = text(body.ratio);
  const ratios = RUNWAY_RATIOS.find(([one, name]) => one === kind && name === model)?.[2];
  if (ratios && !ratios.includes(ratio)) throw refuse('ratio', `Must be one of ${ratios.join(', ')}`);
  const [, w = '1280', h = '720'] = /^(\d+):(\d+)$/.exec(ratio) ?? [];
  if (kind !== 'text_to_image' && body.duration !== undefined && !whole(number(body.duration, 5), 2, 10))
    throw refuse('duration', 'Must be between 2 and 10');
  if (body.seed !== undefined && !whole(number(body.seed, 0), 0, 4_294_967_295)) throw refuse('seed', 'Out of range');
  const format = kind === 'text_to_image' ? 'png' : 'mp4';
  return {
    model,
    prompt,
    count: 1,
    width: Number(w),
    height: Number(h),
    format,
    seed: number(body.seed, 0),
    input: body,
  };
}

const about = (house: House): JobRoute[] => {
  const path = /^\/v1\/tasks\/(?<id>[0-9a-f-]{36})$/;
  return [
    {
      role: 'poll',
      method: 'GET',
      path,
      vanishes: true,
      answer: async (job, phase, call) => {
        versioned(call);
        return json(200, await view(house, job, phase));
      },
    },
    {
      role: 'cancel',
      method: 'DELETE',
      path,
      answer(job, _phase, call) {
        versioned(call);
        if (!house.jobs.cancel(job)) house.jobs.remove(job);
        return { status: 204 };
      },
    },
  ];
};

type Task = TaskRetrieveResponse | (Omit<TaskRetrieveResponse.Pending, 'status'> & { readonly status: 'HIBERNATING' });

async function view(house: House, job: Job, phase: Phase): Promise<Task> {
  const shown = { id: house.idShown(job), createdAt: new Date(job.at).toISOString() };
  if (phase === 'cancelled') return { ...shown, status: 'CANCELLED', cost: CREDITS };
  if (phase !== 'done') {
    if (job.fate.has('unknown_status')) return { ...shown, status: 'HIBERNATING', estimatedCost: CREDITS };
    if (phase === 'running') return { ...shown, status: 'RUNNING', progress: 0.5, estimatedCost: CREDITS };
    return { ...shown, status: job.polls > 1 ? 'THROTTLED' : 'PENDING', estimatedCost: CREDITS };
  }
  const failed = failureOf(job);
  if (failed) return { ...shown, status: 'FAILED', ...failed, cost: CREDITS };
  return {
    ...shown,
    status: 'SUCCEEDED',
    output: (await worksOf(job)).map((work) => house.link(job, work)),
    cost: CREDITS,
  };
}

function failureOf({ fate }: Job): Pick<TaskRetrieveResponse.Failed, 'failure' | 'failureCode'> | null {
  if (fate.has('moderation_input'))
    return { failure: 'Content moderation failed on the input.', failureCode: 'SAFETY.INPUT.TEXT' };
  if (fate.has('moderation_output'))
    return { failure: 'Content moderation failed on the output.', failureCode: 'SAFETY.OUTPUT.THIRD_PARTY' };
  return fate.has('failed_opaque')
    ? { failure: 'An unexpected error occurred.', failureCode: 'INTERNAL.BAD_OUTPUT.CODE01' }
    : null;
}

// Black Forest Labs: a task and its polling_url; moderation and failure are statuses of a 200. FastAPI's 422s. No cancel.

import { type Answer, type Fields, json, number, Refused, sizeOfRatio, text, whole } from './call.ts';
import type { Job, Order, Phase } from './jobs.ts';
import type { House, Provider, Route } from './provider.ts';
import { worksOf } from './works.ts';

const invalid = (field: string, msg: string, type: string): Answer =>
  json(422, { detail: [{ type, loc: ['body', field], msg, input: null }] });
const taskNotFound = (id: string) =>
  json(200, { id, status: 'Task not found', result: null, progress: null, details: null, preview: null });

interface Range {
  readonly least: number;
  readonly most: number;
  readonly step: number;
}
const SIDES: Range = { least: 256, most: 1440, step: 32 };
const SIDES_2: Range = { least: 64, most: 2048, step: 16 };
const FILL = { steps: { least: 15, most: 50, step: 1 }, guidance: { least: 1.5, most: 100, step: 0 } };
const NUMBERS: Readonly<Record<string, Readonly<Record<string, Range>>>> = {
  'flux-dev': { steps: { least: 1, most: 50, step: 1 }, guidance: { least: 1.5, most: 5, step: 0 } },
  'flux-pro-1.0-fill': FILL,
  'flux-pro-1.0-expand': FILL,
  'flux-pro-1.1-ultra': { image_prompt_strength: { least: 0, most: 1, step: 0 } },
  'flux-2-flex': { steps: { least: 1, most: 50, step: 1 }, guidance: { least: 1.5, most: 10, step: 0 } },
};
const MODELS =
  /^(flux-pro-1\.1(-ultra)?|flux-dev|flux-pro-1\.0-(fill|expand)|flux-kontext-(pro|max)|flux-2-[a-z0-9-]+)$/;
const REQUIRED = [
  [/^flux-(2|kontext)-/, 'prompt'],
  [/^flux-pro-1\.0-/, 'image'],
] as const;
const CREDITS = 4;

export const bfl = (): Provider => ({
  base: '',
  ids: 'uuid',
  renews: true,
  lacks: ['cancel_refused', 'moderation_partial', 'aborted'],
  keyOf: ({ headers }) => headers['x-key'] ?? null,
  says: {
    auth: json(403, { detail: 'Not authenticated - Invalid Authentication' }),
    balance: json(402, { detail: 'Insufficient credits. Please add more credits to your account.' }),
    limited: () => json(429, { detail: 'Rate limit exceeded. You have reached the maximum number of active tasks.' }),
    invalid: invalid('width', 'Input should be a multiple of 32', 'multiple_of'),
    moderated: null,
    gone: () => json(404, { detail: 'Not Found' }),
    trouble: (status) => json(status, { detail: status === 503 ? 'Service unavailable' : 'Internal Server Error' }),
    unknownJob: taskNotFound,
    cancelRefused: null,
  },
  routes,
});

const routes = (house: House): readonly Route[] => [
  {
    role: 'submit',
    method: 'POST',
    path: /^\/v1\/(?<model>flux[^/]*)$/,
    read: ({ body }, { model = '' }) => read(body, model),
    answer(job) {
      const { width, height, webhook } = job.order;
      const cost = { cost: CREDITS, input_mp: 0, output_mp: Math.round((width * height) / 10_000) / 100 };
      if (webhook) return json(200, { id: job.id, status: 'Pending', webhook_url: webhook, ...cost });
      return json(200, { id: job.id, polling_url: `${house.askAt(job)}/v1/get_result?id=${job.id}`, ...cost });
    },
  },
  {
    role: 'poll',
    method: 'GET',
    path: /^\/v1\/get_result$/,
    vanishes: true,
    answer: async (job, phase) => json(200, await view(house, job, phase)),
  },
  {
    role: 'plain',
    method: 'GET',
    path: /^\/v1\/credits$/,
    answer: () => json(200, { credits: 1000 - CREDITS * house.jobs.all.length }),
  },
];

function read(body: Fields, model: string): Order {
  if (!MODELS.test(model)) throw new Refused(json(404, { detail: 'Not Found' }));
  const ratio = text(body.aspect_ratio) || (model.endsWith('ultra') ? '16:9' : '');
  const size = ratio ? sizeOfRatio(ratio) : { width: 1024, height: 768 };
  const width = number(body.width, size.width);
  const height = number(body.height, size.height);
  const sides = model.startsWith('flux-2') ? SIDES_2 : SIDES;
  for (const [name, range] of Object.entries({
    width: sides,
    height: sides,
    ...NUMBERS[model],
    safety_tolerance: { least: 0, most: model.startsWith('flux-2') ? 5 : 6, step: 1 },
  })) {
    if (body[name] !== undefined && body[name] !== null) check(name, body[name], range);
  }
  const needed = REQUIRED.find(([models]) => models.test(model))?.[1];
  if (needed !== undefined && typeof body[needed] !== 'string')
    throw new Refused(invalid(needed, 'Field required', 'missing'));
  const format = body.output_format ?? (model.startsWith('flux-kontext') ? 'png' : 'jpeg');
  if (format !== 'jpeg' && format !== 'png' && format !== 'webp')
    throw new Refused(invalid('output_format', "Input should be 'jpeg' or 'png'", 'enum'));
  if (body.prompt !== undefined && body.prompt !== null && typeof body.prompt !== 'string')
    throw new Refused(invalid('prompt', 'Input should be a valid string', 'string_type'));
  const webhook = text(body.webhook_url) || null;
  return {
    model,
    prompt: text(body.prompt),
    count: 1,
    width,
    height,
    format,
    seed: number(body.seed, 42),
    webhook,
    input: body,
  };
}

function check(name: string, value: unknown, { least, most, step }: Range): void {
  if (typeof value !== 'number') throw new Refused(invalid(name, 'Input should be a valid integer', 'int_type'));
  if (value < least)
    throw new Refused(invalid(name, `Input should be greater than or equal to ${least}`, 'greater_than_equal'));
  if (value > most)
    throw new Refused(invalid(name, `Input should be less than or equal to ${most}`, 'less_than_equal'));
  if (step > 0 && !whole(value / step, 0, most))
    throw new Refused(invalid(name, `Input should be a multiple of ${step}`, 'multiple_of'));
}

async function view(house: House, job: Job, phase: Phase): Promise<Fields> {
  const { fate, order, at } = job;
  const as = (status: string, more: Fields = {}) => ({
    id: house.idShown(job),
    status,
    result: null,
    progress: null,
    details: null,
    preview: null,
    ...more,
  });
  if (phase !== 'done') {
    return as(fate.has('unknown_status') ? 'Hibernating' : 'Pending', { progress: phase === 'running' ? 0.5 : null });
  }
  if (fate.has('moderation_input'))
    return as('Request Moderated', { details: { 'Moderation Reasons': ['Derivative Works Filter'] } });
  if (fate.has('moderation_output')) return as('Content Moderated', { details: { 'Moderation Reasons': ['Nudity'] } });
  if (fate.has('failed_opaque')) return as('Error', { details: { error: 'task failed' } });
  const [work] = await worksOf(job);
  const sample = work ? { sample: house.link(job, work) } : {};
  const result = {
    ...sample,
    prompt: order.prompt,
    seed: order.seed,
    start_time: at / 1000,
    end_time: (job.endedAt ?? at) / 1000,
    duration: 1.5,
  };
  return as('Ready', { progress: 1, result });
}

// fal's queue: three links per request, COMPLETED also for what went wrong, the outcome in the result's own status.
// The queue takes any body: what the model makes of it is told by the result.

import type { CompletedQueueStatus, InProgressQueueStatus, InQueueQueueStatus, RequestLog } from '@fal-ai/client';
import { type Answer, type Fields, json, number, text, whole } from './call.ts';
import type { Job, Order, Phase } from './jobs.ts';
import { bearer, type House, type JobRoute, type Provider, type SubmitRoute } from './provider.ts';
import { worksOf } from './works.ts';

const detail = (status: number, words: string, type?: string): Answer =>
  json(
    status,
    { detail: words, ...(type ? { error_type: type } : {}) },
    type ? { 'x-fal-error-type': type, 'x-fal-retryable': String(status >= 500) } : {},
  );
const modelError = (status: number, type: string, loc: readonly string[], msg: string, more: Fields = {}): Answer =>
  json(
    status,
    { detail: [{ loc, msg, type, url: `https://docs.fal.ai/errors#${type}`, ...more }] },
    { 'x-fal-retryable': String(status >= 500) },
  );

const SIZES: Readonly<Record<string, readonly [number, number]>> = {
  square_hd: [1024, 1024],
  square: [512, 512],
  portrait_4_3: [768, 1024],
  portrait_16_9: [576, 1024],
  landscape_4_3: [1024, 768],
  landscape_16_9: [1024, 576],
};

export const fal = (): Provider => ({
  base: '',
  ids: 'uuid',
  renews: false,
  lacks: ['aborted'],
  keyOf: (call) => bearer(call, 'Key'),
  says: {
    auth: detail(401, 'Cannot access application. Authentication is required to access this application.'),
    balance: detail(403, 'User is locked. Reason: Exhausted balance. Top up your balance at fal.ai/dashboard/billing.'),
    limited: () => detail(429, 'Too many requests'),
    invalid: null,
    moderated: null,
    gone: (model) => detail(404, `Application '${model}' not found`),
    trouble: (status) => detail(status, 'Internal Server Error', 'internal_error'),
    unknownJob: () => detail(404, 'Request not found'),
    cancelRefused: json(400, { status: 'ALREADY_COMPLETED' }),
  },
  routes: (house) => [submitRoute(house), ...about(house)],
});

const submitRoute = (house: House): SubmitRoute => ({
  role: 'submit',
  method: 'POST',
  path: /^\/(?<owner>[^/_][^/]*)\/(?<app>[^/]+)(?!\/requests\/)(?<sub>(?:\/[^/]+)*)$/,
  read: ({ body, query }, { owner, app, sub }) => read(body, `${owner}/${app}${sub}`, query.get('fal_webhook')),
  answer(job) {
    const queued: InQueueQueueStatus = {
      status: 'IN_QUEUE',
      request_id: job.id,
      ...linksOf(house, job),
      queue_position: 0,
    };
    return json(200, { ...queued, logs: null, metrics: {} });
  },
});

/** Links lead to owner/app, without the path below it. */
function linksOf(house: House, job: Job) {
  const at = `${house.askAt(job)}/${job.order.model.split('/').slice(0, 2).join('/')}/requests/${job.id}`;
  return { response_url: at, status_url: `${at}/status`, cancel_url: `${at}/cancel` };
}

function read(body: Fields, model: string, webhook: string | null): Order {
  const size = body.image_size;
  const own = size !== null && typeof size === 'object' ? (size as Fields) : {};
  const [width, height] = SIZES[text(size)] ?? [number(own.width, 1024), number(own.height, 768)];
  const format = text(body.output_format) || 'jpeg';
  return {
    model,
    prompt: text(body.prompt),
    count: whole(number(body.num_images, 1), 1, 8) ? number(body.num_images, 1) : 1,
    width: whole(width, 1, 4096) ? width : 1024,
    height: whole(height, 1, 4096) ? height : 1024,
    format: /video/.test(model) ? 'mp4' : format === 'png' || format === 'webp' ? format : 'jpeg',
    seed: number(body.seed, 42),
    webhook,
    input: body,
  };
}

/** What the model would say to the body; the queue did not look. */
function refusal({ order: { input }, fate }: Job): Answer | null {
  if (fate.has('moderation_input')) {
    const loc = ['body', 'prompt'];
    return modelError(
      422,
      'content_policy_violation',
      loc,
      'The content could not be processed because it contained material flagged by a content checker.',
      { input: input.prompt },
    );
  }
  if (fate.has('invalid_params'))
    return modelError(422, 'less_than_equal', ['body', 'num_images'], 'Input should be less than or equal to 4', {
      ctx: { le: 4 },
      input: 5,
    });
  if (fate.has('failed_opaque')) return detail(500, 'Internal Server Error', 'runner_server_error');
  if (typeof input.prompt !== 'string')
    return modelError(422, 'missing', ['body', 'prompt'], 'Field required', { input });
  const n = number(input.num_images, 1);
  if (!whole(n, 1, 4))
    return modelError(422, 'less_than_equal', ['body', 'num_images'], 'Input should be less than or equal to 4', {
      ctx: { le: 4 },
      input: n,
    });
  const size = input.image_size;
  if (typeof size === 'string' && !(size in SIZES)) {
    return modelError(422, 'one_of', ['body', 'image_size'], 'Input should be one of the presets', { input: size });
  }
  return null;
}

const REQUEST = String.raw`^\/[^/]+\/[^/]+\/requests\/(?<id>[^/]+)`;

const about = (house: House): JobRoute[] => [
  {
    role: 'poll',
    method: 'GET',
    path: new RegExp(`${REQUEST}\\/status$`),
    answer: (job, phase, { query }) =>
      json(phase === 'done' ? 200 : 202, status(house, job, phase, query.get('logs') === '1')),
  },
  {
    role: 'result',
    method: 'GET',
    path: new RegExp(`${REQUEST}$`),
    vanishes: true,
    answer: (job, phase) => result(house, job, phase),
  },
  {
    role: 'cancel',
    method: 'PUT',
    path: new RegExp(`${REQUEST}\\/cancel$`),
    answer: (job) =>
      house.jobs.cancel(job)
        ? json(202, { status: 'CANCELLATION_REQUESTED' })
        : json(400, { status: 'ALREADY_COMPLETED' }),
  },
];

/** Logs are null unless they are asked for, which the client's types do not say. */
type Unlogged<T> = T extends { logs: unknown } ? Omit<T, 'logs'> & { readonly logs: RequestLog[] | null } : T;
type Status =
  | Unlogged<InQueueQueueStatus | InProgressQueueStatus>
  | (Unlogged<CompletedQueueStatus> & { readonly error?: string; readonly error_type?: string })
  | (Omit<InQueueQueueStatus, 'status' | 'queue_position'> & { readonly status: 'HIBERNATING' });

function status(house: House, job: Job, phase: Phase, withLogs: boolean): Status {
  const shown = { request_id: house.idShown(job), ...linksOf(house, job) };
  const logs: RequestLog[] | null = withLogs
    ? [{ message: '50%|#####     | 2/4', level: 'INFO', source: 'USER', timestamp: new Date(job.at).toISOString() }]
    : null;
  if (phase === 'cancelled')
    return {
      ...shown,
      status: 'COMPLETED',
      logs,
      error: 'Request was cancelled by the client',
      error_type: 'client_cancelled',
    };
  if (phase !== 'done' && job.fate.has('unknown_status')) return { ...shown, status: 'HIBERNATING' };
  if (phase === 'queued')
    return {
      ...shown,
      status: 'IN_QUEUE',
      queue_position: house.jobs.all.filter((other) => other.state === 'queued' && other.at < job.at).length,
    };
  if (phase === 'running') return { ...shown, status: 'IN_PROGRESS', logs };
  const wrong = refusal(job)?.json as { readonly detail: unknown; readonly error_type?: string } | undefined;
  const error = wrong
    ? { error: JSON.stringify(wrong.detail), ...(wrong.error_type ? { error_type: wrong.error_type } : {}) }
    : {};
  return { ...shown, status: 'COMPLETED', logs, metrics: { inference_time: 1.25 }, ...error };
}

async function result(house: House, job: Job, phase: Phase): Promise<Answer> {
  if (phase === 'cancelled') return detail(499, 'Request was cancelled by the client', 'client_cancelled');
  if (phase !== 'done') return detail(400, 'Request is still in progress');
  const refused = refusal(job);
  if (refused) return refused;
  const works = await worksOf(job);
  const { width, height, seed, prompt, format } = job.order;
  const files = works.map((work) => ({ url: house.link(job, work), content_type: work.file.mime, width, height }));
  const headers = { 'x-fal-request-id': job.id };
  if (format === 'mp4')
    return json(200, { video: files[0] ? { ...files[0], file_name: 'output.mp4' } : null, seed }, headers);
  const has_nsfw_concepts = works.map(({ safe }) => !safe);
  return json(200, { images: files, timings: { inference: 1.25 }, seed, has_nsfw_concepts, prompt }, headers);
}

// Replicate: predictions by model or by version, polled, cancelled and listed. The list is the only way to find a
// prediction whose creation was never answered. `Prefer: wait` and `Cancel-After` work on the clock.

import type { Prediction } from 'replicate';
import { type Answer, type Call, type Fields, json, number, Refused, sizeOfRatio, text, whole } from './call.ts';
import type { Job, Order, Phase } from './jobs.ts';
import { bearer, type House, type JobRoute, type PlainRoute, type Provider, type SubmitRoute } from './provider.ts';
import { worksOf } from './works.ts';

const problem = (status: number, title: string, detail: string, more: Fields = {}): Answer =>
  json(status, { title, detail, status, ...more }, { 'content-type': 'application/problem+json' });
const invalid = (field: string, description: string): Answer => {
  const detail = `- ${field}: ${description}\n`;
  return problem(422, 'Input validation failed', detail, { invalid_fields: [{ type: 'value', field, description }] });
};
const SENSITIVE = 'The input or output was flagged as sensitive. Please try again with different inputs. (E005)';
const NSFW = 'All generated images contained NSFW content. Try running it again with a different prompt.';
const KEYS = ['input', 'stream', 'webhook', 'webhook_events_filter'];
const EVENTS: readonly unknown[] = ['start', 'output', 'logs', 'completed'];
const FORMATS: Readonly<Record<string, Order['format']>> = { png: 'png', jpg: 'jpeg', jpeg: 'jpeg', webp: 'webp' };
const PER_PAGE = 100;

export const replicate = (): Provider => ({
  base: '/v1',
  ids: 'base32',
  renews: false,
  lacks: [],
  keyOf: (call) => bearer(call),
  says: {
    auth: problem(401, 'Unauthenticated', 'You did not pass a valid authentication token'),
    balance: problem(
      402,
      'Insufficient credit',
      'You have insufficient credit to run this model. Go to https://replicate.com/account/billing to purchase credit.',
    ),
    limited: (after) => {
      const hint = after === null ? {} : { retry_after: after };
      return json(429, {
        detail: `Request was throttled. Your rate limit resets in ~${after ?? 30}s.`,
        status: 429,
        ...hint,
      });
    },
    invalid: invalid('input.num_outputs', 'Must be less than or equal to 4'),
    moderated: null,
    gone: () => problem(404, 'Not found', 'The requested resource could not be found.'),
    trouble: (status) => problem(status, 'Internal server error', 'Something went wrong.'),
    unknownJob: () => problem(404, 'Not found', 'The requested resource could not be found.'),
    cancelRefused: problem(400, 'Bad request', 'This prediction cannot be canceled.'),
  },
  routes: (house) => [...creations(house), ...about(house), list(house)],
});

function creations(house: House): SubmitRoute[] {
  const answer = async (job: Job, call: Call): Promise<Answer> => {
    const cancelAfter = call.headers['cancel-after'];
    if (cancelAfter !== undefined) job.deadline = job.at + duration(cancelAfter);
    await holdOpen(house, job, call);
    return json(201, await view(house, job, house.jobs.peek(job)));
  };
  const at = (path: RegExp, extra: readonly string[]): SubmitRoute => ({
    role: 'submit',
    method: 'POST',
    path,
    read: (call, { owner, name }) => read(call, owner ? `${owner}/${name}` : text(call.body.version), extra),
    answer,
  });
  return [
    at(/^\/v1\/models\/(?<owner>[^/]+)\/(?<name>[^/]+)\/predictions$/, []),
    at(/^\/v1\/deployments\/(?<owner>[^/]+)\/(?<name>[^/]+)\/predictions$/, []),
    at(/^\/v1\/predictions$/, ['version']),
  ];
}

function read({ body, headers }: Call, model: string, extra: readonly string[]): Order {
  const refuse = (field: string, description: string): never => {
    throw new Refused(invalid(field, description));
  };
  for (const key of Object.keys(body)) {
    if (![...KEYS, ...extra].includes(key)) refuse(key, `Additional property ${key} is not allowed`);
  }
  if (model === '') refuse('version', 'version is required');
  const input = body.input;
  if (input === null || typeof input !== 'object' || Array.isArray(input)) return refuse('input', 'input is required');
  const { prompt, num_outputs, aspect_ratio, output_format = 'webp', seed, ...rest } = input as Fields;
  if (typeof prompt !== 'string') refuse('input.prompt', 'prompt is required');
  const count = number(num_outputs, 1);
  if (!whole(count, 1, 4)) refuse('input.num_outputs', 'Must be between 1 and 4');
  const format = FORMATS[text(output_format)] ?? refuse('input.output_format', 'Must be one of webp, jpg, png');
  const { webhook = null, webhook_events_filter: events = [] } = body;
  if (webhook !== null && !text(webhook).startsWith('https://')) refuse('webhook', 'webhook must be an https URL');
  if (!Array.isArray(events) || events.some((event) => !EVENTS.includes(event)))
    refuse('webhook_events_filter', 'unknown event');
  if (headers['cancel-after'] !== undefined && !(duration(headers['cancel-after']) >= 5000)) {
    throw new Refused(problem(400, 'Bad request', 'Cancel-After must be a duration of at least 5s'));
  }
  const size = sizeOfRatio(text(aspect_ratio) || '1:1');
  const { width = size.width, height = size.height } = rest;
  return {
    model,
    prompt: text(prompt),
    count,
    width: number(width, size.width),
    height: number(height, size.height),
    format: /video|veo|kling|wan|minimax|ray/.test(model) ? 'mp4' : format,
    seed: number(seed, 42),
    webhook: webhook === null ? null : text(webhook),
    input: input as Fields,
  };
}

/** `90s`, `5m`, `1h30m45s` or bare seconds, in milliseconds; NaN when it is none of them. */
function duration(value: string): number {
  const [all, h = 0, m = 0, s = 0] = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?$/.exec(value) ?? [];
  return all ? ((Number(h) * 60 + Number(m)) * 60 + Number(s)) * 1000 : Number.NaN;
}

/** `Prefer: wait=n`: until the job has ended, for so long at most. Moved by polls, a job gets nowhere meanwhile. */
async function holdOpen(
  { settings: { pace, clock }, jobs }: House,
  job: Job,
  { headers, signal }: Call,
): Promise<void> {
  const [asked, given] = /^wait(?:=(\d+))?$/.exec(headers.prefer ?? '') ?? [];
  if (!asked || !('queuedMs' in pace)) return;
  const most = Number(given ?? 60) * 1000;
  await clock.sleep(Math.min(most, pace.queuedMs + pace.runningMs), signal);
  jobs.peek(job);
}

const about = (house: House): JobRoute[] => [
  {
    role: 'poll',
    method: 'GET',
    path: /^\/v1\/predictions\/(?<id>[^/]+)$/,
    answer: async (job, phase) => json(200, await view(house, job, phase)),
  },
  {
    role: 'cancel',
    method: 'POST',
    path: /^\/v1\/predictions\/(?<id>[^/]+)\/cancel$/,
    answer: async (job) => {
      house.jobs.cancel(job);
      return json(200, await view(house, job, house.jobs.peek(job)));
    },
  },
];

const list = (house: House): PlainRoute => ({
  role: 'plain',
  method: 'GET',
  path: /^\/v1\/predictions$/,
  answer({ query }) {
    const bound = (name: string, otherwise: number) =>
      query.has(name) ? Date.parse(query.get(name) ?? '') : otherwise;
    const [after, before] = [bound('created_after', 0), bound('created_before', Number.POSITIVE_INFINITY)];
    if (Number.isNaN(after) || Number.isNaN(before)) return problem(400, 'Bad request', 'not a date-time');
    const found = house.jobs.all.filter(({ at }) => at >= after && at < before).toReversed();
    const from = Number(query.get('cursor') ?? 0);
    const page = (start: number) => {
      query.set('cursor', String(start));
      return `${house.origin}/v1/predictions?${query}`;
    };
    return json(200, {
      next: found.length > from + PER_PAGE ? page(from + PER_PAGE) : null,
      previous: from > 0 ? page(Math.max(0, from - PER_PAGE)) : null,
      results: found.slice(from, from + PER_PAGE).map((job) => outline(house, job, house.jobs.peek(job))),
    });
  },
});

/** Everything but the outputs; the list shows this much. */
type Shown = Omit<Prediction, 'status'> & { readonly status: Prediction['status'] | 'hibernating' };

function outline(house: House, job: Job, phase: Phase): Shown {
  const { order, fate, at, endedAt, deadline } = job;
  const iso = (ms: number) => new Date(ms).toISOString();
  const failure = phase === 'done' ? errorOf(job) : null;
  const id = house.idShown(job);
  const versioned = /:?([0-9a-f]{64})$/.exec(order.model)?.[1];
  const gone = fate.has('result_gone') && phase === 'done';
  return {
    id,
    model: order.model.replace(/:[0-9a-f]{64}$/, ''),
    version: versioned ?? 'hidden',
    input: gone ? {} : order.input,
    output: null,
    logs: fate.has('moderation_partial') && phase === 'done' ? 'NSFW content detected in image 1\n' : '',
    error: failure,
    status: statusOf(job, phase, failure),
    source: 'api',
    data_removed: gone,
    created_at: iso(at),
    ...(job.started ? { started_at: iso(at) } : {}),
    ...(endedAt === null
      ? {}
      : {
          completed_at: iso(endedAt),
          metrics: { predict_time: (endedAt - at) / 1000, total_time: (endedAt - at) / 1000 },
        }),
    ...(deadline === null ? {} : { deadline: iso(deadline) }),
    urls: {
      get: `${house.askAt(job)}/v1/predictions/${job.id}`,
      cancel: `${house.askAt(job)}/v1/predictions/${job.id}/cancel`,
      web: `https://replicate.com/p/${job.id}`,
    },
  };
}

function statusOf({ fate, started }: Job, phase: Phase, failure: string | null): Shown['status'] {
  if (phase === 'cancelled') return started ? 'canceled' : 'aborted';
  if (phase !== 'done')
    return fate.has('unknown_status') ? 'hibernating' : phase === 'queued' ? 'starting' : 'processing';
  if (fate.has('aborted')) return 'aborted';
  return failure === null ? 'succeeded' : 'failed';
}

function errorOf({ fate }: Job): string | null {
  if (fate.has('moderation_input')) return SENSITIVE;
  if (fate.has('moderation_output')) return NSFW;
  return fate.has('failed_opaque')
    ? 'Prediction failed.: director: unexpected error handling prediction (E6716)'
    : null;
}

async function view(house: House, job: Job, phase: Phase): Promise<Shown> {
  const shown = outline(house, job, phase);
  if (shown.status !== 'succeeded' || shown.data_removed) return shown;
  const urls = (await worksOf(job)).filter(({ safe }) => safe).map((work) => house.link(job, work));
  const single = /flux-(1\.1-)?pro|flux-kontext/.test(job.order.model) || job.order.format === 'mp4';
  return { ...shown, output: single ? (urls[0] ?? null) : urls };
}

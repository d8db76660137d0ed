// stable-diffusion.cpp's server: one model, three faces. The /sdapi subset blocks; the native /sdcpp/v1 is asynchronous
// with jobs that can be cancelled while they wait and expire ten minutes after their end.

import { randomInt, randomUUID } from 'node:crypto';
import { sendJson } from '../listener.ts';
import type { Call } from './call.ts';
import { HttpProblem, modelName } from './dialect.ts';
import type { Order, Painted } from './painter.ts';
import { SCHEDULERS } from './webui.ts';

interface Job {
  readonly id: string;
  readonly kind: 'img_gen' | 'vid_gen';
  status: 'queued' | 'generating' | 'completed' | 'failed' | 'cancelled';
  readonly created: number;
  started: number | null;
  completed: number | null;
  result: unknown;
  error: { readonly code: string; readonly message: string } | null;
}

export interface Jobs {
  readonly all: Map<string, Job>;
  /** The jobs run one after the other. */
  tail: Promise<unknown>;
}

export const createJobs = (): Jobs => ({ all: new Map(), tail: Promise.resolve() });

type Handler = (call: Call, jobs: Jobs, rest: string) => unknown;

const QUEUE_MAX = 64;
const KEPT_MS = 600_000;
const json = ({ res }: Call, value: unknown) => sendJson(res, 200, value);
const names = (all: readonly string[]) => all.map((name) => ({ name }));

const ROUTES: Readonly<Record<string, Handler>> = {
  'POST /sdapi/v1/txt2img': (call) => blocking(call, 'txt2img'),
  'POST /sdapi/v1/img2img': (call) => blocking(call, 'img2img'),
  'GET /sdapi/v1/loras': (call) =>
    json(
      call,
      call.settings.loras.map((name) => ({ name, path: `${name}.safetensors` })),
    ),
  'GET /sdapi/v1/upscalers': (call) => json(call, names(call.settings.upscalers)),
  'GET /sdapi/v1/latent-upscale-modes': (call) => json(call, []),
  'GET /sdapi/v1/samplers': (call) => json(call, names(call.settings.samplers)),
  'GET /sdapi/v1/schedulers': (call) => json(call, names(SCHEDULERS)),
  'GET /sdapi/v1/sd-models': (call) => json(call, [{ ...modelName(model(call)), hash: '8888888888', config: null }]),
  'GET /sdapi/v1/options': (call) => json(call, { samples_format: 'png', sd_model_checkpoint: model(call) }),
  'GET /v1/models': (call) => json(call, { data: [{ id: 'sd-cpp-local', object: 'model', owned_by: 'local' }] }),
  'POST /v1/images/generations': (call) => openai(call),
  'GET /sdcpp/v1/capabilities': (call) =>
    json(call, {
      model: model(call),
      features: { img_gen: true, vid_gen: false, cancel_queued: true, cancel_generating: false },
      limits: {
        min_width: 64,
        max_width: 4096,
        min_height: 64,
        max_height: 4096,
        max_batch_count: 8,
        max_queue_size: QUEUE_MAX,
      },
      samplers: call.settings.samplers,
      schedulers: SCHEDULERS,
    }),
  'POST /sdcpp/v1/img_gen': (call, jobs) => submit(call, jobs),
  'GET /sdcpp/v1/jobs/': (call, jobs, rest) => read(call, jobs, rest),
  'POST /sdcpp/v1/jobs/': (call, jobs, rest) => cancel(call, jobs, rest),
};

/** The handler of a route and what follows in the path. */
export function sdcppHandler(
  method: string,
  path: string,
): { readonly handler: Handler; readonly rest: string } | null {
  const handler = ROUTES[`${method} ${path}`];
  if (handler) return { handler, rest: '' };
  const [, rest] = /^\/sdcpp\/v1\/jobs\/(.+)$/.exec(path) ?? [];
  const job = ROUTES[`${method} /sdcpp/v1/jobs/`];
  return rest !== undefined && job ? { handler: job, rest } : null;
}

const model = ({ settings }: Call) => settings.checkpoints[0] ?? 'model.safetensors';

function orderOf({ req, body }: Call, kind: Order['kind'], taskId: string | null, count: number): Order {
  if (typeof body.prompt !== 'string' || body.prompt === '') throw new HttpProblem(400, 'prompt required');
  const sample = (body.sample_params ?? {}) as Readonly<Record<string, unknown>>;
  const number = (value: unknown, fallback: number) => Number(value ?? fallback);
  const seed = number(body.seed, -1);
  return {
    kind,
    taskId,
    prompt: body.prompt,
    width: number(body.width, 512),
    height: number(body.height, 512),
    seed: seed < 0 ? randomInt(2 ** 31) : seed,
    steps: Math.max(1, number(sample.sample_steps ?? body.steps, 20)),
    batch: count,
    iterations: 1,
    checkpoint: null,
    keep: false,
    hasModules: false,
    salt: JSON.stringify([body.prompt, body.negative_prompt]),
    cut: () => req.socket.destroy(),
  };
}

async function blocking(call: Call, kind: Order['kind']): Promise<void> {
  const { body, painter, res } = call;
  const painted = await painter.paint(orderOf(call, kind, null, Number(body.batch_size ?? 1)));
  const images = encoded(painted);
  if (images.length === 0) return sendJson(res, 500, { error: 'generate_image returned no results' });
  const info = JSON.stringify({ seed: painted.seeds[0], all_seeds: painted.seeds, version: 'stable-diffusion.cpp' });
  if (!res.destroyed) json(call, { images, parameters: body, info });
}

function encoded({ images, faults }: Painted): string[] {
  if (faults.has('empty_images')) return [];
  const all = images.map((image) => image.toString('base64'));
  return faults.has('truncated_base64') ? all.map((text) => text.slice(0, Math.floor(text.length / 2) - 1)) : all;
}

async function openai(call: Call): Promise<void> {
  const { body, painter, settings } = call;
  const [width, height] = String(body.size ?? '512x512')
    .split('x')
    .map(Number);
  const sized = { ...call, body: { ...body, width, height } };
  const painted = await painter.paint(orderOf(sized, 'txt2img', null, Number(body.n ?? 1)));
  const data = encoded(painted).map((b64_json) => ({ b64_json }));
  json(call, { created: Math.floor(settings.clock.now() / 1000), data, output_format: 'png' });
}

function submit(call: Call, jobs: Jobs) {
  const { res, body, settings } = call;
  const waiting = [...jobs.all.values()].filter(({ status }) => status === 'queued').length;
  if (waiting >= QUEUE_MAX) return sendJson(res, 429, { error: 'job queue is full' });
  const id = randomUUID();
  const order = orderOf(call, 'txt2img', id, Number(body.batch_count ?? 1));
  const created = Math.floor(settings.clock.now() / 1000);
  const job: Job = {
    id,
    kind: 'img_gen',
    status: 'queued',
    created,
    started: null,
    completed: null,
    result: null,
    error: null,
  };
  jobs.all.set(id, job);
  jobs.tail = jobs.tail.then(() => perform(call, job, order));
  sendJson(res, 202, { id, kind: job.kind, status: job.status, created, poll_url: `/sdcpp/v1/jobs/${id}` });
}

async function perform({ painter, settings }: Call, job: Job, order: Order): Promise<void> {
  if (job.status === 'cancelled') return;
  const seconds = () => Math.floor(settings.clock.now() / 1000);
  Object.assign(job, { status: 'generating', started: seconds() });
  try {
    const images = encoded(await painter.paint(order)).map((b64_json, index) => ({ index, b64_json }));
    if (images.length === 0) throw new Error('generate_image returned no results');
    Object.assign(job, { status: 'completed', result: { output_format: 'png', images } });
  } catch (error) {
    Object.assign(job, { status: 'failed', error: { code: 'generation_failed', message: (error as Error).message } });
  }
  job.completed = seconds();
}

function known({ res, settings }: Call, jobs: Jobs, id: string): Job | null {
  const job = jobs.all.get(id);
  const expired = job?.completed != null && settings.clock.now() - job.completed * 1000 > KEPT_MS;
  if (job && !expired) return job;
  sendJson(res, job ? 410 : 404, { error: job ? 'job expired' : 'job not found' });
  return null;
}

function read(call: Call, jobs: Jobs, id: string) {
  const job = known(call, jobs, id);
  if (!job) return;
  const queue = [...jobs.all.values()].filter(({ status }) => status === 'queued');
  json(call, { ...job, queue_position: job.status === 'queued' ? queue.indexOf(job) + 1 : 0 });
}

function cancel(call: Call, jobs: Jobs, rest: string) {
  const [, id] = /^([^/]+)\/cancel$/.exec(rest) ?? [];
  const job = known(call, jobs, id ?? '');
  if (!job) return;
  if (job.status !== 'queued') return sendJson(call.res, 409, { error: 'job is not cancellable', status: job.status });
  Object.assign(job, { status: 'cancelled', completed: Math.floor(call.settings.clock.now() / 1000) });
  json(call, { ...job, queue_position: 0 });
}

// /sdapi/v1 as Automatic1111, Forge and SD.Next speak it, with /internal beside it: which paths each has, and what they
// answer. A generation is one blocking POST (generate.ts).

import sharp from 'sharp';
import { sendJson } from '../listener.ts';
import { previewJpeg } from '../pictures.ts';
import { type Call, optionsOf } from './call.ts';
import { exception, findModel, HttpProblem, modelName, nothing, problem } from './dialect.ts';
import { generate } from './generate.ts';
import { PythonError } from './painter.ts';
import type { SdapiSettings } from './settings.ts';

type Handler = (call: Call) => unknown;

const json = ({ res }: Call, value: unknown) => sendJson(res, 200, value);
const list =
  (make: (settings: SdapiSettings) => unknown): Handler =>
  (call) =>
    json(call, make(call.settings));
const refresh: Handler = ({ res, settings }) => nothing(res, settings.flavour, null);

export const SCHEDULERS = ['Automatic', 'Uniform', 'Karras', 'Exponential', 'SGM Uniform', 'Simple', 'Normal', 'Beta'];
const schedulerName = (label: string) => label.toLowerCase().replaceAll(' ', '_');

const COMMON: Readonly<Record<string, Handler>> = {
  'POST /sdapi/v1/txt2img': (call) => generate(call, 'txt2img'),
  'POST /sdapi/v1/img2img': (call) => generate(call, 'img2img'),
  'GET /sdapi/v1/progress': (call) => progress(call),
  'POST /sdapi/v1/interrupt': ({ res, settings, painter }) => {
    painter.interrupt();
    nothing(res, settings.flavour, {});
  },
  'POST /sdapi/v1/skip': ({ res, settings, painter }) => {
    painter.skip();
    nothing(res, settings.flavour, null);
  },
  'GET /sdapi/v1/options': (call) => json(call, optionsOf(call)),
  'POST /sdapi/v1/options': (call) => setOptions(call),
  'GET /sdapi/v1/cmd-flags': list(() => ({ api: true, listen: null, lowvram: false, medvram: false })),
  'GET /sdapi/v1/samplers': list(({ samplers, flavour }) =>
    samplers.map((name) => ({ name, options: {}, ...(flavour === 'sdnext' ? {} : { aliases: [`k_${name}`] }) })),
  ),
  'GET /sdapi/v1/schedulers': list(() =>
    SCHEDULERS.map((label) => ({
      name: schedulerName(label),
      label,
      aliases: null,
      default_rho: -1,
      need_inner_model: false,
    })),
  ),
  'GET /sdapi/v1/upscalers': list(({ upscalers }) =>
    upscalers.map((name) => ({ name, model_name: null, model_path: null, model_url: null, scale: 4 })),
  ),
  'GET /sdapi/v1/latent-upscale-modes': list(() => [{ name: 'Latent' }, { name: 'Latent (nearest)' }]),
  'GET /sdapi/v1/sd-models': list(({ checkpoints, flavour }) =>
    checkpoints.map((file) => ({
      ...modelName(file),
      config: null,
      ...(flavour === 'sdnext' ? { type: 'safetensors' } : {}),
    })),
  ),
  'GET /sdapi/v1/loras': list(({ loras }) =>
    loras.map((name) => ({ name, alias: name, path: `models/Lora/${name}.safetensors`, metadata: {} })),
  ),
  'GET /sdapi/v1/embeddings': list(() => ({ loaded: {}, skipped: {} })),
  'GET /sdapi/v1/scripts': list(() => ({ txt2img: [], img2img: [] })),
  'POST /sdapi/v1/refresh-checkpoints': refresh,
  'POST /sdapi/v1/refresh-vae': refresh,
  'POST /sdapi/v1/refresh-loras': refresh,
  'GET /sdapi/v1/memory': (call) => json(call, memory(call)),
  'POST /sdapi/v1/unload-checkpoint': ({ res, settings, painter }) => {
    painter.unload();
    nothing(res, settings.flavour, {});
  },
  'POST /sdapi/v1/reload-checkpoint': async ({ res, settings, painter }) => {
    await painter.choose(painter.configured);
    nothing(res, settings.flavour, null);
  },
  'POST /sdapi/v1/extra-single-image': (call) => upscale(call),
};

const vaes = list((settings) => settings.vaes.map((name) => ({ model_name: name, filename: `models/VAE/${name}` })));

const OWN: Readonly<Record<'a1111' | 'forge' | 'sdnext', Readonly<Record<string, Handler>>>> = {
  a1111: { 'GET /sdapi/v1/sd-vae': vaes },
  forge: { 'GET /sdapi/v1/sd-modules': vaes },
  sdnext: {
    'GET /sdapi/v1/sd-vae': vaes,
    'GET /sdapi/v1/version': list(() => ({ app: 'sd.next', updated: '2026-07-23', hash: '058a7f0c' })),
    'GET /sdapi/v1/status': (call) => json(call, status(call)),
    'GET /sdapi/v1/gpu': list(() => [{ name: 'NVIDIA GeForce RTX 4090' }]),
    'GET /sdapi/v1/checkpoint': (call) => json(call, { checkpoint: call.painter.loaded }),
    'GET /sdapi/v1/history': (call) => history(call),
    'GET /sdapi/v1/file': (call) => file(call),
  },
};

const INTERNAL: Readonly<Record<string, Handler>> = {
  'GET /internal/ping': (call) => json(call, {}),
  'POST /internal/progress': (call) => taskProgress(call),
  'GET /internal/pending-tasks': (call) => json(call, pendingTasks(call)),
};

export function webuiHandler(route: string, { flavour, apiOnly }: SdapiSettings): Handler | null {
  if (flavour === 'sdcpp') return null;
  const all = { ...COMMON, ...OWN[flavour], ...(apiOnly ? {} : INTERNAL) };
  return all[route] ?? null;
}

/** Runs a handler, and says what it threw in the server's own words. */
export async function guarded(call: Call, handler: Handler): Promise<void> {
  const { res, settings } = call;
  try {
    await handler(call);
  } catch (error) {
    if (error instanceof HttpProblem) problem(res, settings.flavour, error);
    else if (error instanceof PythonError) exception(res, settings.flavour, error.type, error.message);
    else if (!res.destroyed) throw error;
  }
}

async function setOptions(call: Call): Promise<void> {
  const { res, body, settings, painter, options } = call;
  const { sd_model_checkpoint: asked, ...rest } = body;
  if (typeof asked === 'string') {
    const found = findModel(settings.checkpoints, asked);
    if (found === null) throw new PythonError('RuntimeError', `Unknown checkpoint: ${asked}`);
    await painter.choose(found);
  }
  Object.assign(options, rest);
  sendJson(res, 200, settings.flavour === 'sdnext' ? { updated: Object.keys(body) } : null);
}

/** 0 when idle, never under 0.01 when busy, never 1. */
function fraction({ painter: { state } }: Call): number {
  if (state.job === '') return 0;
  const iterations = Math.max(1, state.jobCount);
  return Math.min(0.99, Math.max(0.01, (state.jobNo + state.step / Math.max(1, state.steps)) / iterations));
}

const PREVIEW_EVERY = 10;

async function progress(call: Call): Promise<void> {
  const { painter, query, settings } = call;
  const { state } = painter;
  const shown = settings.previews && state.step >= PREVIEW_EVERY && query.get('skip_current_image') !== 'true';
  const current = shown
    ? await sharp(await previewJpeg())
        .png()
        .toBuffer()
    : null;
  const share = fraction(call);
  const spent = (settings.clock.now() - state.startedAt) / 1000;
  json(call, {
    progress: share,
    eta_relative: share === 0 ? 0 : spent / share - spent,
    state: {
      skipped: state.skipped,
      interrupted: state.interrupted,
      stopping_generation: state.stopping,
      job: state.job,
      job_count: state.jobCount,
      job_timestamp: '20260430091742',
      job_no: state.jobNo,
      sampling_step: state.step,
      sampling_steps: state.steps,
    },
    current_image: current?.toString('base64') ?? null,
    textinfo: null,
  });
}

function taskProgress(call: Call): void {
  const { painter, body } = call;
  const id = String(body.id_task);
  const active = painter.state.taskId === id;
  const place = painter.waiting.indexOf(id);
  const completed = painter.finished.includes(id);
  const waiting = place >= 0 ? `In queue: ${place + 1}/${painter.waiting.length}` : 'Waiting...';
  json(call, {
    active,
    queued: place >= 0,
    completed,
    progress: active ? fraction(call) : null,
    eta: null,
    live_preview: null,
    id_live_preview: -1,
    textinfo: active || completed ? null : waiting,
  });
}

function pendingTasks({ painter }: Call) {
  const tasks = painter.waiting.filter((id) => id !== null);
  return { size: tasks.length, tasks };
}

function memory({ settings, painter }: Call) {
  const used = painter.loaded === null ? 1_000_000_000 : 8_000_000_000;
  const system = { free: settings.vramBytes - used, used, total: settings.vramBytes };
  const none = { current: 0, peak: 0 };
  const cuda = {
    system,
    active: none,
    allocated: none,
    reserved: none,
    inactive: none,
    events: { retries: 0, oom: 0 },
  };
  return { ram: { free: 20e9, used: 12e9, total: 32e9 }, cuda };
}

function status(call: Call) {
  const { state, waiting } = call.painter;
  const word = state.job === '' ? 'idle' : state.interrupted ? 'interrupted' : 'running';
  const { step, steps, job } = state;
  return {
    status: word,
    task: job,
    current: job,
    step,
    steps,
    queued: waiting.length,
    progress: fraction(call),
    eta: null,
  };
}

function history(call: Call): void {
  const id = call.query.get('id');
  const chosen = call.history.filter((item) => id === null || String(item.id) === id);
  json(
    call,
    chosen.map(({ files: _files, ...item }) => item),
  );
}

function file({ res, query, history: made }: Call): void {
  const bytes = made.map(({ files }) => files.get(query.get('file') ?? '')).find((found) => found !== undefined);
  if (!bytes) throw new HttpProblem(404, 'File not found');
  res.writeHead(200, { 'content-type': 'image/png', 'content-length': String(bytes.length) }).end(bytes);
}

async function upscale(call: Call): Promise<void> {
  const { body, painter } = call;
  const bytes = Buffer.from(String(body.image ?? '').replace(/^data:[^,]*,/, ''), 'base64');
  const { width = 0, height = 0 } = await sharp(bytes)
    .metadata()
    .catch(() => {
      throw new HttpProblem(500, 'Invalid encoded image');
    });
  const by = Number(body.upscaling_resize ?? 2);
  const [w, h] =
    Number(body.resize_mode ?? 0) === 1
      ? [Number(body.upscaling_resize_w ?? 512), Number(body.upscaling_resize_h ?? 512)]
      : [Math.round(width * by), Math.round(height * by)];
  await painter.choose(painter.configured);
  const image = await sharp(bytes).resize(w, h, { fit: 'fill' }).png().toBuffer();
  json(call, { html_info: '', image: image.toString('base64') });
}

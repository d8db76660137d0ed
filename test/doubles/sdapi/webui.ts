// /sdapi/v1 as Automatic1111, Forge and SD.Next speak it, with /internal beside it. A generation is one blocking POST.

import { randomInt } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import sharp from 'sharp';
import { sendJson } from '../listener.ts';
import { previewJpeg } from '../pictures.ts';
import { exception, findModel, HttpProblem, invalid, modelName, nothing, problem } from './dialect.ts';
import { type Order, type Painted, type Painter, PythonError } from './painter.ts';
import type { SdapiSettings } from './settings.ts';

export interface Call {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
  readonly settings: SdapiSettings;
  readonly painter: Painter;
  /** Of this life; POST /options writes it. */
  readonly options: Record<string, unknown>;
  /** SD.Next remembers what it made. */
  readonly history: HistoryItem[];
}

export interface HistoryItem {
  readonly id: number;
  readonly job: string;
  readonly op: string;
  readonly timestamp: number;
  readonly duration: number;
  readonly outputs: readonly string[];
  readonly files: ReadonlyMap<string, Buffer>;
}

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

function optionsOf({ settings, painter, options }: Call): Record<string, unknown> {
  const known = { samples_format: 'png', sd_vae: 'Automatic', CLIP_stop_at_last_layers: 1, live_previews_enable: true };
  const own = settings.flavour === 'forge' ? { forge_additional_modules: [] } : {};
  return { ...known, ...own, ...options, sd_model_checkpoint: modelName(painter.configured).title };
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

async function generate(call: Call, kind: Order['kind']): Promise<void> {
  const { res, settings, painter, history: made } = call;
  const flawed = ['width', 'height', 'steps', 'seed', 'batch_size', 'n_iter'].find(
    (field) => call.body[field] !== undefined && !Number.isInteger(Number(call.body[field])),
  );
  if (flawed) return invalid(res, settings.flavour, flawed, call.body[flawed]);
  const asked = await orderOf(call, kind);
  const startedAt = settings.clock.now();
  const painted = await painter.paint(asked.order);
  if (painted.interrupted && painted.faults.has('interrupt_500')) {
    throw new PythonError('AttributeError', "'NoneType' object has no attribute 'images'");
  }
  if (res.destroyed) return;
  if (settings.flavour === 'sdnext') remember(made, asked.order, painted, startedAt, settings.clock.now());
  const format = String({ ...optionsOf(call), ...asked.override }.samples_format);
  const all = await Promise.all(painted.images.map((image) => encode(image, format)));
  const images = painted.faults.has('empty_images') || call.body.send_images === false ? [] : all;
  const cut = painted.faults.has('truncated_base64');
  json(call, {
    images: cut ? images.map((image) => image.slice(0, Math.floor(image.length / 2) - 1)) : images,
    parameters: { ...call.body, ...(kind === 'img2img' ? { init_images: null, mask: null } : {}) },
    info: JSON.stringify(infoOf(call, asked, painted)),
  });
}

interface Asked {
  readonly order: Order;
  readonly sampler: string;
  readonly override: Readonly<Record<string, unknown>>;
}

async function orderOf(call: Call, kind: Order['kind']): Promise<Asked> {
  const { req, body, settings } = call;
  const override = (body.override_settings ?? {}) as Readonly<Record<string, unknown>>;
  const strange = Object.keys(override).find((key) => key !== 'sd_model_checkpoint' && !(key in optionsOf(call)));
  if (strange !== undefined && settings.flavour !== 'sdnext') throw new PythonError('KeyError', `'${strange}'`);
  const inits = kind === 'img2img' ? await initImages(call) : [];
  const number = (name: string, fallback: number) => Number(body[name] ?? fallback);
  const seed = number('seed', -1);
  const order: Order = {
    kind,
    taskId: settings.flavour === 'sdnext' ? null : String(body.force_task_id ?? `task(${kind}-${randomInt(1e7)})`),
    prompt: String(body.prompt ?? ''),
    width: Math.max(8, Math.round(number('width', 512) / 8) * 8),
    height: Math.max(8, Math.round(number('height', 512) / 8) * 8),
    seed: seed === -1 ? randomInt(2 ** 32) : seed,
    steps: Math.max(1, number('steps', 50)),
    batch: number('batch_size', 1),
    iterations: number('n_iter', 1),
    checkpoint:
      typeof override.sd_model_checkpoint === 'string'
        ? findModel(settings.checkpoints, override.sd_model_checkpoint)
        : null,
    keep: body.override_settings_restore_afterwards === false,
    hasModules: Array.isArray(override.forge_additional_modules) && override.forge_additional_modules.length > 0,
    salt: JSON.stringify([body.prompt, body.negative_prompt, body.cfg_scale, body.steps, inits]),
    cut: () => req.socket.destroy(),
  };
  return { order, sampler: samplerOf(call), override };
}

/** An unknown name is another sampler's turn, without a word; SD.Next alone refuses. */
function samplerOf({ body, settings }: Call): string {
  const asked = String(body.sampler_name ?? body.sampler_index ?? 'Euler');
  if (settings.samplers.includes(asked)) return asked;
  if (settings.flavour === 'sdnext') throw new HttpProblem(404, 'Sampler not found');
  return settings.samplers[0] ?? 'Euler';
}

async function initImages({ body, settings }: Call): Promise<string[]> {
  const images = Array.isArray(body.init_images) ? body.init_images.map(String) : [];
  if (images.length === 0) {
    if (settings.flavour === 'sdnext') throw new HttpProblem(400, 'Init image is none');
    throw new HttpProblem(404, 'Init image not found');
  }
  for (const image of images) {
    const bytes = Buffer.from(image.replace(/^data:[^,]*,/, ''), 'base64');
    const sound = await sharp(bytes)
      .metadata()
      .then(
        () => true,
        () => false,
      );
    if (!sound) throw new HttpProblem(500, 'Invalid encoded image');
  }
  return images;
}

async function encode(png: Buffer, format: string): Promise<string> {
  if (format === 'png') return png.toString('base64');
  const encoded = await sharp(png)
    .toFormat(format === 'webp' ? 'webp' : 'jpeg')
    .toBuffer();
  return encoded.toString('base64');
}

const VERSIONS = { a1111: 'v1.10.1', forge: 'f2.0.1v1.10.1-previous-669-gdfdcbab6', sdnext: '058a7f0c' } as const;

function infoOf({ body, settings }: Call, { order, sampler }: Asked, { seeds, checkpoint }: Painted) {
  const { model_name, hash } = modelName(checkpoint);
  const negative = String(body.negative_prompt ?? '');
  const text = (seed: number) =>
    `${order.prompt}\nNegative prompt: ${negative}\nSteps: ${order.steps}, Sampler: ${sampler}, Seed: ${seed}, Size: ${order.width}x${order.height}, Model: ${model_name}`;
  return {
    prompt: order.prompt,
    all_prompts: seeds.map(() => order.prompt),
    negative_prompt: negative,
    all_negative_prompts: seeds.map(() => negative),
    seed: order.seed,
    all_seeds: seeds,
    subseed: 1,
    all_subseeds: seeds.map((_, i) => i + 1),
    subseed_strength: 0,
    width: order.width,
    height: order.height,
    sampler_name: sampler,
    cfg_scale: Number(body.cfg_scale ?? 7),
    steps: order.steps,
    batch_size: order.batch,
    restore_faces: false,
    face_restoration_model: null,
    sd_model_name: model_name,
    sd_model_hash: hash,
    sd_vae_name: null,
    sd_vae_hash: null,
    denoising_strength: body.denoising_strength ?? 0,
    extra_generation_params: {},
    index_of_first_image: 0,
    infotexts: seeds.map(text),
    styles: [],
    job_timestamp: '20260430091742',
    clip_skip: 1,
    is_using_inpainting_conditioning: false,
    version: settings.flavour === 'sdcpp' ? '' : VERSIONS[settings.flavour],
  };
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

function remember(made: HistoryItem[], order: Order, painted: Painted, from: number, to: number): void {
  const id = made.length + 1;
  const files = new Map(
    painted.images.map((image, i) => [`outputs/text/${String(id).padStart(5, '0')}-${i}.png`, image]),
  );
  const outputs = [...files.keys()];
  made.push({ id, job: order.kind, op: order.kind, timestamp: to, duration: (to - from) / 1000, outputs, files });
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

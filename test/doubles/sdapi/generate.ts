// POST txt2img and img2img of Automatic1111, Forge and SD.Next: from a body to an order, through the painter, to the
// answer, with the substitutions these servers make without a word.

import { randomInt } from 'node:crypto';
import sharp from 'sharp';
import { sendJson } from '../listener.ts';
import { type Call, type HistoryItem, optionsOf } from './call.ts';
import { findModel, HttpProblem, invalid, modelName } from './dialect.ts';
import { type Order, type Painted, PythonError } from './painter.ts';

export async function generate(call: Call, kind: Order['kind']): Promise<void> {
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
  sendJson(res, 200, {
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

function remember(made: HistoryItem[], order: Order, painted: Painted, from: number, to: number): void {
  const id = made.length + 1;
  const files = new Map(
    painted.images.map((image, i) => [`outputs/text/${String(id).padStart(5, '0')}-${i}.png`, image]),
  );
  const outputs = [...files.keys()];
  made.push({ id, job: order.kind, op: order.kind, timestamp: to, duration: (to - from) / 1000, outputs, files });
}

// A job in the words of the /sdapi family, and the answer held against what was asked. Pure. Everything that has a
// default on the server is said explicitly, since the defaults differ between servers and from what their pages show.

import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import type { Json } from '../../domain/units.ts';
import { type InputFile, type Job, Refusal } from '../backend.ts';
import type { PictureField } from './body.ts';
import {
  type Checkpoint,
  findCheckpoint,
  findLora,
  findSampler,
  findScheduler,
  type Installed,
  type Lora,
  namesOf,
} from './installed.ts';

/** A job whose every name was found on the server. */
export interface Order {
  readonly work: 'txt2img' | 'img2img' | 'upscale';
  readonly checkpoint: Checkpoint | null;
  readonly sampler: string | null;
  readonly scheduler: string | null;
  readonly loras: readonly { readonly lora: Lora; readonly strength: number }[];
  readonly upscaler: string | null;
  readonly modules: readonly string[] | null;
  readonly steps: number;
  readonly init: InputFile | null;
  readonly mask: InputFile | null;
}

export interface Request {
  readonly path: string;
  readonly fields: Readonly<Record<string, Json>>;
  readonly pictures: readonly PictureField[];
}

const DEFAULTS = { side: 1024, steps: 20, guidance: 7, strength: 0.75, scale: 2 } as const;
const refuse = (message: string, code: 'unsupported_input' | 'no_capable_node' = 'unsupported_input') =>
  new Refusal(code, message);

/** Throws Refusal where the server lacks what the job names. */
export function orderOf(job: Job, installed: Installed): Order {
  if (job.kind !== 'image') throw refuse('This node makes pictures only.');
  const { params, route } = job;
  const upscaler = upscalerOf(job, installed);
  const init = job.files.find((file) => file.role === 'init_image') ?? null;
  if (upscaler && !init) throw refuse('An upscaler needs an init_image.');
  screen(job, installed);
  return {
    work: upscaler ? 'upscale' : init ? 'img2img' : 'txt2img',
    checkpoint: route.checkpoint && !upscaler ? checkpointOf(route.checkpoint, installed) : null,
    sampler: samplerOf(params.sampler, installed),
    scheduler: schedulerOf(params.scheduler, installed),
    loras: params.loras.map(({ name, strength }) => ({ lora: loraOf(name, installed), strength })),
    upscaler,
    modules: modulesOf(job, installed),
    steps: params.steps ?? DEFAULTS.steps,
    init,
    mask: job.files.find((file) => file.role === 'mask') ?? null,
  };
}

/** stable-diffusion.cpp obeys settings hidden in a prompt; a caller has no business there. */
function screen({ params }: Job, { flavour }: Installed): void {
  if (flavour === 'sdcpp' && /<\s*sd_cpp_extra_args/i.test(`${params.prompt}\n${params.negativePrompt ?? ''}`)) {
    throw refuse('The prompt may not carry <sd_cpp_extra_args>.');
  }
}

function upscalerOf({ route, params }: Job, { upscalers, checkpoints, flavour }: Installed): string | null {
  const wanted = route.checkpoint;
  if (!wanted || findCheckpoint(checkpoints ?? [], wanted)) return null;
  const found = upscalers?.find((name) => name.toLowerCase() === wanted.toLowerCase()) ?? null;
  if (found && flavour === 'sdcpp') throw refuse('This node cannot upscale by itself.');
  if (found && params.mask) throw refuse('An upscaler takes no mask.');
  return found;
}

function checkpointOf(wanted: string, { checkpoints }: Installed): Checkpoint {
  const found = findCheckpoint(checkpoints ?? [], wanted);
  if (!found) throw refuse('The node does not have the checkpoint.', 'no_capable_node');
  return found;
}

function samplerOf(wanted: string | null, { samplers }: Installed): string | null {
  const found = samplers && findSampler(samplers, wanted ?? 'Euler');
  if (wanted && samplers && !found) throw refuse(`The node has no sampler "${wanted}".`);
  return found?.name ?? wanted;
}

function schedulerOf(wanted: string | null, { schedulers }: Installed): string | null {
  const found = schedulers && findScheduler(schedulers, wanted ?? 'automatic');
  if (wanted && schedulers && !found) throw refuse(`The node has no scheduler "${wanted}".`);
  return found ? (found.label ?? found.name) : wanted;
}

function loraOf(wanted: string, { loras }: Installed): Lora {
  const found = loras ? findLora(loras, wanted) : { name: wanted };
  if (!found) throw refuse(`The node has no LoRA "${wanted}".`);
  if (/[:<>]/.test(found.name)) throw refuse(`The LoRA "${wanted}" has a name that cannot be written in a prompt.`);
  return found;
}

/** Forge: `inputs.modules` names VAE and text encoders; one wrong name would break the node for everyone. */
function modulesOf({ params }: Job, { flavour, modules }: Installed): readonly string[] | null {
  const wanted = params.inputs.modules;
  if (flavour !== 'forge' || typeof wanted !== 'string') return null;
  const names = wanted
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  const missing = names.find((name) => modules && !modules.includes(name));
  if (missing) throw refuse(`The node has no module "${missing}".`, 'no_capable_node');
  return names;
}

/** The blocking request. `task`: our own id for it, where the server takes one. */
export function webRequest(job: Job, order: Order, installed: Installed, task: string): Request {
  if (order.work === 'upscale') return upscaleRequest(job, order);
  const { params } = job;
  const sdcpp = installed.flavour === 'sdcpp';
  const fields = {
    prompt: sdcpp ? params.prompt : params.prompt + loraTags(order),
    negative_prompt: params.negativePrompt ?? '',
    seed: params.seed,
    subseed: -1,
    subseed_strength: 0,
    width: params.width ?? DEFAULTS.side,
    height: params.height ?? DEFAULTS.side,
    steps: order.steps,
    cfg_scale: params.guidance ?? DEFAULTS.guidance,
    ...(order.sampler ? { sampler_name: order.sampler } : {}),
    ...(order.scheduler ? { scheduler: order.scheduler } : {}),
    // One picture after the other needs the memory of one, and picture k still gets seed + k.
    ...(sdcpp ? { batch_size: params.n } : { batch_size: 1, n_iter: params.n }),
    ...(sdcpp ? { lora: loraList(order) } : settings(job, order, installed)),
    ...(installed.tasks ? { force_task_id: task } : {}),
    ...(order.init ? imageFields(job) : {}),
  };
  return { path: `/sdapi/v1/${order.work}`, fields, pictures: picturesOf(order) };
}

function settings({ params }: Job, { checkpoint, modules }: Order, installed: Installed): Record<string, Json> {
  const distilled = params.inputs.distilled_guidance;
  return {
    send_images: true,
    save_images: false,
    do_not_save_samples: true,
    do_not_save_grid: true,
    restore_faces: false,
    tiling: false,
    enable_hr: false,
    ...(installed.flavour === 'forge' && typeof distilled === 'number' ? { distilled_cfg_scale: distilled } : {}),
    override_settings: {
      ...(checkpoint ? { sd_model_checkpoint: stableName(checkpoint, installed) } : {}),
      ...(modules ? { forge_additional_modules: modules } : {}),
    },
    // Putting the setting back would reload gigabytes before the next job.
    override_settings_restore_afterwards: false,
  };
}

/** A title grows a hash once the file was read, so the name is steadier, unless two folders have one of that name. */
function stableName(checkpoint: Checkpoint, { checkpoints }: Installed): string {
  const namesakes = checkpoints?.filter((one) => one.model_name === checkpoint.model_name) ?? [];
  return namesakes.length > 1 ? checkpoint.title : checkpoint.model_name;
}

const imageFields = ({ params }: Job) => ({
  denoising_strength: params.strength ?? DEFAULTS.strength,
  resize_mode: 1,
  include_init_images: false,
  ...(params.mask
    ? {
        mask_blur: 4,
        inpainting_fill: 1,
        inpaint_full_res: false,
        inpaint_full_res_padding: 32,
        inpainting_mask_invert: 0,
      }
    : {}),
});

const picturesOf = ({ init, mask }: Order): PictureField[] => [
  ...(init ? [{ key: 'init_images', path: init.path, list: true }] : []),
  ...(init && mask ? [{ key: 'mask', path: mask.path, list: false }] : []),
];

function upscaleRequest({ params }: Job, { upscaler, init }: Order): Request {
  const scale = params.inputs.scale;
  const size =
    params.width !== null && params.height !== null
      ? { resize_mode: 1, upscaling_resize_w: params.width, upscaling_resize_h: params.height, upscaling_crop: false }
      : { resize_mode: 0, upscaling_resize: typeof scale === 'number' ? scale : DEFAULTS.scale };
  const fields = {
    ...size,
    upscaler_1: upscaler,
    upscaler_2: 'None',
    extras_upscaler_2_visibility: 0,
    gfpgan_visibility: 0,
    codeformer_visibility: 0,
    codeformer_weight: 0,
    upscale_first: false,
    show_extras_results: false,
  };
  const pictures = init ? [{ key: 'image', path: init.path, list: false }] : [];
  return { path: '/sdapi/v1/extra-single-image', fields, pictures };
}

const loraTags = ({ loras }: Order): string =>
  loras.map(({ lora, strength }) => ` <lora:${lora.name}:${strength}>`).join('');
const loraList = ({ loras }: Order) =>
  loras.map(({ lora, strength }) => ({ path: lora.path ?? lora.name, multiplier: strength, is_high_noise: false }));

/** The asynchronous request of stable-diffusion.cpp. */
export function nativeRequest(job: Job, order: Order): Request {
  const { params } = job;
  const fields = {
    prompt: params.prompt,
    negative_prompt: params.negativePrompt ?? '',
    width: params.width ?? DEFAULTS.side,
    height: params.height ?? DEFAULTS.side,
    seed: params.seed,
    batch_count: params.n,
    strength: params.strength ?? DEFAULTS.strength,
    sample_params: {
      sample_steps: order.steps,
      ...(order.sampler ? { sample_method: order.sampler } : {}),
      ...(order.scheduler ? { scheduler: order.scheduler } : {}),
      guidance: { txt_cfg: params.guidance ?? DEFAULTS.guidance },
    },
    lora: loraList(order),
    output_format: 'png',
  };
  const pictures = [
    ...(order.init ? [{ key: 'init_image', path: order.init.path, list: false }] : []),
    ...(order.init && order.mask ? [{ key: 'mask_image', path: order.mask.path, list: false }] : []),
  ];
  return { path: '/sdcpp/v1/img_gen', fields, pictures };
}

const Info = z
  .object({
    sd_model_name: z.string().nullable(),
    sd_model_hash: z.string().nullable(),
    sampler_name: z.string().nullable(),
    index_of_first_image: z.number().int().nonnegative(),
  })
  .partial();
export type Info = z.infer<typeof Info>;

/** `info` is JSON text inside JSON, or empty. */
export function parseInfo(text: string): Info {
  try {
    return Info.safeParse(JSON.parse(text)).data ?? {};
  } catch {
    return {};
  }
}

/** Throws GatewayError('model_error') when the server rendered something other than what was ordered. */
export function compare(info: Info, { checkpoint, sampler }: Order, job: Job): void {
  const names = checkpoint ? namesOf(checkpoint).map(bare) : [];
  const told = [info.sd_model_name, info.sd_model_hash].filter((name): name is string => Boolean(name));
  if (checkpoint && told.length > 0 && !told.some((name) => names.includes(bare(name)))) {
    throw new GatewayError('model_error', 'The node rendered with another model.');
  }
  const asked = job.params.sampler && sampler;
  if (asked && info.sampler_name && bare(info.sampler_name) !== bare(asked)) {
    throw new GatewayError('model_error', 'The node rendered with another sampler.');
  }
}

const bare = (name: string): string =>
  name
    .replaceAll('\\', '/')
    .toLowerCase()
    .replace(/\.(safetensors|ckpt|gguf|pt)$/, '');

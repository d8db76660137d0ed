// What a ComfyUI double can be told when it starts, with its defaults, and the words of its evidence and its faults.

import { systemClock } from '../../../src/system/clock.ts';
import type { PaceClock } from '../pace.ts';
import type { PictureKind } from '../pictures.ts';
import type { Installed } from './nodes.ts';
import type { Prompt } from './queue.ts';

/**
 * A: 0.3.64 (any prompt id, no jobs API). B: 0.38 (UUIDs only, jobs API, cancel endpoint, throttled progress).
 * old: ignores client prompt ids, has `progress` messages only, interrupts whatever runs.
 */
export type Profile = 'A' | 'B' | 'old';

export interface ComfyUiSettings {
  readonly profile: Profile;
  readonly port: number;
  readonly installed: Installed;
  /** Checkpoints whose file cannot be read. */
  readonly corrupt: readonly string[];
  /** Sampling time of one prompt, spread over its steps. */
  readonly renderMs: number | ((prompt: Prompt) => number);
  /** Time to bring a checkpoint into memory. */
  readonly loadMs: number | Readonly<Record<string, number>>;
  /** Checkpoints that fit into memory together. */
  readonly resident: number;
  /** From dequeue to start: the box's own gap. An interrupt in it is lost. */
  readonly gapMs: number;
  /** From `execution_success` to the history record. */
  readonly historyMs: number;
  /** --preview-method is not `none`. */
  readonly previews: boolean;
  readonly image: PictureKind;
  /** null: the recorded machine without a GPU. */
  readonly gpu: { readonly name: string; readonly vramBytes: number } | null;
  readonly maxBodyBytes: number;
  readonly clock: PaceClock;
}

export type ComfyUiOptions = Partial<Omit<ComfyUiSettings, 'installed'>> & {
  readonly installed?: Partial<Installed>;
};

const INSTALLED: Installed = {
  checkpoints: [
    'flux1-dev-fp8.safetensors',
    'flux1-schnell-fp8.safetensors',
    'sd_xl_base_1.0.safetensors',
    'sdxl_lightning_4step.safetensors',
    'stable-audio-open-1.0.safetensors',
  ],
  diffusion_models: ['flux1-dev.safetensors', 'wan2.1_t2v_1.3B_fp16.safetensors'],
  loras: ['add_detail.safetensors', 'styles/watercolour.safetensors'],
  vae: ['ae.safetensors', 'sdxl_vae.safetensors', 'wan_2.1_vae.safetensors'],
  text_encoders: [
    'clip_l.safetensors',
    't5_base.safetensors',
    't5xxl_fp8_e4m3fn.safetensors',
    'umt5_xxl_fp8_e4m3fn_scaled.safetensors',
  ],
  upscale_models: ['4x-UltraSharp.pth', 'RealESRGAN_x4plus.pth'],
  controlnet: [],
  clip_vision: [],
  audio_encoders: [],
};

export const settle = (options: ComfyUiOptions): ComfyUiSettings => ({
  profile: 'A',
  port: 0,
  corrupt: [],
  renderMs: 0,
  loadMs: 0,
  resident: 1,
  gapMs: 0,
  historyMs: 50,
  previews: false,
  image: 'varied',
  gpu: { name: 'cuda:0 NVIDIA GeForce RTX 4090 : cudaMallocAsync', vramBytes: 25_393_692_672 },
  maxBodyBytes: 104_857_600,
  clock: systemClock,
  ...options,
  installed: { ...INSTALLED, ...options.installed },
});

/** Drawn when a prompt is accepted; they strike that prompt. */
export const PROMPT_FAULTS = [
  'dead_worker',
  'silent_load',
  'oom',
  'blocked',
  'corrupt_model',
  'drop_socket',
  'no_output',
  'interrupted',
  'stuck',
  'crash',
] as const;

/** Drawn by the request they spoil. */
const REQUEST_FAULTS = [
  'socket_silent',
  'slow_reply',
  'cut_reply',
  'error_though_queued',
  'nan_json',
  'huge_object_info',
  'view_404',
  'view_truncated',
  'view_html',
  'bad_gateway',
  'freeze',
] as const;

/**
 * dead_worker: accepts, never runs again (until a restart). silent_load {ms}: no word while the model loads. oom, blocked,
 * corrupt_model, no_output: as named. drop_socket, interrupted, crash {ms: down for}, stuck: at {step}. socket_silent:
 * sends nothing. slow_reply {ms, default: until the prompt is over}: POST /prompt answers late. cut_reply: accepted, then
 * the connection is cut. error_though_queued: 500, but queued. nan_json: NaN in /history and /object_info.
 * view_404, view_truncated, view_html: /view of a good file. bad_gateway: 502 to everything. freeze: accepts, never answers.
 */
export const FAULTS = [...PROMPT_FAULTS, ...REQUEST_FAULTS] as const;
export type ComfyUiFault = (typeof FAULTS)[number];

export interface ComfyUiLogEntry {
  readonly at: number;
  readonly what:
    | 'accept'
    | 'load'
    | 'loaded'
    | 'unload'
    | 'render_begin'
    | 'render_end'
    | 'idle'
    | 'delete'
    | 'interrupt'
    | 'worker_dead'
    | 'restart';
  readonly promptId: string | null;
  readonly checkpoint: string | null;
  readonly prefix: string | null;
  /** How a render ended; which prompt an interrupt was meant for. */
  readonly detail?: string;
}

// What an /sdapi double can be told when it starts, with its defaults, and the words of its evidence and its faults.

import { systemClock } from '../../../src/system/clock.ts';
import type { PaceClock } from '../pace.ts';
import type { PictureKind } from '../pictures.ts';

export type Flavour = 'a1111' | 'forge' | 'sdnext' | 'sdcpp';

export interface SdapiSettings {
  readonly flavour: Flavour;
  readonly port: number;
  /** File names; the first is loaded at the start. */
  readonly checkpoints: readonly string[];
  readonly loras: readonly string[];
  readonly vaes: readonly string[];
  readonly samplers: readonly string[];
  readonly upscalers: readonly string[];
  /** Forge: checkpoints that fail to load without `forge_additional_modules`. */
  readonly needModules: readonly string[];
  /** One image's sampling time, spread over its steps. */
  readonly renderMs: number;
  readonly loadMs: number | Readonly<Record<string, number>>;
  readonly image: PictureKind;
  readonly previews: boolean;
  readonly auth: { readonly username: string; readonly password: string } | null;
  /** --nowebui: no /internal routes. */
  readonly apiOnly: boolean;
  /** The option "don't interrupt in the middle": the first interrupt lets the image be finished. */
  readonly gentleInterrupt: boolean;
  /** SD.Next: units a minute; a generation costs five. */
  readonly unitsPerMinute: number;
  readonly vramBytes: number;
  readonly maxBodyBytes: number;
  readonly clock: PaceClock;
}

export type SdapiOptions = Partial<SdapiSettings>;

export const settle = (options: SdapiOptions): SdapiSettings => ({
  flavour: 'a1111',
  port: 0,
  checkpoints: ['sd_xl_base_1.0.safetensors', 'v1-5-pruned-emaonly.safetensors'],
  loras: ['add_detail', 'watercolour'],
  vaes: ['sdxl_vae.safetensors', 'ae.safetensors'],
  samplers: ['DPM++ 2M', 'DPM++ SDE', 'Euler a', 'Euler', 'LMS', 'Heun', 'DPM2', 'DDIM', 'UniPC', 'LCM'],
  upscalers: ['None', 'Lanczos', 'R-ESRGAN 4x+'],
  needModules: [],
  renderMs: 0,
  loadMs: 0,
  image: 'varied',
  previews: false,
  auth: null,
  apiOnly: false,
  gentleInterrupt: false,
  unitsPerMinute: 300,
  vramBytes: 25_393_692_672,
  maxBodyBytes: 104_857_600,
  clock: systemClock,
  ...options,
});

/** Drawn when a generation is accepted. */
export const RENDER_FAULTS = [
  'oom',
  'nan',
  'hang',
  'cut_connection',
  'failed_load',
  'silent_load',
  'truncated_base64',
  'empty_images',
  'wrong_model',
  'interrupted',
  'interrupt_500',
  'crash',
] as const;

/**
 * oom, nan (NansException): 500. hang: never answers, interrupt or not. cut_connection: mid-render; the work goes on.
 * failed_load: 500, and on Forge every later request too until another model is chosen. silent_load {ms}. truncated_base64,
 * empty_images, wrong_model (renders with another checkpoint and says so only in info), interrupted (someone at the box),
 * interrupt_500 (an interrupted job answers 500), crash {ms: down for}. bad_gateway: 502 to everything. freeze: no answer.
 * auth: 401 to everything.
 */
export const FAULTS = [...RENDER_FAULTS, 'bad_gateway', 'freeze', 'auth'] as const;
export type SdapiFault = (typeof FAULTS)[number];

export interface SdapiLogEntry {
  readonly at: number;
  readonly what:
    | 'accept'
    | 'load'
    | 'loaded'
    | 'render_begin'
    | 'render_end'
    | 'idle'
    | 'interrupt'
    | 'cut'
    | 'restart';
  /** force_task_id, or the server's own job id. */
  readonly promptId: string | null;
  readonly checkpoint: string | null;
  /** The prompt's text. */
  readonly prompt: string | null;
  readonly detail?: string;
}

// What defines a picture: the fully resolved inputs of a generation. Every default is filled in and the seed is
// drawn, so that any retry of the same Params asks for the same picture.

import type { Bytes } from './units.ts';

export interface Lora {
  readonly name: string;
  readonly strength: number;
}

/** An input picture. `blob`: already in our store. `url`: fetched (SSRF-guarded, bounded) when the attempt starts. */
export type InputRef =
  | {
      readonly kind: 'blob';
      readonly blob: string;
      readonly sha256: string;
      readonly mediaType: string;
      readonly width: number;
      readonly height: number;
      readonly bytes: Bytes;
    }
  | { readonly kind: 'url'; readonly url: string };

export const OUTPUT_FORMATS = ['png', 'webp', 'jpeg', 'avif'] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];

/** Post-processing wanted by the caller. Absent fields: as it came. */
export interface OutputOptions {
  readonly format?: OutputFormat;
  /** 1…100, for lossy formats. */
  readonly quality?: number;
  /** Longest side in pixels; never enlarges. */
  readonly maxSide?: number;
}

export type InputValue = string | number | boolean;

export interface Params {
  readonly prompt: string;
  readonly negativePrompt: string | null;
  /** Pixels; null where the model has no size (audio). */
  readonly width: number | null;
  readonly height: number | null;
  /** 0…2⁵³−1; output k of n uses seed + k. */
  readonly seed: number;
  readonly steps: number | null;
  readonly guidance: number | null;
  readonly sampler: string | null;
  readonly scheduler: string | null;
  /** Outputs per job, 1…8. */
  readonly n: number;
  readonly loras: readonly Lora[];
  readonly initImage: InputRef | null;
  readonly mask: InputRef | null;
  /** 0…1: how much of init_image is repainted. */
  readonly strength: number | null;
  /** Parameters declared by a custom workflow, by slot name. */
  readonly inputs: Readonly<Record<string, InputValue>>;
  readonly output: OutputOptions;
}

export const MAX_SEED = Number.MAX_SAFE_INTEGER;
/** Drawn seeds stay below 2³², so that every backend can repeat them. */
export const DRAWN_SEED_LIMIT = 2 ** 32;

/** The seed of output `index`; wraps inside the allowed range. */
export function seedOfOutput(seed: number, index: number): number {
  return seed > MAX_SEED - index ? seed - MAX_SEED - 1 + index : seed + index;
}

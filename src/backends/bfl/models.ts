// Black Forest Labs' models and what each takes. The API refuses what lies outside its ranges, so sizes are brought into
// them here. An unknown name is treated as a model of the newest line.

import type { Params } from '../../domain/params.ts';
import { type Range, type Size, sizeOf } from '../hosted/asked.ts';

/** Sides in pixels: from, to, and multiple of. */
interface Sides {
  readonly least: number;
  readonly most: number;
  readonly step: number;
  readonly maxPixels: number;
}

export interface Model {
  readonly size: Sides | 'ratio' | 'of the input picture';
  /** The field of an input picture. */
  readonly picture: 'image_prompt' | 'input_image' | 'image';
  readonly mask: boolean;
  readonly steps?: Range;
  readonly guidance?: Range;
  /** The field that says how much an input picture counts: 1 is most. */
  readonly weight?: 'image_prompt_strength';
}

const FIRST: Sides = { least: 256, most: 1440, step: 32, maxPixels: 1440 * 1440 };
const SECOND: Sides = { least: 64, most: 2048, step: 16, maxPixels: 4_000_000 };

const TABLE: readonly (readonly [RegExp, Model])[] = [
  [/^flux-pro-1\.1-ultra/, { size: 'ratio', picture: 'image_prompt', mask: false, weight: 'image_prompt_strength' }],
  [/^flux-pro-1\.1/, { size: FIRST, picture: 'image_prompt', mask: false }],
  [
    /^flux-dev/,
    {
      size: FIRST,
      picture: 'image_prompt',
      mask: false,
      steps: { least: 1, most: 50 },
      guidance: { least: 1.5, most: 5 },
    },
  ],
  [
    /^flux-pro-1\.0-fill/,
    {
      size: 'of the input picture',
      picture: 'image',
      mask: true,
      steps: { least: 15, most: 50 },
      guidance: { least: 1.5, most: 100 },
    },
  ],
  [/^flux-kontext/, { size: 'ratio', picture: 'input_image', mask: false }],
  [
    /^flux-2-flex/,
    {
      size: SECOND,
      picture: 'input_image',
      mask: false,
      steps: { least: 1, most: 50 },
      guidance: { least: 1.5, most: 10 },
    },
  ],
];
const NEWEST: Model = { size: SECOND, picture: 'input_image', mask: false };

export const modelOf = (remote: string): Model => TABLE.find(([names]) => names.test(remote))?.[1] ?? NEWEST;

/** The size inside the model's ranges that is nearest to the one asked for, in the same shape. Null where none was. */
export function fitted(params: Params, { least, most, step, maxPixels }: Sides): Size | null {
  const wanted = sizeOf(params);
  if (wanted === null) return null;
  const { width, height } = wanted;
  const down = Math.min(1, most / Math.max(width, height), Math.sqrt(maxPixels / (width * height)));
  const scale = Math.max(down, least / Math.min(width, height));
  const side = (value: number) => Math.min(most, Math.max(least, Math.floor((value * scale) / step + 1e-9) * step));
  return { width: side(width), height: side(height) };
}

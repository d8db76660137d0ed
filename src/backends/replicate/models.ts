// The inputs of the models at Replicate: each model has its own schema, and families share one. What is not named here is
// taken for an official model, which knows little more than a prompt, or, where a version is named, for one that takes
// what SDXL does.

import type { Range } from '../hosted/asked.ts';
import type { Brought, Order } from '../hosted/provider.ts';

interface Field extends Range {
  readonly key: string;
}

/** How big the picture is to be. */
export type Sizing =
  | { readonly by: 'pixels' }
  /** Sides inside these bounds, in steps, where the ratio is "custom". */
  | { readonly by: 'custom'; readonly least: number; readonly most: number; readonly step: number }
  /** `megapixels`: the model knows a quarter and one. */
  | { readonly by: 'ratio'; readonly ratios: readonly string[]; readonly megapixels: boolean }
  | { readonly by: 'picture' };

export interface Family {
  readonly names: RegExp;
  readonly most: number;
  readonly size: Sizing;
  readonly format: boolean;
  readonly negative: boolean;
  readonly steps?: Field;
  readonly guidance?: Field;
  /** The field of an input picture, and the one that says how much of it is repainted, or kept. */
  readonly picture?: string;
  readonly repaint?: { readonly key: string; readonly kept: boolean };
  /** White is painted anew everywhere. */
  readonly mask: boolean;
  readonly needsPicture?: boolean;
  readonly seeds: number;
}

const RATIOS = ['1:1', '16:9', '21:9', '3:2', '2:3', '4:5', '5:4', '3:4', '4:3', '9:16', '9:21'];
const SEEDS = 2 ** 32;
const SMALL_SEEDS = 2 ** 31;
const PLAIN = { format: false, negative: false, mask: false, seeds: SEEDS } as const;
const FLUX = { ...PLAIN, format: true } as const;
const REPAINT = { key: 'prompt_strength', kept: false } as const;
const guidance = (key: string, least: number, most: number): Field => ({ key, least, most });
const steps = (most: number): Field => ({ key: 'num_inference_steps', least: 1, most });

const SDXL_LIKE: Family = {
  ...PLAIN,
  names: /(^|\/)sdxl\b/,
  most: 4,
  size: { by: 'pixels' },
  negative: true,
  steps: steps(500),
  guidance: guidance('guidance_scale', 1, 50),
  picture: 'image',
  repaint: REPAINT,
  mask: true,
};

const FAMILIES: readonly Family[] = [
  {
    ...FLUX,
    names: /\/flux-schnell$/,
    most: 4,
    size: { by: 'ratio', ratios: RATIOS, megapixels: true },
    steps: steps(4),
  },
  {
    ...FLUX,
    names: /\/flux-dev$/,
    most: 4,
    size: { by: 'ratio', ratios: RATIOS, megapixels: true },
    steps: steps(50),
    guidance: guidance('guidance', 0, 10),
    picture: 'image',
    repaint: REPAINT,
  },
  {
    ...FLUX,
    names: /\/flux-1\.1-pro-ultra$/,
    most: 1,
    size: { by: 'ratio', ratios: RATIOS, megapixels: false },
    picture: 'image_prompt',
    repaint: { key: 'image_prompt_strength', kept: true },
  },
  {
    ...FLUX,
    names: /\/flux-(1\.1-)?pro$/,
    most: 1,
    size: { by: 'custom', least: 256, most: 1440, step: 32 },
    picture: 'image_prompt',
  },
  {
    ...FLUX,
    names: /\/flux-kontext-/,
    most: 1,
    size: { by: 'ratio', ratios: RATIOS, megapixels: false },
    picture: 'input_image',
  },
  {
    ...FLUX,
    names: /\/flux-fill-/,
    most: 1,
    size: { by: 'picture' },
    steps: steps(50),
    guidance: guidance('guidance', 0, 100),
    picture: 'image',
    mask: true,
    needsPicture: true,
  },
  {
    ...PLAIN,
    names: /\/ideogram-v2/,
    most: 1,
    size: { by: 'ratio', ratios: RATIOS.filter((r) => !/5:4|4:5|21/.test(r)), megapixels: false },
    negative: true,
    seeds: SMALL_SEEDS,
  },
  {
    ...PLAIN,
    names: /\/sdxl-lightning/,
    most: 4,
    size: { by: 'pixels' },
    negative: true,
    steps: steps(10),
    guidance: guidance('guidance_scale', 0, 50),
  },
  SDXL_LIKE,
];

const OFFICIAL: Family = {
  ...PLAIN,
  names: /./,
  most: 1,
  size: { by: 'ratio', ratios: ['1:1', '16:9', '9:16', '4:3', '3:4'], megapixels: false },
};

export function familyOf(remote: string): Family {
  const { name, version } = partsOf(remote);
  return FAMILIES.find(({ names }) => names.test(name)) ?? (version === null ? OFFICIAL : SDXL_LIKE);
}

export function takenBy({ picture, mask, needsPicture }: Family): readonly Brought[] {
  return [
    ...(needsPicture ? [] : (['prompt'] as const)),
    ...(picture === undefined ? [] : (['init_image'] as const)),
    ...(mask ? (['mask'] as const) : []),
  ];
}

/** `owner/name`, `owner/name:version`, `version` or `deployments/owner/name`. */
export function partsOf(remote: string): { readonly name: string; readonly version: string | null } {
  const [, name = '', version = null] = /^(.*?):?([0-9a-f]{64})?$/.exec(remote) ?? [];
  return { name, version };
}

/** Where predictions of this model are created, and what the body names besides the input. */
export function creationOf({ remote }: Order): { readonly path: string; readonly more: { readonly version?: string } } {
  const { name, version } = partsOf(remote);
  if (version !== null)
    return { path: '/predictions', more: { version: name === '' ? version : `${name}:${version}` } };
  const named = name.split('/').map(encodeURIComponent).join('/');
  return { path: `/${name.startsWith('deployments/') ? '' : 'models/'}${named}/predictions`, more: {} };
}

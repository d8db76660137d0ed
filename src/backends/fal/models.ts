// The inputs of the models at fal, by endpoint. The endpoint itself says what is done: input pictures and masks have
// endpoints of their own below the model's. What is not named here gets what nearly every model takes.

import type { Range } from '../hosted/asked.ts';
import type { Brought, Order } from '../hosted/provider.ts';

interface Choice extends Range {
  /** The only values it knows; they are sent as text. */
  readonly only?: readonly number[];
}

export interface Family {
  readonly names: RegExp;
  readonly most: number;
  readonly size: 'pixels' | readonly string[];
  /** The field that asks for PNG. */
  readonly format?: 'output_format' | 'format';
  readonly negative: boolean;
  readonly steps?: Choice;
  readonly guidance?: Choice;
  /** Endpoints below the model's for an input picture, and for a picture with a mask. */
  readonly image?: string;
  readonly mask?: string;
}

const RATIOS = ['1:1', '16:9', '9:16', '4:3', '3:4', '3:2', '2:3', '16:10', '10:16', '3:1', '1:3'];
const SDXL = {
  most: 4,
  size: 'pixels',
  format: 'format',
  negative: true,
  steps: { least: 1, most: 65 },
  guidance: { least: 0, most: 20 },
  image: 'image-to-image',
  mask: 'inpainting',
} as const;
const FLUX = { most: 4, size: 'pixels', format: 'output_format', negative: false } as const;

const FAMILIES: readonly Family[] = [
  { ...FLUX, names: /^fal-ai\/flux(-1)?\/schnell/, steps: { least: 1, most: 12 } },
  {
    ...FLUX,
    names: /^fal-ai\/flux(-1)?\/dev/,
    steps: { least: 1, most: 50 },
    guidance: { least: 1, most: 20 },
    image: 'image-to-image',
  },
  { ...FLUX, names: /^fal-ai\/flux-pro\/(v1\.1-ultra|kontext)/, size: [...RATIOS.slice(0, 7), '21:9', '9:21'] },
  { ...FLUX, names: /^fal-ai\/flux-pro/ },
  {
    names: /^fal-ai\/fast-lightning-sdxl/,
    most: 4,
    size: 'pixels',
    format: 'format',
    negative: false,
    steps: { least: 1, most: 8, only: [1, 2, 4, 8] },
    image: 'image-to-image',
    mask: 'inpainting',
  },
  { ...SDXL, names: /^fal-ai\/(fast-sdxl|playground-v25)/ },
  {
    ...FLUX,
    names: /^fal-ai\/hidream-i1/,
    negative: true,
    steps: { least: 1, most: 50 },
    guidance: { least: 0, most: 20 },
    image: 'image-to-image',
  },
  { names: /^fal-ai\/ideogram/, most: 1, size: RATIOS, negative: true },
  { names: /^fal-ai\/imagen/, most: 4, size: RATIOS.slice(0, 5), negative: true },
];
const OTHER: Family = { names: /./, most: 1, size: 'pixels', negative: false };

export const familyOf = (remote: string): Family => FAMILIES.find(({ names }) => names.test(remote)) ?? OTHER;

/** Endpoints that take an input picture under the model's own name. */
const ON_PICTURES = /\/(image-to-image|image-to-video|inpainting|edit|remix|redux|kontext(\/.+)?)$/;

export function takenBy(remote: string): readonly Brought[] {
  if (remote.endsWith('/inpainting')) return ['mask'];
  if (ON_PICTURES.test(remote)) return ['init_image'];
  const { image, mask } = familyOf(remote);
  return [
    'prompt',
    ...(image === undefined ? [] : (['init_image'] as const)),
    ...(mask === undefined ? [] : (['mask'] as const)),
  ];
}

/** The endpoint for what is asked, of what the model takes. */
export function endpointOf({ remote, initImage, mask }: Order): string {
  if (initImage === null || ON_PICTURES.test(remote)) return remote;
  const { image, mask: masked } = familyOf(remote);
  return `${remote}/${mask === null ? image : masked}`;
}

/** Requests are asked after at the app, whatever path below it they were sent to. */
export function appOf(remote: string): string {
  const parts = remote.split('/');
  return parts.slice(0, parts[0] === 'workflows' || parts[0] === 'comfy' ? 3 : 2).join('/');
}

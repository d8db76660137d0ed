// What Ideogram's models differ in: how a size is spelled, whether a negative prompt is taken, and which of the paths
// start from a picture. A model that is not known here is spoken to like the older ones, which take the least.

import { nearestRatio, type Size } from '../hosted/asked.ts';

export interface Family {
  /** `listed`: one of the resolutions, or a ratio. `pixels`: any. `own`: it chooses by itself. */
  readonly size: 'listed' | 'pixels' | 'own';
  readonly negative: boolean;
  readonly fromPicture: 'remix' | 'precise-edit' | null;
  readonly fromMask: 'inpaint' | 'precise-edit' | null;
}

const FAMILIES: readonly (readonly [prefix: string, family: Family])[] = [
  ['ideogram-4-5', { size: 'pixels', negative: false, fromPicture: 'precise-edit', fromMask: 'precise-edit' }],
  ['ideogram-4', { size: 'own', negative: false, fromPicture: 'remix', fromMask: null }],
  ['ideogram-3', { size: 'listed', negative: true, fromPicture: 'remix', fromMask: 'inpaint' }],
];
const OLDER: Family = { size: 'listed', negative: true, fromPicture: null, fromMask: null };

export const familyOf = (remote: string): Family =>
  FAMILIES.find(([prefix]) => remote.startsWith(prefix))?.[1] ?? OLDER;

const RATIOS = [
  '1x1',
  '4x3',
  '3x4',
  '3x2',
  '2x3',
  '5x4',
  '4x5',
  '16x9',
  '9x16',
  '16x10',
  '10x16',
  '2x1',
  '1x2',
  '3x1',
  '1x3',
];

/** The wide resolutions of Ideogram 3.0 and their heights; each also lies on its side. */
const WIDE: Readonly<Record<number, readonly number[]>> = {
  960: [832, 896],
  1024: [832, 896, 960, 1024],
  1088: [768, 832, 896, 960],
  1120: [896],
  1152: [704, 832, 864, 896],
  1216: [704, 768, 832],
  1248: [832],
  1280: [704, 768, 800],
  1312: [736],
  1344: [640, 704, 768],
  1408: [576, 640, 704],
  1472: [576, 640, 704],
  1536: [512, 576, 640],
};

/** The request's fields for a size. `made`: what is asked for instead, when it is not the very size. */
export function spellSize(
  size: Size,
  family: Family,
): { readonly fields: Readonly<Record<string, string>>; readonly made: string | null } {
  const pixels = `${size.width}x${size.height}`;
  if (family.size === 'pixels') return { fields: { size: pixels }, made: null };
  if (family.size === 'own') return { fields: {}, made: 'its own size' };
  const [short, long] = [size.width, size.height].sort((a, b) => a - b) as [number, number];
  if (WIDE[long]?.includes(short)) return { fields: { resolution: pixels }, made: null };
  const { ratio, exact } = nearestRatio(size, RATIOS);
  return { fields: { aspect_ratio: ratio }, made: exact ? null : ratio.replace('x', ':') };
}

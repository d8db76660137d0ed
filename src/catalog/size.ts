// How big the picture and how long the clip becomes. Three exclusive ways to ask for a size; a ratio keeps the default's
// pixel count; what is asked is kept or refused, never clamped. Only a size that nobody asked for may be fitted.

import type { GenerationRequest } from '../contract/generations.ts';
import type { Detail } from '../domain/failure.ts';
import type { Limits, Model } from '../domain/model.ts';
import type { InputRef, InputValue } from '../domain/params.ts';

export interface Size {
  readonly width: number | null;
  readonly height: number | null;
}

type Asked = Pick<GenerationRequest, 'size' | 'aspect_ratio' | 'width' | 'height'>;

/** The size, with complaints about the one asked for. An init image whose size is known sets the size by default. */
export function resolveSize(model: Model, asked: Asked, initImage: InputRef | null): { size: Size; details: Detail[] } {
  const { width, height } = model.defaults;
  const fallback: Size = { width, height };
  const ways = waysAsked(asked);
  const first = ways[0];
  if (first === undefined) {
    const known = width !== null && initImage?.kind === 'blob' ? initImage : null;
    return { size: known ? fitted(known.width, known.height, model.limits) : fallback, details: [] };
  }
  if (ways.length > 1) {
    return {
      size: fallback,
      details: ways.map((path) => ({ path, message: 'expected only one of size, aspect_ratio, or width and height' })),
    };
  }
  if (width === null || height === null) {
    return { size: fallback, details: [{ path: first, message: `${model.id} takes no size` }] };
  }
  const size = sizeAsked(asked, { width, height }, model.limits);
  return { size, details: misfits(size, asked, first, model.limits) };
}

type Way = keyof Asked;

function waysAsked(asked: Asked): readonly Way[] {
  const ways = (['size', 'aspect_ratio', 'width', 'height'] as const).filter((way) => asked[way] !== undefined);
  return ways.includes('width') ? ways.filter((way) => way !== 'height') : ways;
}

type Sides = { readonly width: number; readonly height: number };

function sizeAsked(asked: Asked, usual: Sides, limits: Limits): Sides {
  if (asked.size !== undefined) return pair(asked.size.split('x'));
  if (asked.aspect_ratio === undefined)
    return { width: asked.width ?? usual.width, height: asked.height ?? usual.height };
  const ratio = pair(asked.aspect_ratio.split(':'));
  const scale = Math.sqrt((usual.width * usual.height) / (ratio.width * ratio.height));
  return { width: onGrid(ratio.width * scale, limits), height: onGrid(ratio.height * scale, limits) };
}

const pair = ([width, height]: readonly string[]): Sides => ({ width: Number(width), height: Number(height) });
const onGrid = (value: number, { multipleOf }: Limits, round = Math.round): number =>
  Math.max(1, round(value / multipleOf)) * multipleOf;

function misfits(size: Sides, asked: Asked, way: string, limits: Limits): Detail[] {
  const single = asked.size !== undefined || asked.aspect_ratio !== undefined;
  const sides = (['width', 'height'] as const).flatMap((key) => {
    const wrong = sideMisfit(size[key], limits);
    if (wrong === null) return [];
    return [single ? { path: way, message: `${key} ${size[key]}: ${wrong}` } : { path: key, message: wrong }];
  });
  if (sides.length > 0 || size.width * size.height <= limits.maxPixels) return sides;
  return [
    {
      path: way,
      message: `${size.width} × ${size.height} is more than the ${limits.maxPixels} pixels this model allows`,
    },
  ];
}

/** The init image's own size, scaled into the limits and put on the grid. */
function fitted(width: number, height: number, limits: Limits): Size {
  const up = limits.minSide / Math.min(width, height);
  const down = Math.min(limits.maxSide / Math.max(width, height), Math.sqrt(limits.maxPixels / (width * height)));
  const scale = Math.min(down, Math.max(1, up));
  const round = scale === down ? Math.floor : Math.round;
  const whole = { width: onGrid(width * scale, limits, round), height: onGrid(height * scale, limits, round) };
  if (whole.width * whole.height <= limits.maxPixels) return whole;
  return { width: onGrid(width * scale, limits, Math.floor), height: onGrid(height * scale, limits, Math.floor) };
}

/** Why a side breaks the limits, in words beginning with "expected"; null when it does not. */
export function sideMisfit(value: number, { minSide, maxSide, multipleOf }: Limits): string | null {
  if (value < minSide) return `expected at least ${minSide}`;
  if (value > maxSide) return `expected at most ${maxSide}`;
  return value % multipleOf === 0 ? null : `expected a multiple of ${multipleOf}`;
}

/** Why an input is no length of a clip that is made, in words beginning with "expected"; null when it is one, or no length. */
export function lengthMisfit(name: string, value: InputValue, { seconds }: Limits): string | null {
  if (seconds === undefined || (name !== 'seconds' && name !== 'duration') || seconds.includes(Number(value)))
    return null;
  return `expected ${seconds.slice(0, -1).join(', ')}${seconds.length > 1 ? ' or ' : ''}${seconds.at(-1)}`;
}

// What was asked for, in the words of a provider that knows fewer of them: the nearest shape it makes, and what it
// takes no notice of. Whatever differs from the wish becomes a warning, never silence; a length is kept to or refused.

import type { Given } from '../../domain/node.ts';
import type { Params } from '../../domain/params.ts';
import { Refusal } from '../backend.ts';
import type { Brought, Picture } from './provider.ts';

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Null where the model has no size. */
export const sizeOf = ({ width, height }: Params): Size | null =>
  width === null || height === null ? null : { width, height };

/** Reads `16:9`, `16x9` and `1280:720`. */
export function sizeIn(text: string): Size {
  const [width = 1, height = 1] = text.split(/[:x]/).map(Number);
  return { width, height };
}

/** How far apart two sizes are in shape; 0 where they are alike. */
export const shapeDistance = (a: Size, b: Size): number =>
  Math.abs(Math.log((a.width * b.height) / (a.height * b.width)));

/** The first with the least distance. The list is not empty. */
export function nearest<T>(list: readonly T[], distance: (item: T) => number): T {
  return list.reduce((best, item) => (distance(item) < distance(best) ? item : best));
}

/** The ratio (`16:9`) nearest to the size. `exact`: its very shape. */
export function nearestRatio(
  size: Size,
  ratios: readonly string[],
): { readonly ratio: string; readonly exact: boolean } {
  const ratio = nearest(ratios, (one) => shapeDistance(size, sizeIn(one)));
  return { ratio, exact: shapeDistance(size, sizeIn(ratio)) < 0.01 };
}

export const notThatShape = ({ width, height }: Size, made: string): string =>
  `The provider does not make ${width}x${height}; it was asked for ${made}.`;

/** Where a provider does not say what the seeds are of several pictures that one call makes. */
export const seedsBeyond = (n: number): readonly string[] =>
  n > 1 ? ['The provider is given one seed for several pictures: which the others were made with is not known.'] : [];

type Ignorable = 'negativePrompt' | 'steps' | 'guidance' | 'sampler' | 'scheduler' | 'strength';
const NAMES: Readonly<Record<Ignorable, string>> = {
  negativePrompt: 'negative_prompt',
  steps: 'steps',
  guidance: 'guidance',
  sampler: 'sampler',
  scheduler: 'scheduler',
  strength: 'strength',
};

export interface Range {
  readonly least: number;
  readonly most: number;
}

export const within = (value: number, { least, most }: Range): number => Math.min(most, Math.max(least, value));

/** A warning where a number was brought into the provider's range. `sent` null: it was left out, which is said elsewhere. */
export const brought = (name: string, wanted: number | null, sent: number | null | undefined): string[] =>
  sent == null || sent === wanted ? [] : [`The provider does not take ${name} ${wanted}; it was asked for ${sent}.`];

/** How a clip's length is asked for: `inputs.seconds`, or `inputs.duration`. */
export const LENGTH_INPUTS = ['seconds', 'duration'];

/**
 * A warning for each of these that was given, and for each of `inputs` that the provider does not know. A length is paid
 * for by the second, so it is refused rather than left out.
 */
export function leftOut(params: Params, ignored: readonly Ignorable[], known: readonly string[] = []): string[] {
  const length = LENGTH_INPUTS.find((name) => params.inputs[name] !== undefined && !known.includes(name));
  if (length !== undefined)
    throw new Refusal('unsupported_input', `The provider is told no length here; leave inputs.${length} out.`);
  const fields = ignored.filter((field) => params[field] !== null && params[field] !== '').map((field) => NAMES[field]);
  const inputs = Object.keys(params.inputs).filter((name) => !known.includes(name));
  return [...fields, ...inputs.map((name) => `inputs.${name}`)].map(
    (name) => `The provider does not take ${name}; it was left out.`,
  );
}

/** The length that was asked for, which must be one the provider makes: it is what is paid for. Unasked, the one nearest to `usual`. */
export function lengthOf({ inputs }: Params, lengths: readonly number[], usual: number): number {
  const given = inputs.seconds ?? inputs.duration;
  if (given === undefined) return nearest(lengths, (one) => Math.abs(one - usual));
  const wanted = typeof given === 'string' ? Number(given.replace(/s$/, '')) : given;
  const made = lengths.find((one) => one === wanted);
  if (made !== undefined) return made;
  throw new Refusal('unsupported_input', `The provider makes clips of ${lengths.join(', ')} s.`);
}

const BROUGHT: readonly Brought[] = ['prompt', 'init_image', 'mask'];

/** Why a model that takes this cannot be asked with what is given, in words that follow a name; null: it can. */
export function notTaken(takes: readonly Brought[], { pictures, loras }: Given): string | null {
  if (loras.length > 0) return 'takes no LoRAs';
  const brought = pictures.includes('mask') ? 'mask' : pictures.includes('init_image') ? 'init_image' : 'prompt';
  if (brought === 'mask' && !pictures.includes('init_image')) return 'takes no mask without an init_image';
  if (takes.includes(brought)) return null;
  const [least] = BROUGHT.filter((one) => takes.includes(one));
  if (least === undefined || BROUGHT.indexOf(least) < BROUGHT.indexOf(brought))
    return `takes no ${brought} for this model`;
  return `needs ${least === 'mask' ? 'a mask' : 'an init_image'} for this model`;
}

export const dataUrl = ({ bytes, mediaType }: Picture): string =>
  `data:${mediaType};base64,${bytes.toString('base64')}`;

// What was asked for, as the input of a model at Replicate. Pure and repeatable: the same input is what a prediction whose
// answer was lost is known by.

import { Refusal } from '../backend.ts';
import {
  brought,
  dataUrl,
  leftOut,
  nearestRatio,
  notThatShape,
  type Size,
  seedsBeyond,
  sizeOf,
  within,
} from '../hosted/asked.ts';
import type { Order, Picture } from '../hosted/provider.ts';
import type { Family, Sizing } from './models.ts';

type Fields = Readonly<Record<string, string | number>>;
interface Said {
  readonly fields: Fields;
  readonly warnings: readonly string[];
}

/** Data URLs beyond it are refused; Replicate's own client stops here too. */
const MAX_PICTURE_BYTES = 7_000_000;
const MEGAPIXEL = 1024 * 1024;

export function inputOf(order: Order, family: Family): Said {
  const { params, n, seed, initImage, mask } = order;
  const { repaint } = family;
  const given = initImage !== null;
  const parts: readonly Said[] = [
    plain({ prompt: params.prompt, seed: seed % family.seeds }),
    given && family.size.by === 'ratio' ? plain({}) : sizeFields(sizeOf(params), family.size),
    plain(family.most > 1 ? { num_outputs: n } : {}),
    plain(family.format ? { output_format: 'png' } : {}),
    plain(family.negative && params.negativePrompt ? { negative_prompt: params.negativePrompt } : {}),
    ranged('steps', params.steps, family.steps),
    ranged('guidance', params.guidance, family.guidance),
    plain(given && family.picture ? { [family.picture]: inlined(initImage) } : {}),
    plain(mask === null ? {} : { mask: inlined(mask) }),
    plain(
      given && repaint && params.strength !== null
        ? { [repaint.key]: repaint.kept ? 1 - params.strength : params.strength }
        : {},
    ),
    { fields: {}, warnings: [...seedsBeyond(n), ...ignored(order, family)] },
  ];
  return {
    fields: Object.assign({}, ...parts.map(({ fields }) => fields)) as Fields,
    warnings: parts.flatMap(({ warnings }) => warnings),
  };
}

const plain = (fields: Fields): Said => ({ fields, warnings: [] });

function inlined(picture: Picture): string {
  if (picture.bytes.length > MAX_PICTURE_BYTES)
    throw new Refusal('unsupported_input', 'The provider takes input pictures of up to 7 MB.');
  return dataUrl(picture);
}

function ranged(name: string, wanted: number | null, range: Family['steps']): Said {
  if (wanted === null || range === undefined) return plain({});
  const sent = within(wanted, range);
  return { fields: { [range.key]: sent }, warnings: brought(name, wanted, sent) };
}

const ignored = ({ params, initImage }: Order, family: Family): string[] =>
  leftOut(params, [
    'sampler',
    'scheduler',
    ...(family.negative ? [] : (['negativePrompt'] as const)),
    ...(family.steps ? [] : (['steps'] as const)),
    ...(family.guidance ? [] : (['guidance'] as const)),
    ...(family.repaint || initImage === null ? [] : (['strength'] as const)),
  ]);

function sizeFields(wanted: Size | null, sizing: Sizing): Said {
  if (wanted === null || sizing.by === 'picture') return plain({});
  const { width, height } = wanted;
  if (sizing.by === 'pixels') return plain({ width, height });
  if (sizing.by === 'custom') return custom(wanted, sizing);
  const { ratio, exact } = nearestRatio(wanted, sizing.ratios);
  const small = sizing.megapixels && width * height < MEGAPIXEL / 2;
  const area = small ? MEGAPIXEL / 4 : MEGAPIXEL;
  const far = Math.abs(Math.log((width * height) / area)) > 0.25;
  return {
    fields: { aspect_ratio: ratio, ...(small ? { megapixels: '0.25' } : {}) },
    warnings:
      exact && !far ? [] : [notThatShape(wanted, `${ratio} at about ${small ? 'a quarter of a' : 'one'} megapixel`)],
  };
}

function custom(wanted: Size, { least, most, step }: Extract<Sizing, { by: 'custom' }>): Said {
  const scale = Math.min(1, most / Math.max(wanted.width, wanted.height));
  const side = (value: number) => Math.max(least, Math.floor((value * scale) / step + 1e-9) * step);
  const [width, height] = [side(wanted.width), side(wanted.height)];
  const same = width === wanted.width && height === wanted.height;
  const warnings = same ? [] : [notThatShape(wanted, `${width}x${height}`)];
  return { fields: { aspect_ratio: 'custom', width, height }, warnings };
}

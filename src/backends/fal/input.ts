// What was asked for, as the input of a model at fal. Pure. The queue takes any body and the model complains later, when
// it may have been paid: so nothing is sent that the model is known not to take.

import {
  brought,
  dataUrl,
  leftOut,
  nearest,
  nearestRatio,
  notThatShape,
  seedsBeyond,
  sizeOf,
  within,
} from '../hosted/asked.ts';
import type { Order } from '../hosted/provider.ts';
import type { Family } from './models.ts';

type Fields = Readonly<Record<string, unknown>>;

export function inputOf(
  order: Order,
  family: Family,
): { readonly fields: Fields; readonly warnings: readonly string[] } {
  const { params, seed, n, initImage, mask } = order;
  const size = sizeFields(order, family);
  const steps = ranged(params.steps, family.steps);
  const guidance = ranged(params.guidance, family.guidance);
  const fields: Fields = {
    prompt: params.prompt,
    seed: seed % 2 ** 32,
    ...size.fields,
    ...(family.most > 1 ? { num_images: n } : {}),
    ...(family.format ? { [family.format]: 'png' } : {}),
    ...(family.negative && params.negativePrompt ? { negative_prompt: params.negativePrompt } : {}),
    ...(steps === null ? {} : { num_inference_steps: family.steps?.only ? String(steps) : steps }),
    ...(guidance === null ? {} : { guidance_scale: guidance }),
    ...(initImage === null ? {} : { image_url: dataUrl(initImage) }),
    ...(mask === null ? {} : { mask_url: dataUrl(mask) }),
    ...(initImage === null || params.strength === null ? {} : { strength: params.strength }),
  };
  const warnings = [
    ...size.warnings,
    ...seedsBeyond(n),
    ...brought('steps', params.steps, steps),
    ...brought('guidance', params.guidance, guidance),
    ...leftOut(params, [
      'sampler',
      'scheduler',
      ...(family.negative ? [] : (['negativePrompt'] as const)),
      ...(family.steps ? [] : (['steps'] as const)),
      ...(family.guidance ? [] : (['guidance'] as const)),
    ]),
  ];
  return { fields, warnings };
}

function sizeFields({ job, params }: Order, { size }: Family) {
  const wanted = sizeOf(params);
  if (wanted === null || job.kind !== 'image') return { fields: {}, warnings: [] };
  if (size === 'pixels') return { fields: { image_size: wanted }, warnings: [] };
  const { ratio, exact } = nearestRatio(wanted, size);
  return { fields: { aspect_ratio: ratio }, warnings: exact ? [] : [notThatShape(wanted, ratio)] };
}

function ranged(wanted: number | null, range: Family['steps']): number | null {
  if (wanted === null || range === undefined) return null;
  if (range.only) return nearest(range.only, (one) => Math.abs(one - wanted));
  return within(wanted, range);
}

// What a generation costs. A price is fixed at submit: reserve the most it can be, charge what was delivered,
// never more than was reserved.

import type { Params } from './params.ts';
import type { Millicredits } from './units.ts';

/** A catalog price: the parts are summed. All in millicredits. */
export interface Price {
  readonly perOutput: Millicredits;
  readonly perMegapixel: Millicredits;
  readonly perStep: Millicredits;
  /** Per second of video or audio asked for (`inputs.seconds` or `inputs.duration`). */
  readonly perSecond: Millicredits;
  readonly perNodeSecond: Millicredits;
}

export const FREE: Price = { perOutput: 0, perMegapixel: 0, perStep: 0, perSecond: 0, perNodeSecond: 0 };

/** A price worked out for one request. */
export interface Quote {
  /** For each output delivered. */
  readonly perOutput: Millicredits;
  /** For each second a node worked on it. */
  readonly perNodeSecond: Millicredits;
  /** Set aside at submit: the most that will be charged. */
  readonly reserve: Millicredits;
}

/** Prices one request. `nodeSeconds`: the estimate for the whole job, used only where time is billed (doubled, since it is a cap). */
export function quote(price: Price, params: Params, nodeSeconds: number): Quote {
  const megapixels = ((params.width ?? 0) * (params.height ?? 0)) / 1_000_000;
  const seconds = Number(params.inputs.seconds ?? params.inputs.duration ?? 0) || 0;
  const perOutput = Math.ceil(
    price.perOutput +
      price.perMegapixel * megapixels +
      price.perStep * (params.steps ?? 0) +
      price.perSecond * seconds -
      1e-6,
  );
  const timed = Math.ceil(price.perNodeSecond * nodeSeconds * 2);
  return { perOutput, perNodeSecond: price.perNodeSecond, reserve: perOutput * params.n + timed };
}

/** What is charged for `outputs` delivered after `nodeSeconds` of work. */
export function charge(q: Quote, outputs: number, nodeSeconds: number): Millicredits {
  return Math.min(q.reserve, q.perOutput * outputs + Math.ceil(q.perNodeSecond * Math.max(0, nodeSeconds)));
}

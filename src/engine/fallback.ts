// Equivalent models: which may stand in for one that nothing can run, and what a generation becomes when one does.

import { type Catalog, findModel } from '../catalog/catalog.ts';
import type { Served } from '../domain/event.ts';
import type { FailureCode } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import type { Model } from '../domain/model.ts';
import type { Params } from '../domain/params.ts';
import { quote } from '../domain/price.ts';

/** Its last node or account takes no more of this for now: asking there again would only hammer it. */
export const isLimited = (g: Pick<Generation, 'state'> | null): boolean =>
  g?.state.status === 'queued' && g.state.lastFailure !== undefined && LIMITS.has(g.state.lastFailure.code);

/** Failures after which an equivalent model is the answer, where one is allowed. */
export const LIMITS: ReadonlySet<FailureCode> = new Set([
  'rate_limited',
  'provider_auth',
  'provider_balance',
  'model_gone',
]);

/** The models of its fallback list that are not retired, in order. */
export function equivalents(catalog: Catalog, model: Model): readonly Model[] {
  return model.fallback.flatMap((id) => findModel(catalog.current, id) ?? []).filter((m) => m.retired !== true);
}

/** Those of them that can make this and have not tried to. */
export function standInsFor(catalog: Catalog, model: Model, g: Generation): readonly Model[] {
  const tried = (m: Model) => g.attempts.some((a) => a.model === m.id);
  return equivalents(catalog, model).filter((m) => !tried(m) && servedBy(g, m) !== null);
}

/**
 * A generation as another model serves it: the same picture asked for (prompt, size, seed, inputs), with that model's own
 * steps, guidance and price, never above what was reserved. Null: it cannot make this.
 */
export function servedBy(g: Generation, model: Model): Served | null {
  if (!canMake(model, g.params)) return null;
  const { steps, guidance, sampler, scheduler } = model.defaults;
  const params = { ...g.params, steps, guidance, sampler, scheduler };
  const price = quote(model.price, params, (model.estimateMs * params.n) / 1000);
  return { model: model.id, params, quote: { ...price, reserve: Math.min(price.reserve, g.reserved) } };
}

function canMake({ capabilities, limits, kind }: Model, p: Params): boolean {
  const { width, height } = p;
  const sized =
    width === null ||
    height === null ||
    (fits(width, limits) && fits(height, limits) && width * height <= limits.maxPixels);
  return (
    sized &&
    (kind === 'image') === (width !== null) &&
    p.n <= limits.maxN &&
    Object.keys(p.inputs).length === 0 &&
    (p.loras.length === 0 || capabilities.has('lora')) &&
    (p.initImage === null || capabilities.has('image-to-image')) &&
    (p.mask === null || capabilities.has('inpainting'))
  );
}

const fits = (side: number, { minSide, maxSide, multipleOf }: Model['limits']): boolean =>
  side >= minSide && side <= maxSide && side % multipleOf === 0;

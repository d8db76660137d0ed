// The identity of a request, for idempotency: what defines the picture, and nothing else.

import { createHash } from 'node:crypto';
import type { InputRef, Params } from '../domain/params.ts';

/**
 * Hash of the logical request. It is taken of what a request resolved to, so two ways of saying the same (`size` or
 * `width` and `height`, a default written out or left out, an alias or its model) hash alike. The seed is left out, since
 * a retry may draw another. `softened`: the prompt to use after a refusal.
 */
export function requestHash(model: string, { seed: _, ...params }: Params, softened: string | null): string {
  const { negativePrompt, initImage, mask } = params;
  const logical = {
    model,
    ...params,
    negativePrompt: negativePrompt || null,
    initImage: picture(initImage),
    mask: picture(mask),
    softened,
  };
  return createHash('sha256').update(canonical(logical)).digest('hex');
}

/** The same picture is the same whichever way it came. */
const picture = (ref: InputRef | null): string | null =>
  ref === null ? null : ref.kind === 'url' ? ref.url : ref.sha256;

/** JSON with sorted keys; absent and undefined are the same. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : inner,
  );
}

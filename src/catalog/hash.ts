// The identity of a request, for idempotency: what defines the picture, and nothing else.

import { createHash } from 'node:crypto';
import type { GenerationRequest } from '../contract/generations.ts';

/**
 * Hash of the logical request: what defines the picture, and nothing else. Two ways of saying the same (`size` or
 * `width` and `height`, an `n` of 1 or none) hash alike; the seed is left out, since a retry may draw another.
 */
export function requestHash(model: string, request: GenerationRequest): string {
  const { width, height } = request.size === undefined ? request : sides(request.size);
  const logical = {
    model,
    prompt: request.prompt ?? '',
    negative_prompt: request.negative_prompt,
    softened_prompt: request.softened_prompt,
    width,
    height,
    aspect_ratio: request.aspect_ratio,
    guidance: request.guidance,
    steps: request.steps,
    sampler: request.sampler,
    scheduler: request.scheduler,
    n: request.n ?? 1,
    loras: request.loras ?? [],
    init_image: request.init_image,
    mask: request.mask,
    strength: request.strength,
    inputs: request.inputs ?? {},
    output: request.output ?? {},
  };
  return createHash('sha256').update(canonical(logical)).digest('hex');
}

function sides(size: string): { width: number; height: number } {
  const [width, height] = size.split('x');
  return { width: Number(width), height: Number(height) };
}

/** JSON with sorted keys; absent and undefined are the same. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)))
      : inner,
  );
}

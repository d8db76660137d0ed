// Who refers to a blob. Blobs are content-addressed, so generations and uploads may share one; its bytes may go only
// when the last reference goes. Inputs of work under way hold their blobs too.

import type { Generation } from '../domain/generation.ts';
import type { BlobRefRow } from './schema.ts';

export const inputRefs = (g: Pick<Generation, 'id' | 'params'>): BlobRefRow[] =>
  [g.params.initImage, g.params.mask].flatMap((input) =>
    input?.kind === 'blob' ? [{ blob: input.blob, owner: g.id, role: 'input' as const }] : [],
  );

/** Every blob of a finished generation, each once. */
export function outputBlobs({ state }: Pick<Generation, 'state'>): string[] {
  if (state.status !== 'succeeded') return [];
  const blobs = state.outputs.flatMap((o) => [o.blob, o.original, ...(o.thumbnail === null ? [] : [o.thumbnail])]);
  return [...new Set(blobs)];
}

export const outputRefs = (g: Pick<Generation, 'id' | 'state'>): BlobRefRow[] =>
  outputBlobs(g).map((blob) => ({ blob, owner: g.id, role: 'output' }));

// For providers whose answer to the submit is the result: there is no job to ask about, so a breakdown leaves nobody who
// could tell whether a picture was made and billed.

import { z } from 'zod';
import { failure } from '../../domain/failure.ts';
import { refusedSubmit } from './answered.ts';
import type { Order, Picture, Result } from './provider.ts';

/** By its status alone. */
export const refusedAtOnce: typeof refusedSubmit = (reply, forbids) =>
  reply.status === 413
    ? failure('too_large', 'The provider takes no request of this size.')
    : refusedSubmit(reply, forbids);

/** The names (of `inputs`) that the provider has a field for, with what was given. */
export const inputsOf = ({ params }: Order, known: readonly string[]) =>
  Object.fromEntries(Object.entries(params.inputs).filter(([name]) => known.includes(name)));

/** A picture as OpenAI answers with it, and those who imitate it: inside the answer, there as a data URL too, or behind a link. */
export const OpenAiPicture = z.object({ b64_json: z.string().nullish(), url: z.string().nullish() });

export function resultOf({ b64_json, url }: z.infer<typeof OpenAiPicture>): readonly Result[] {
  if (b64_json) return [{ base64: b64_json }];
  if (!url) return [];
  return [DATA_URL.test(url) ? { base64: url.replace(DATA_URL, '') } : { url }];
}

const DATA_URL = /^data:[^,]*;base64,/;

/** As a file of a form. */
export const blobOf = ({ bytes, mediaType }: Picture): Blob => new Blob([new Uint8Array(bytes)], { type: mediaType });

/** `png` of `image/png`: providers look at a file's name. */
export const endingOf = (mediaType: string): string => mediaType.split('/')[1] ?? 'png';

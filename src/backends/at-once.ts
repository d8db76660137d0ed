// For providers whose answer to the submit is the result: there is no job to ask about, so a breakdown leaves nobody who
// could tell whether a picture was made and billed.

import { type Failure, failure } from '../domain/failure.ts';
import { refusedSubmit, told } from './answered.ts';
import type { Order, Picture, Reply } from './provider.ts';

/** By its status alone. */
export function refusedAtOnce(reply: Reply): Failure {
  const { status } = reply;
  if (status === 413) return failure('too_large', 'The provider takes no request of this size.');
  if (status === 503 && reply.header('retry-after') !== null) return told('rate_limited');
  if (status === 408 || status >= 500)
    return failure('node_lost', 'The provider broke down over it.', { retryable: false, possiblyBilled: true });
  return refusedSubmit(reply);
}

/** The names (of `inputs`) that the provider has a field for, with what was given. */
export const inputsOf = ({ params }: Order, known: readonly string[]) =>
  Object.fromEntries(Object.entries(params.inputs).filter(([name]) => known.includes(name)));

/** As a file of a form. */
export const blobOf = ({ bytes, mediaType }: Picture): Blob => new Blob([new Uint8Array(bytes)], { type: mediaType });

/** `png` of `image/png`: providers look at a file's name. */
export const endingOf = (mediaType: string): string => mediaType.split('/')[1] ?? 'png';

// The idempotency key of a request: the header and the field are one key, and both with different values contradict each
// other.

import { GenerationRequest } from '../../contract/generations.ts';
import { GatewayError } from '../../domain/failure.ts';
import type { Asked } from './route.ts';

/** Undefined: there is none. Throws invalid_request. */
export function keyOf({
  headers,
  body,
}: Pick<Asked<unknown, { readonly idempotency_key?: string | undefined }>, 'headers' | 'body'>): string | undefined {
  const header = headers['idempotency-key'];
  if (header === undefined) return body.idempotency_key;
  const key = GenerationRequest.shape.idempotency_key.safeParse(header);
  const message = key.success ? 'differs from the Idempotency-Key header' : 'expected a header of 1 to 255 characters';
  if (!key.success || (body.idempotency_key !== undefined && body.idempotency_key !== header)) {
    const details = [{ path: 'idempotency_key', message }];
    throw new GatewayError('invalid_request', `idempotency_key: ${message}`, { details });
  }
  return key.data;
}

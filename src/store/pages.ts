// Pages of a listing and the opaque cursors between them. A cursor names the last row seen, so a page costs the same
// however deep it lies, and rows that arrive meanwhile neither repeat nor hide others.

import { z } from 'zod';
import { GatewayError } from '../domain/failure.ts';

export interface Page<T> {
  readonly data: readonly T[];
  /** Opaque continuation, or null at the end. */
  readonly next: string | null;
}

/** The place of a row in a listing: when it was made, then its id. */
export type Place = readonly [at: number, id: string];

const Place = z.tuple([z.int(), z.string().min(1).max(100)]);

/** `rows`: one more than `limit` where there is more. */
export function pageOf<R, T>(
  rows: readonly R[],
  limit: number,
  place: (row: R) => Place,
  render: (row: R) => T,
): Page<T> {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const next = rows.length > limit && last !== undefined ? encode(place(last)) : null;
  return { data: shown.map(render), next };
}

/** Throws GatewayError('invalid_request') on anything `pageOf` did not make. */
export function placeOf(cursor: string): Place {
  const parsed = Place.safeParse(decode(cursor));
  if (!parsed.success || encode(parsed.data) !== cursor) {
    const message = 'cursor: not one that a listing gave out';
    throw new GatewayError('invalid_request', message, { details: [{ path: 'cursor', message }] });
  }
  return parsed.data;
}

const encode = (place: Place): string => Buffer.from(JSON.stringify(place)).toString('base64url');

function decode(cursor: string): unknown {
  try {
    return JSON.parse(Buffer.from(cursor, 'base64url').toString());
  } catch {
    return null;
  }
}

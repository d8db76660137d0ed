// Units and identifiers. Inside the house time is always milliseconds, size always bytes, money always integer
// millicredits (1 credit = 1000), so that nothing is ever off by a thousand.

/** A point in time (milliseconds since 1970, UTC) or a span of it. */
export type Millis = number;
/** Money: integer thousandths of a credit. The ledger holds nothing else. */
export type Millicredits = number;
export type Bytes = number;

/** `gen_` + ULID. */
export type GenerationId = string;
export type WorkspaceId = string;
export type KeyId = string;
export type ModelId = string;
export type NodeId = string;
/** Position in the event log; increases in commit order. Doors render it opaquely. */
export type Cursor = number;

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** Credits as people write them (at most 3 decimals) → millicredits. Throws RangeError on finer or non-finite amounts. */
export function toMillicredits(credits: number): Millicredits {
  const millis = Math.round(credits * 1000);
  if (!Number.isSafeInteger(millis) || Math.abs(millis - credits * 1000) > 1e-6) {
    throw new RangeError(`${credits} is not an amount of credits with at most 3 decimals`);
  }
  return millis;
}

/** Millicredits → a JSON number of credits. Exact: a safe integer over 1000 prints with at most 3 decimals. */
export function toCredits(millis: Millicredits): number {
  return millis / 1000;
}

/** RFC 3339 UTC with `Z`, without milliseconds where they are zero (`2026-04-30T09:17:42Z`). */
export function toTimestamp(at: Millis): string {
  return new Date(at).toISOString().replace('.000Z', 'Z');
}

// How much structure a JSON text holds, found in its bytes before anything is made of it: a million keys or brackets cost
// seconds and hundreds of megabytes as values, but milliseconds here. The text need not be valid JSON.

import type { Detail } from '../../domain/failure.ts';

const NOTHING = 0;
const QUOTE = 1;
const COMMA = 2;
const OPENING = 3;
const CLOSING = 4;
const COLON = 5;
const BACKSLASH_BYTE = 0x5c;
const QUOTE_BYTE = 0x22;

/** What a byte is, outside of strings. */
const KINDS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const kinds: Readonly<Record<string, number>> = {
    '"': QUOTE,
    ',': COMMA,
    ':': COLON,
    '[': OPENING,
    '{': OPENING,
    ']': CLOSING,
    '}': CLOSING,
  };
  return kinds[String.fromCharCode(byte)] ?? NOTHING;
});

const MAX_DEPTH = 32;

/**
 * Null: no more than `maxItems` fields and items in all, no more than MAX_DEPTH levels of them. Else the outermost field that holds too
 * much; '' when it is the body itself.
 */
export function excessOf(json: Buffer, maxItems: number): Detail | null {
  let items = 0;
  let depth = 0;
  let quote = 0;
  let field = 0;
  const excess = (message: string): Detail => ({ path: depth > 1 ? textAt(json, field) : '', message });
  for (let at = 0; at < json.length; at++) {
    const kind = KINDS[json[at] as number];
    if (kind === NOTHING) continue;
    if (kind === QUOTE) {
      quote = at;
      at = endOfText(json, at);
    } else if (kind === COLON) {
      if (depth === 1) field = quote;
    } else if (kind === CLOSING) {
      depth--;
    } else {
      if (++items > maxItems) return excess(`more than ${maxItems} fields and items in the request`);
      if (kind === OPENING && ++depth > MAX_DEPTH) return excess(`nested deeper than ${MAX_DEPTH} levels`);
    }
  }
  return null;
}

/** Where the string that begins at `at` ends. */
function endOfText(json: Buffer, at: number): number {
  let end = at + 1;
  while (end < json.length && json[end] !== QUOTE_BYTE) end += json[end] === BACKSLASH_BYTE ? 2 : 1;
  return end;
}

function textAt(json: Buffer, at: number): string {
  try {
    return String(JSON.parse(json.toString('utf8', at, endOfText(json, at) + 1)));
  } catch {
    return '';
  }
}

/** The path of a `__proto__` in it, which no object of ours may be given; null: there is none. */
export function protoIn(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return null;
  for (const [key, inner] of Object.entries(value)) {
    if (key === '__proto__') return key;
    const below = protoIn(inner);
    if (below !== null) return `${key}.${below}`;
  }
  return null;
}

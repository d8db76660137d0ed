// Text of a CSV cell or of `--set` → the value that a request's field needs. The request's own schema says which fields
// are numbers; whatever does not fit stays text, so that the schema's refusal names it.

import { z } from 'zod';
import { GenerationRequest } from '../contract/generations.ts';

interface Shape {
  readonly type?: string;
  readonly anyOf?: readonly Shape[];
  readonly properties?: Readonly<Record<string, Shape>>;
  readonly additionalProperties?: Shape | boolean;
}

/** Is it a field of the request? `output.format` is, of `output`. */
export const isRequestField = (name: string): boolean => Object.hasOwn(GenerationRequest.shape, headOf(name));
export const headOf = (name: string): string => name.split('.', 1)[0] as string;

/** Metadata stays text as it is written: an article number 00123 is not the number 123. */
export function cellValue(name: string, text: string): unknown {
  const kinds = kindsOf(name);
  if (kinds.has('object') || kinds.has('array')) return parsed(text, /^[[{]/);
  if ((kinds.has('integer') || kinds.has('number')) && isNumeric(text, kinds)) return Number(text);
  if (kinds.has('boolean') && /^(true|false)$/i.test(text)) return text.toLowerCase() === 'true';
  return text;
}

/** Where text is allowed too, only what reads back the same is a number: 007 stays text. */
function isNumeric(text: string, kinds: ReadonlySet<string>): boolean {
  if (text.trim() === '' || !Number.isFinite(Number(text))) return false;
  return !kinds.has('string') || String(Number(text)) === text;
}

function parsed(text: string, looksLike: RegExp): unknown {
  if (!looksLike.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

let request: Shape | undefined;

function kindsOf(name: string): ReadonlySet<string> {
  if (!isRequestField(name) || name.startsWith('metadata.')) return new Set();
  request ??= z.toJSONSchema(z.object(GenerationRequest.shape).omit({ metadata: true }), { io: 'input' }) as Shape;
  const shape = name.split('.').reduce<Shape | undefined>(inside, request);
  const types = [shape, ...(shape?.anyOf ?? [])].flatMap((s) => (s?.type === undefined ? [] : [s.type]));
  return new Set(name === 'metadata' ? ['object'] : types);
}

function inside(shape: Shape | undefined, part: string): Shape | undefined {
  const open = shape?.additionalProperties;
  return shape?.properties?.[part] ?? (typeof open === 'object' ? open : undefined);
}

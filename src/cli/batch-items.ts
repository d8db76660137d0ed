// A shot list's lines as what the gateway is asked for: request fields are the request, everything else is metadata, and
// each item has a key by which it is known on every machine and in every later run. Pure.

import { createHash } from 'node:crypto';
import { fromZod } from '../contract/errors.ts';
import { GenerationRequest } from '../contract/generations.ts';
import { headOf, isRequestField } from './batch-cells.ts';
import type { Fault, Reading, Row } from './batch-file.ts';

export interface Item {
  readonly line: number;
  /** sha256 of its identity, hex; sent as its idempotency key. */
  readonly key: string;
  /** Its identity in words, for names of pictures: `A1-red`. */
  readonly label: string;
  readonly request: GenerationRequest;
}

export interface Listing {
  readonly items: readonly Item[];
  readonly faults: readonly Fault[];
}

/** Fields that say which shot it is, when the file has them. */
const IDENTITY = ['sku', 'variant', 'model', 'prompt_version'] as const;
/** Without one of these a file's lines would be told apart by model and version alone, which name no shot. */
const NAMES_A_SHOT: readonly string[] = ['sku', 'variant'];

const SIZES = ['width', 'height', 'size', 'aspect_ratio'];

/** `defaults` hold where a line says nothing; `key`: the fields that identify an item, chosen by what the file has when null. */
export function listItems(
  reading: Reading,
  defaults: Readonly<Record<string, unknown>>,
  key: readonly string[] | null,
): Listing {
  const rows = reading.rows.map((row) => ({ line: row.line, fields: withDefaults(row.fields, defaults) }));
  const identity = identityOf(rows, key);
  if ('message' in identity) return { items: [], faults: [...reading.faults, identity] };
  const items: Item[] = [];
  const faults: Fault[] = [...reading.faults];
  for (const row of rows) {
    const made = itemOf(row, identity.names);
    if ('faults' in made) faults.push(...made.faults);
    else items.push(made);
  }
  return { items, faults: [...faults, ...twins(items)] };
}

/** A line's own size, in whatever words, is not mixed with a default one. */
function withDefaults(fields: Row['fields'], defaults: Readonly<Record<string, unknown>>): Row['fields'] {
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
  const sized = SIZES.some((name) => Object.hasOwn(given, name));
  const wanted = Object.entries(defaults).filter(([name]) => !(sized && SIZES.includes(name)));
  return { ...Object.fromEntries(wanted), ...given };
}

/** `names` null: all fields. */
function identityOf(
  rows: readonly Row[],
  key: readonly string[] | null,
): { readonly names: readonly string[] | null } | Fault {
  const there = new Set(rows.flatMap((row) => Object.keys(flat(row.fields))));
  if (key === null) {
    const found = IDENTITY.filter((name) => there.has(name));
    return { names: found.some((name) => NAMES_A_SHOT.includes(name)) ? found : null };
  }
  const missing = rows.length > 0 ? key.filter((name) => !there.has(name)) : [];
  if (missing.length === 0) return { names: key };
  return {
    line: 1,
    message: `--key names ${missing.join(', ')}, which no line has; there are: ${[...there].join(', ')}`,
  };
}

function itemOf(
  { line, fields }: Row,
  identity: readonly string[] | null,
): Item | { readonly faults: readonly Fault[] } {
  const assembled = assemble(fields);
  if (typeof assembled === 'string') return { faults: [{ line, message: assembled }] };
  const parsed = GenerationRequest.safeParse(assembled);
  if (!parsed.success) {
    const { details = [] } = fromZod(parsed.error);
    return { faults: details.map((d) => ({ line, message: `${d.path}: ${d.message}` })) };
  }
  const values = flat(fields);
  const identified = identity?.map((name) => text(values[name])) ?? null;
  const all = Object.keys(values)
    .sort()
    .map((name) => `${name}=${text(values[name])}`);
  const key = parsed.data.idempotency_key ?? sha256((identified ?? all).join('|'));
  const label = slug(identified?.filter((value) => value !== '').join('-') ?? parsed.data.prompt ?? '');
  return { line, key, label, request: { ...parsed.data, idempotency_key: key } };
}

/** The request as JSON would say it; a sentence where two fields say the same thing. */
function assemble(fields: Row['fields']): Record<string, unknown> | string {
  const request: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    const [head, rest] = isRequestField(name)
      ? [headOf(name), name.slice(headOf(name).length + 1)]
      : ['metadata', name];
    if (rest === '' && !isRecord(value)) {
      request[head] = value;
      continue;
    }
    const had = request[head] ?? {};
    const added = rest === '' ? (value as Record<string, unknown>) : { [rest]: value };
    if (!isRecord(had)) return `${name}: ${head} has a value of its own already`;
    const twice = Object.keys(added).find((inner) => Object.hasOwn(had, inner));
    if (twice !== undefined) return `${head}.${twice} is given twice`;
    request[head] = { ...had, ...added };
  }
  return request;
}

/** `{metadata: {sku: 1}}` → `{sku: 1}`: what identifies an item may stand among its metadata. */
function flat(fields: Row['fields']): Readonly<Record<string, unknown>> {
  const { metadata, ...rest } = fields;
  return isRecord(metadata) ? { ...metadata, ...rest } : fields;
}

function twins(items: readonly Item[]): Fault[] {
  const first = new Map<string, number>();
  return items.flatMap(({ key, line }) => {
    const before = first.get(key);
    if (before === undefined) first.set(key, line);
    const message = `the same shot as line ${before}: tell them apart with --key and more columns, or take one out`;
    return before === undefined ? [] : [{ line, message }];
  });
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const text = (value: unknown): string =>
  value === undefined || value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value);

export const sha256 = (value: string): string => createHash('sha256').update(value).digest('hex');

/** Letters, digits and `._-`; nothing that a shell, a path or another system's disk trips over. */
export const slug = (value: string): string =>
  value
    .normalize('NFKD')
    .replaceAll(/\[\[.*?\]\]/g, '')
    .replaceAll(/[^\w.-]+/g, '-')
    .replaceAll(/^[-.]+|[-.]+$/g, '')
    .slice(0, 60);

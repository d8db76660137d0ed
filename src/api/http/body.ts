// Bodies and queries, read with bounds. JSON is what every body is taken for, whatever its Content-Type says; what does
// not parse is answered with the place where it stops being JSON.

import express, { type Request, type Response } from 'express';
import type { z } from 'zod';
import { fromZod } from '../../contract/errors.ts';
import { type Detail, type Failure, failure, GatewayError } from '../../domain/failure.ts';
import { excessOf, protoIn } from './shape.ts';

const MAX_JSON_BYTES = 32 * 1024 * 1024;
/** Finding the place means parsing again; not worth it for more than this. */
const MAX_SEARCHED = 1024 * 1024;

/** What went wrong while reading: a failure and the status that says it best. */
export interface Unreadable {
  readonly failure: Failure;
  readonly status: number;
}

type Read = { readonly body: unknown } | { readonly unreadable: Unreadable };

/** Reads the JSON body (`{}` when there is none), or says why it cannot be read. */
export type ReadJson = (request: Request, response: Response) => Promise<Read>;

/** Too many bytes are refused before their end, more than `maxItems` fields and items before they are parsed. */
export function jsonReader(maxItems: number): ReadJson {
  const verify = (_request: unknown, _response: unknown, bytes: Buffer, encoding: string) => {
    if (!/^utf-?8$/.test(encoding)) throw new GatewayError('invalid_request', 'Expected the body in UTF-8.');
    const excess = excessOf(bytes, maxItems);
    if (excess) throw refused(excess);
  };
  const parse = express.json({ limit: MAX_JSON_BYTES, type: () => true, strict: false, verify });
  return (request, response) =>
    new Promise((resolve, reject) => {
      if (Number(request.headers['content-length'] ?? 0) > MAX_JSON_BYTES) return resolve({ unreadable: tooLarge() });
      parse(request, response, (error?: unknown) => {
        if (error === undefined) resolve({ body: request.body === undefined ? {} : (request.body as unknown) });
        else if (error instanceof GatewayError) reject(error);
        else resolve({ unreadable: unreadable(error as { type?: string; message?: string; body?: unknown }) });
      });
      let bytes = 0;
      request.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_JSON_BYTES) resolve({ unreadable: tooLarge() });
      });
    });
}

const refused = (detail: Detail) =>
  new GatewayError('invalid_request', `${detail.path === '' ? '' : `${detail.path}: `}${detail.message}`, {
    details: [detail],
  });

const tooLarge = (): Unreadable => ({
  failure: failure('too_large', `The body is larger than ${MAX_JSON_BYTES} bytes.`),
  status: 413,
});

function unreadable(error: { type?: string; message?: string; body?: unknown }): Unreadable {
  if (error.type === 'entity.too.large') return tooLarge();
  if (error.type === 'entity.parse.failed') {
    const place = typeof error.body === 'string' ? placeOf(error.message ?? '', error.body) : null;
    const where = place === null ? '' : ` at position ${place}`;
    const details = [{ path: '', message: `not valid JSON${where}` }];
    return { failure: failure('invalid_request', `The body is not valid JSON${where}.`, { details }), status: 400 };
  }
  return { failure: failure('invalid_request', 'The body could not be read.'), status: 400 };
}

/** V8 names the position in most complaints; for a stray token it quotes text instead, so the place is searched. */
function placeOf(message: string, text: string): number | null {
  const told = /at position (\d+)/.exec(message)?.[1];
  if (told !== undefined) return Number(told);
  if (!message.startsWith('Unexpected token')) return text.length;
  if (text.length > MAX_SEARCHED) return null;
  let fine = 0;
  let broken = text.length;
  while (broken - fine > 1) {
    const middle = (fine + broken) >> 1;
    if (hasStrayToken(text.slice(0, middle))) broken = middle;
    else fine = middle;
  }
  return broken - 1;
}

function hasStrayToken(text: string): boolean {
  try {
    JSON.parse(text);
    return false;
  } catch (error) {
    return (error as Error).message.startsWith('Unexpected token');
  }
}

/** `a=1&metadata.ticket=X` → `{a: '1', metadata: {ticket: 'X'}}`. Throws invalid_request on a field given twice. */
export function readQuery(url: string): Record<string, unknown> {
  const mark = url.indexOf('?');
  if (mark < 0) return {};
  const flat = new Map<string, string>();
  const nested = new Map<string, Map<string, string>>();
  for (const [name, value] of new URLSearchParams(url.slice(mark + 1))) {
    const dot = name.indexOf('.');
    const into = dot < 0 ? flat : (nested.get(name.slice(0, dot)) ?? new Map<string, string>());
    const field = dot < 0 ? name : name.slice(dot + 1);
    if (into.has(field)) throw twice(name);
    into.set(field, value);
    if (dot >= 0) nested.set(name.slice(0, dot), into);
  }
  for (const name of nested.keys()) if (flat.has(name)) throw twice(name);
  return Object.fromEntries([...flat, ...[...nested].map(([name, fields]) => [name, Object.fromEntries(fields)])]);
}

const twice = (path: string) => refused({ path, message: 'given more than once' });

/** Throws invalid_request naming every place. */
export function parsed<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const proto = protoIn(value);
  if (proto !== null) throw refused({ path: proto, message: 'expected another name' });
  const result = schema.safeParse(value);
  if (!result.success) throw new GatewayError(fromZod(result.error));
  return result.data;
}

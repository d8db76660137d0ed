// One request on its way through a hosted double, what may be answered, and the forms that bodies come in.

import type { IncomingMessage } from 'node:http';
import busboy from 'busboy';
import type { FileBytes } from '../pictures.ts';

export type Fields = Readonly<Record<string, unknown>>;

export interface FormFile {
  readonly filename: string;
  readonly mime: string;
  readonly bytes: Buffer;
}

export interface Call {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: Readonly<Record<string, string>>;
  readonly encoding: 'json' | 'form' | 'none';
  readonly body: Fields;
  /** The caller hung up, or the double was closed. */
  readonly signal: AbortSignal;
}

export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Nothing: an empty body. */
  readonly json?: unknown;
  readonly file?: FileBytes;
  /** Ready made text, such as a stream of events; its type is in the headers. */
  readonly text?: string;
  /** The pictures themselves are inside, so that what befalls a file befalls this answer. */
  readonly carries?: boolean;
}

/** Ends a handler with the answer that refuses. */
export class Refused extends Error {
  readonly answer: Answer;
  constructor(answer: Answer) {
    super(`refused with ${answer.status}`);
    this.answer = answer;
  }
}

export const json = (status: number, value: unknown, headers: Record<string, string> = {}): Answer => ({
  status,
  json: value,
  headers,
});

/** null when it is not JSON although it says so. */
export async function parseBody(req: IncomingMessage, raw: Buffer): Promise<Pick<Call, 'body' | 'encoding'> | null> {
  const type = req.headers['content-type'] ?? '';
  if (type.startsWith('multipart/form-data')) return { encoding: 'form', body: await parseForm(type, raw) };
  if (raw.length === 0) return { encoding: 'none', body: {} };
  try {
    const value: unknown = JSON.parse(raw.toString());
    return value !== null && typeof value === 'object' ? { encoding: 'json', body: value as Fields } : null;
  } catch {
    return null;
  }
}

/** Repeated names become arrays, `name[]` is `name`. */
function parseForm(type: string, raw: Buffer): Promise<Fields> {
  return new Promise((resolve, reject) => {
    const fields: Record<string, unknown> = {};
    const add = (name: string, value: unknown) => {
      const key = name.endsWith('[]') ? name.slice(0, -2) : name;
      fields[key] = key in fields ? [fields[key], value].flat() : value;
    };
    const parser = busboy({ headers: { 'content-type': type } });
    parser.on('field', add);
    parser.on('file', (name, stream, { filename, mimeType }) => {
      const chunks: Buffer[] = [];
      stream.on('data', (chunk: Buffer) => chunks.push(chunk));
      stream.on('end', () =>
        add(name, { filename: filename ?? '', mime: mimeType ?? '', bytes: Buffer.concat(chunks) } satisfies FormFile),
      );
    });
    parser.on('close', () => resolve(fields));
    parser.on('error', reject);
    parser.end(raw);
  });
}

/** A number that came as JSON or as a form's text; the default when it is absent, NaN when it is neither. */
export function number(value: unknown, otherwise: number): number {
  if (value === undefined || value === null || value === '') return otherwise;
  return typeof value === 'number' ? value : typeof value === 'string' ? Number(value) : Number.NaN;
}

export const text = (value: unknown): string => (typeof value === 'string' ? value : '');
export const whole = (value: number, least: number, most: number): boolean =>
  Number.isInteger(value) && value >= least && value <= most;

const SIDE = 1024;

/** The size of about a megapixel that a ratio like 16:9 or 16x9 stands for. */
export function sizeOfRatio(ratio: string): { readonly width: number; readonly height: number } {
  const [w = 1, h = 1] = ratio.split(/[:x]/).map(Number);
  if (!(w > 0 && h > 0)) return { width: SIDE, height: SIDE };
  const by = Math.sqrt(w / h);
  const even = (value: number) => Math.round(value / 16) * 16;
  return { width: even(SIDE * by), height: even(SIDE / by) };
}

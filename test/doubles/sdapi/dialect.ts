// Where Automatic1111, Forge and SD.Next differ in saying the same: error bodies, refusals, empty answers, names.

import { createHash } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { send, sendJson } from '../listener.ts';
import type { Flavour } from './settings.ts';

/** Ends a handler with a status and a reason, as HTTPException does. */
export class HttpProblem extends Error {
  readonly status: number;
  constructor(status: number, detail: string) {
    super(detail);
    this.status = status;
  }
}

export function problem(res: ServerResponse, flavour: Flavour, { status, message }: HttpProblem): void {
  const bodies = {
    a1111: { error: 'HTTPException', detail: message, body: '', errors: '' },
    forge: { detail: message },
    sdnext: { error: 'HTTPException', code: status, detail: message, body: '', errors: '' },
    sdcpp: { error: message },
  } satisfies Record<Flavour, unknown>;
  const challenge = status === 401 && flavour !== 'a1111' ? { 'www-authenticate': 'Basic' } : undefined;
  sendJson(res, status, bodies[flavour], challenge);
}

/** An exception nobody caught. */
export function exception(res: ServerResponse, flavour: Flavour, type: string, message: string): void {
  const bodies = {
    a1111: { error: type, detail: '', body: '', errors: message },
    forge: { error: type, detail: '', body: '', message },
    sdnext: { error: type, code: 500, detail: '', body: '', errors: message },
    sdcpp: { error: 'server_error', message },
  } satisfies Record<Flavour, unknown>;
  sendJson(res, 500, bodies[flavour]);
}

export function invalid(res: ServerResponse, flavour: Flavour, field: string, input: unknown): void {
  const loc = ['body', field];
  const old = { loc, msg: 'value is not a valid integer', type: 'type_error.integer' };
  const fresh = { type: 'int_parsing', loc, msg: 'Input should be a valid integer, unable to parse', input };
  sendJson(res, 422, { detail: [flavour === 'forge' ? fresh : old] });
}

/** What interrupt, skip, and the refreshes answer. */
export function nothing(res: ServerResponse, flavour: Flavour, usual: unknown): void {
  if (flavour === 'sdnext') send(res, 204);
  else sendJson(res, 200, usual);
}

export interface ModelName {
  readonly title: string;
  readonly model_name: string;
  readonly hash: string;
  readonly sha256: string;
  readonly filename: string;
}

export function modelName(file: string): ModelName {
  const sha256 = createHash('sha256').update(file).digest('hex');
  const hash = sha256.slice(0, 10);
  const model_name = file.replace(/\.[^.]+$/, '').replaceAll('/', '_');
  return { title: `${file} [${hash}]`, model_name, hash, sha256, filename: `models/Stable-diffusion/${file}` };
}

/** Title, model name, file name or hash → the file; null when nothing goes by that name. */
export function findModel(files: readonly string[], asked: string): string | null {
  const names = (file: string) => {
    const { title, model_name, hash, sha256 } = modelName(file);
    return [title, model_name, hash, sha256, file];
  };
  return files.find((file) => names(file).includes(asked)) ?? null;
}

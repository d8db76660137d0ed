// Answers onto the wire. JSON is stringified once; a failure is always the contract's JSON, never HTML, never a stack;
// a stream that breaks half-way breaks the connection, so that nobody takes a part for the whole.

import type { ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { HTTP_STATUS, renderError } from '../../contract/errors.ts';
import { type Failure, isRetryable } from '../../domain/failure.ts';
import type { Answer } from './route.ts';

const JSON_TYPE = 'application/json; charset=utf-8';
const DEFAULT_RETRY_AFTER_SECONDS = 5;
/** A hostile body can be wrong in a million places; nobody reads more than this. */
const MAX_DETAILS = 100;
const MAX_PATH = 200;

export async function send(response: ServerResponse, answer: Answer, requestId: string): Promise<void> {
  if (response.headersSent || response.destroyed) return;
  const headers: Record<string, string | number> = { 'x-request-id': requestId, ...answer.headers };
  if (answer.stream) {
    response.writeHead(answer.status, headers);
    return pipeline(answer.stream, response);
  }
  const text = answer.failure ? failureText(answer, requestId, headers) : (answer.text ?? jsonText(answer, headers));
  if (text !== undefined) headers['content-length'] = Buffer.byteLength(text);
  response.writeHead(answer.status, headers).end(text);
}

function jsonText(answer: Answer, headers: Record<string, string | number>): string | undefined {
  if (answer.json === undefined) return undefined;
  headers['content-type'] = JSON_TYPE;
  headers['cache-control'] ??= 'private, no-cache';
  return JSON.stringify(answer.json);
}

function failureText(answer: Answer, requestId: string, headers: Record<string, string | number>): string {
  const failure = bounded(answer.failure as Failure);
  headers['content-type'] = JSON_TYPE;
  headers['cache-control'] = 'no-store';
  const wait = retryAfter(failure, answer.status);
  if (wait !== null) headers['retry-after'] = wait;
  if (answer.status === 401) headers['www-authenticate'] = 'Bearer realm="darkroom"';
  return JSON.stringify(renderError(failure, requestId));
}

/** The answer a failure becomes; `status` where the code's own would say too little (400, 405, 416 …). */
export const refusal = (
  failure: Failure,
  status: number = HTTP_STATUS[failure.code],
  headers: Readonly<Record<string, string>> = {},
): Answer => ({ status, failure, headers });

function retryAfter(failure: Failure, status: number): number | null {
  if (failure.retryAfterSeconds !== undefined) return Math.max(1, Math.ceil(failure.retryAfterSeconds));
  return (status === 429 || status === 503) && isRetryable(failure) ? DEFAULT_RETRY_AFTER_SECONDS : null;
}

const shortened = (text: string, limit: number) => (text.length > limit ? `${text.slice(0, limit)}…` : text);

function bounded(failure: Failure): Failure {
  const details = failure.details
    ?.slice(0, MAX_DETAILS)
    .map((d) => ({ path: shortened(d.path, MAX_PATH), message: shortened(d.message, 2 * MAX_PATH) }));
  return { ...failure, message: shortened(failure.message, 1000), ...(details ? { details } : {}) };
}

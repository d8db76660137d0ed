// Pictures that callers name instead of sending: data: URLs are decoded in bounds, other URLs are fetched under guard:
// the HTTP client refuses private addresses at every connection.

import { Readable } from 'node:stream';
import { GatewayError } from '../domain/failure.ts';
import { type Http, HttpError } from '../system/system.ts';

export const MAX_INPUT_BYTES = 64 * 1024 * 1024;
const FETCH_MS = 20_000;

const WHY: Readonly<Record<HttpError['kind'], string>> = {
  unsent: 'could not be reached',
  cut: 'broke off while it was read',
  timeout: 'did not answer in time',
  too_large: 'is larger than 64 MB',
  bad_body: 'answered with something unreadable',
  refused_address: 'points at a private or reserved address',
  redirect: 'answered with a redirect, which is not followed',
};

function fetchFailure(error: unknown): unknown {
  if (!(error instanceof HttpError)) return error;
  const code =
    error.kind === 'too_large'
      ? 'too_large'
      : error.kind === 'refused_address'
        ? 'invalid_request'
        : 'unsupported_input';
  return new GatewayError(code, `The input URL ${WHY[error.kind]}.`, { cause: error });
}

/**
 * Opens an input picture by URL: the public internet only, no redirects, at most 64 MB and 20 s. Throws GatewayError
 * `unsupported_input`, `invalid_request` or `too_large`, from here or while the stream is read.
 */
export async function fetchInput(http: Http, url: string, signal: AbortSignal): Promise<Readable> {
  try {
    const response = await http.request(url, {
      trust: 'public',
      maxBytes: MAX_INPUT_BYTES,
      timeoutMs: FETCH_MS,
      signal,
    });
    if (response.ok) return Readable.from(explained(response.stream()));
    response.discard();
    throw new GatewayError('unsupported_input', `The input URL answered ${response.status}.`);
  } catch (error) {
    throw fetchFailure(error);
  }
}

async function* explained(bytes: Readable): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of bytes) yield chunk as Buffer;
  } catch (error) {
    throw fetchFailure(error);
  }
}

/** A multiple of four characters, so that every piece decodes by itself. */
const DECODE_STEP = 256 * 1024;

/**
 * The bytes of a `data:…;base64,…` URL, decoded piece by piece so that a large one does not hold up the event loop.
 * Throws GatewayError `invalid_request` when it is none, `too_large` beyond 64 MB.
 */
export function dataUrlToStream(url: string): Readable {
  const comma = url.indexOf(',');
  if (!/^data:[^,]{0,200};base64$/i.test(url.slice(0, Math.max(0, comma)))) {
    throw new GatewayError('invalid_request', 'The data: URL must be of the form data:image/png;base64,….');
  }
  const start = comma + 1;
  if ((url.length - start) * 0.75 > MAX_INPUT_BYTES + 3) {
    throw new GatewayError('too_large', 'The data: URL holds more than 64 MB.');
  }
  return Readable.from(decoded(url, start));
}

function* decoded(url: string, start: number): Generator<Buffer> {
  for (let at = start; at < url.length; at += DECODE_STEP) {
    const piece = url.slice(at, at + DECODE_STEP);
    const last = at + DECODE_STEP >= url.length;
    if (!(last ? /^[\w+/-]*={0,2}$/ : /^[\w+/-]*$/).test(piece)) {
      throw new GatewayError('invalid_request', 'The data: URL is not valid base64.');
    }
    yield Buffer.from(piece, 'base64');
  }
}

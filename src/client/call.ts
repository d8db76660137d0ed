// One HTTP call: the key on it, a bound on its time, and the answer as JSON or as DarkroomError. Redirects are not
// followed: the key goes to the gateway and nowhere else.

import { badAnswer, DarkroomError, refused, unreachable } from './errors.ts';
import type { CallOptions, ClientOptions } from './interface.ts';

/** Longer than any answer takes, `wait` included. */
const PATIENCE_MS = 150_000;

export interface Answer<T> {
  readonly body: T;
  readonly headers: Headers;
}

export interface Caller {
  /** Without trailing slash. */
  readonly base: string;
  readonly key: string;
  ask<T>(method: string, path: string, body?: unknown, options?: CallOptions): Promise<Answer<T>>;
  download(url: string, options?: CallOptions): Promise<Response>;
}

/** Throws DarkroomError when the address is none. */
export function createCaller(options: ClientOptions): Caller {
  const base = baseOf(options.url);
  const key = options.key.trim();
  // Called as a function of its own: browsers refuse a fetch whose `this` is another object.
  const fetch = options.fetch ?? ((input: string | URL | Request, init?: RequestInit) => globalThis.fetch(input, init));

  return {
    base,
    key,
    ask: (method, path, body, { signal } = {}) =>
      within(PATIENCE_MS, signal, async (bounded) => {
        const response = await reach(base, signal, () =>
          fetch(`${base}${path}`, {
            method,
            redirect: 'manual',
            signal: bounded,
            headers: {
              authorization: `Bearer ${key}`,
              accept: 'application/json',
              ...(body === undefined ? {} : { 'content-type': 'application/json' }),
            },
            ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          }),
        );
        return read(response, await reach(base, signal, () => response.text()));
      }),
    async download(url, { signal } = {}) {
      const origin = originOf(url);
      const response = await reach(origin, signal, () => fetch(url, signal ? { signal } : {}));
      if (response.ok) return response;
      throw refused(response, parsed(await reach(origin, signal, () => response.text())));
    },
  };
}

function baseOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol === 'http:' || url?.protocol === 'https:')
    return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
  throw new DarkroomError({
    code: 'invalid_request',
    message: `"${text}" is not the address of a gateway.`,
    advice: 'Give one that begins with http:// or https://, like http://127.0.0.1:8787.',
    retryable: false,
  });
}

const originOf = (url: string): string => (URL.canParse(url) ? new URL(url).origin : url);

/** What fetch throws says little and differs everywhere; the caller's own abort stays what it is. */
async function reach<T>(origin: string, signal: AbortSignal | undefined, send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw unreachable(origin, error);
  }
}

function read<T>(response: Response, text: string): Answer<T> {
  const body = parsed(text);
  if (!response.ok) throw refused(response, body);
  if (body === undefined && text !== '') {
    const json = response.headers.get('content-type')?.includes('json') === true;
    throw badAnswer(json ? 'The answer was cut off.' : 'The answer is not one of a Darkroom gateway.', json, {
      status: response.status,
    });
  }
  return { body: body as T, headers: response.headers };
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

async function within<T>(
  ms: number,
  signal: AbortSignal | undefined,
  run: (bounded: AbortSignal) => Promise<T>,
): Promise<T> {
  if (signal?.aborted) throw signal.reason;
  const bounded = new AbortController();
  const abort = () => bounded.abort(signal?.reason);
  const timer = setTimeout(() => bounded.abort(new Error(`no answer within ${ms / 1000} s`)), ms);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    return await run(bounded.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', abort);
  }
}

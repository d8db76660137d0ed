// Outbound HTTP over node-fetch: every request the gateway sends leaves here, bounded in time and size, never following
// a redirect, never with browser headers. Three kinds of trust: `node` (an operator's own box; may be private, never
// link-local or metadata), `public` (anything named from outside; private addresses only by the allow-list) and `listed`
// (only what that list names). The addresses are checked at every connection, after name resolution, so DNS rebinding gains nothing.

import { Agent as HttpAgent } from 'node:http';
import { Agent as HttpsAgent } from 'node:https';
import { Readable } from 'node:stream';
import fetch, { type BodyInit } from 'node-fetch';
import {
  complaintAbout,
  guardedLookup,
  listedAddress,
  nodeAddress,
  publicAddress,
  REFUSED_ADDRESS,
  type Reach,
} from './addresses.ts';

export interface HttpRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** A string, bytes, FormData or a stream. */
  readonly body?: BodyInit | null;
  readonly trust: 'node' | 'public' | 'listed';
  /** A connection of its own: one kept alive may be closed by the other side just as the request is written. */
  readonly fresh?: boolean;
  /** Until the whole body is read. Default 30 s. */
  readonly timeoutMs?: number;
  /** Bodies beyond it end in HttpError `too_large`. Default 16 MiB. */
  readonly maxBytes?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpResponse {
  readonly status: number;
  readonly ok: boolean;
  header(name: string): string | null;
  /** The body as a stream, cut off with an error beyond maxBytes. Read it once, by one of these. */
  stream(): Readable;
  bytes(): Promise<Buffer>;
  text(): Promise<string>;
  /** Parsed JSON; throws HttpError `bad_body` when it is not JSON. */
  json(): Promise<unknown>;
  /** Drops the connection without reading. */
  discard(): void;
}

export interface Http {
  /** Resolves once headers are in, whatever the status. Throws HttpError, or the signal's reason when aborted. */
  request(url: string, request: HttpRequest): Promise<HttpResponse>;
}

/** `unsent`: no connection was made, the server never saw it. `cut`: it may have seen it. */
export type HttpErrorKind = 'unsent' | 'cut' | 'timeout' | 'too_large' | 'bad_body' | 'refused_address' | 'redirect';

export class HttpError extends Error {
  readonly kind: HttpErrorKind;
  /** What the server answered, where the answer itself was the fault (`redirect`). */
  readonly status: number | null;
  /** Where a redirect led. */
  readonly location: string | null;
  constructor(
    kind: HttpErrorKind,
    message: string,
    options?: ErrorOptions & { readonly status?: number; readonly location?: string | null },
  ) {
    super(message, options);
    this.name = 'HttpError';
    this.kind = kind;
    this.status = options?.status ?? null;
    this.location = options?.location ?? null;
  }
}

const MAX_SOCKETS = 64;

export function createHttp({ allowPrivate }: { readonly allowPrivate: readonly string[] }): Http {
  const trusts = {
    node: guard(nodeAddress),
    public: guard(publicAddress(allowPrivate)),
    listed: guard(listedAddress(allowPrivate)),
  };
  return {
    async request(
      url,
      {
        method = 'GET',
        headers = {},
        body = null,
        trust,
        fresh = false,
        timeoutMs = 30_000,
        maxBytes = 16 * 1024 * 1024,
        signal,
      },
    ) {
      const deadline = AbortSignal.timeout(timeoutMs);
      const either = signal ? AbortSignal.any([signal, deadline]) : deadline;
      try {
        const { reach, agents, alone } = trusts[trust];
        const complaint = complaintAbout(url, reach);
        if (complaint !== null) throw new HttpError('refused_address', `the address was refused: ${complaint}`);
        const response = await fetch(url, {
          method,
          headers,
          body,
          redirect: 'manual',
          signal: either,
          agent: ({ protocol }) => (fresh ? alone : agents)[protocol as 'http:' | 'https:'],
        });
        if (response.status >= 300 && response.status < 400 && response.status !== 304) {
          (response.body as Readable | null)?.destroy();
          throw new HttpError(
            'redirect',
            `the server answered with a redirect (${response.status}), which is never followed`,
            { status: response.status, location: response.headers.get('location') },
          );
        }
        return wrap(
          response.status,
          response.headers,
          (response.body as Readable | null) ?? Readable.from([]),
          maxBytes,
          classify(signal),
        );
      } catch (error) {
        throw classify(signal)(error);
      }
    },
  };
}

/** Connections that are only made to allowed addresses. */
function guard(reach: Reach) {
  const lookup = guardedLookup(reach);
  const kept = { keepAlive: true, maxSockets: MAX_SOCKETS, lookup };
  const once = { keepAlive: false, lookup };
  return {
    reach,
    agents: { 'http:': new HttpAgent(kept), 'https:': new HttpsAgent(kept) },
    alone: { 'http:': new HttpAgent(once), 'https:': new HttpsAgent(once) },
  };
}

const UNSENT = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EHOSTDOWN',
  'ECONNABORTED',
]);
/** The other side is not who it should be, or speaks no TLS that we do: nothing is written to it. */
const NO_HANDSHAKE =
  /^(CERT_|ERR_TLS_CERT_|UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED_|HOSTNAME_MISMATCH|ERR_SSL_(WRONG_VERSION_NUMBER|UNSUPPORTED_PROTOCOL|PACKET_LENGTH_TOO_LONG|\w*(HANDSHAKE_FAILURE|PROTOCOL_VERSION|UNRECOGNIZED_NAME))$)/;

/** A server that speaks no TLS at all answers the first greeting with something else: nothing but that was written. */
const NO_TLS = /tls_validate_record_header:wrong version number/;

/** A network may go away under a request that is being written: the same code, from another call. Several failed connections together name no call. */
const isUnsent = (code: string, syscall: string | undefined, message = ''): boolean =>
  NO_HANDSHAKE.test(code) ||
  (code === 'EPROTO' && NO_TLS.test(message)) ||
  (UNSENT.has(code) && !/^(read|write)/.test(syscall ?? ''));

/** Whatever node-fetch throws → HttpError, or the caller's own abort reason. */
const classify =
  (signal: AbortSignal | undefined) =>
  (error: unknown): unknown => {
    if (error instanceof HttpError) return error;
    if (signal?.aborted) return signal.reason;
    const { name, code, message, syscall, erroredSysCall } = error as {
      readonly name?: string;
      readonly message?: string;
      readonly code?: string;
      readonly syscall?: string;
      readonly erroredSysCall?: string;
    };
    if (name === 'AbortError' || name === 'TimeoutError')
      return new HttpError('timeout', 'no complete answer in time', { cause: error });
    if (code === REFUSED_ADDRESS)
      return new HttpError('refused_address', 'the address is private or reserved', { cause: error });
    if (code !== undefined && isUnsent(code, syscall ?? erroredSysCall, message))
      return new HttpError('unsent', `no connection (${code})`, { cause: error });
    return new HttpError('cut', `the connection broke (${code ?? 'unknown'})`, { cause: error });
  };

function wrap(
  status: number,
  headers: { get(name: string): string | null },
  body: Readable,
  maxBytes: number,
  translate: (error: unknown) => unknown,
): HttpResponse {
  async function* bounded() {
    let size = 0;
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        size += chunk.length;
        if (size > maxBytes) throw new HttpError('too_large', `the answer is larger than ${maxBytes} bytes`);
        yield chunk;
      }
    } catch (error) {
      throw translate(error);
    }
  }
  const bytes = async () => {
    const chunks: Buffer[] = [];
    for await (const chunk of bounded()) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  const text = async () => (await bytes()).toString('utf8');
  return {
    status,
    ok: status >= 200 && status < 300,
    header: (name) => headers.get(name),
    stream: () => Readable.from(bounded()),
    bytes,
    text,
    async json() {
      const raw = await text();
      try {
        return JSON.parse(raw) as unknown;
      } catch (error) {
        throw new HttpError('bad_body', 'the answer is not JSON', { cause: error });
      }
    },
    discard: () => body.destroy(),
  };
}

// The one error of the client. Whatever goes wrong on the way to an answer becomes it here, with a code for programs, a
// sentence for people and what to do about it; a foreign page is never quoted.

import type { ErrorBody } from '../contract/errors.ts';
import type { GenerationBody } from '../contract/generations.ts';

type WireError = ErrorBody['error'];

/**
 * The contract's codes, and three of the client's own: `unreachable` (no connection, or nobody behind the proxy),
 * `polling_exhausted` (not final yet; poll again) and `bad_answer` (not in the words of the contract).
 */
export type ErrorCode = WireError['code'] | 'unreachable' | 'polling_exhausted' | 'bad_answer';

export interface ErrorFacts {
  readonly code: ErrorCode;
  readonly message: string;
  /** What to do about it, in one sentence. */
  readonly advice: string;
  /** May the same call be made again with a chance of success? */
  readonly retryable: boolean;
  /** Of the HTTP answer. */
  readonly status?: number;
  /** The one that ended badly, or is still on its way. */
  readonly generation?: GenerationBody;
  readonly details?: readonly { readonly path: string; readonly message: string }[];
  readonly requestId?: string;
  readonly retryAfterSeconds?: number;
  readonly cause?: unknown;
}

export class DarkroomError extends Error {
  readonly code: ErrorCode;
  readonly advice: string;
  readonly retryable: boolean;
  declare readonly status?: number;
  declare readonly generation?: GenerationBody;
  declare readonly details?: readonly { readonly path: string; readonly message: string }[];
  declare readonly requestId?: string;
  declare readonly retryAfterSeconds?: number;

  constructor({ message, cause, ...facts }: ErrorFacts) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'DarkroomError';
    this.code = facts.code;
    this.advice = facts.advice;
    this.retryable = facts.retryable;
    Object.assign(this, facts);
  }
}

export const unreachable = (origin: string, cause: unknown): DarkroomError =>
  new DarkroomError({
    code: 'unreachable',
    message: `No answer from ${origin}.`,
    advice: 'Check that the gateway runs and that its address is right, then send again.',
    retryable: true,
    cause,
  });

export const badAnswer = (message: string, retryable: boolean, more: Partial<ErrorFacts> = {}): DarkroomError =>
  new DarkroomError({
    code: 'bad_answer',
    message,
    advice: retryable
      ? 'It was cut off on the way; send again.'
      : 'Check that the address is that of a Darkroom gateway and of nothing before it.',
    retryable,
    ...more,
  });

/** A generation that ended without a picture. */
export function endedBadly(generation: GenerationBody): DarkroomError {
  const { error, status, reason } = generation;
  return new DarkroomError({
    code: error?.code ?? 'internal',
    message: reason ?? error?.message ?? `The generation ended as ${status}.`,
    advice: error?.advice ?? 'Read its attempts for what happened.',
    retryable: error?.retryable ?? false,
    generation,
  });
}

/** An HTTP answer outside 2xx. `body`: its parsed JSON, or undefined. */
export function refused(response: Response, body: unknown): DarkroomError {
  const { status } = response;
  const error = wireError(body);
  const seconds = retryAfter(response.headers.get('retry-after'));
  const more = { status, ...(seconds === undefined ? {} : { retryAfterSeconds: seconds }) };
  if (error !== undefined) return fromWire(error, more);
  // A browser shows a redirect that it did not follow as status 0.
  if (response.type === 'opaqueredirect' || (status >= 300 && status < 400)) {
    return badAnswer('The address answers with a redirect.', false, {
      advice: 'Use the address that it redirects to.',
      ...more,
    });
  }
  const known = OF_PROXIES[status];
  if (known) return new DarkroomError({ ...known, ...more });
  return badAnswer(`The answer (HTTP ${status}) is not one of a Darkroom gateway.`, status >= 500, more);
}

/** What proxies in front of a gateway answer in its place. */
const OF_PROXIES: Readonly<Record<number, Pick<ErrorFacts, 'code' | 'message' | 'advice' | 'retryable'>>> = {
  401: {
    code: 'unauthenticated',
    message: 'Something before the gateway wants other credentials.',
    advice: 'Ask who runs it how programs get through.',
    retryable: false,
  },
  403: {
    code: 'forbidden',
    message: 'Something before the gateway forbids this.',
    advice: 'Ask who runs it how programs get through.',
    retryable: false,
  },
  413: {
    code: 'too_large',
    message: 'Something before the gateway takes no body of this size.',
    advice: 'Send less, or have its limit raised.',
    retryable: false,
  },
  429: {
    code: 'rate_limited',
    message: 'Too many requests.',
    advice: 'Wait for Retry-After, then send again.',
    retryable: true,
  },
  ...Object.fromEntries(
    [502, 503, 504].map((status) => [
      status,
      {
        code: 'unreachable',
        message: `Something before the gateway cannot reach it (HTTP ${status}).`,
        advice: 'Check that the gateway runs, then send again.',
        retryable: true,
      },
    ]),
  ),
};

export function fromWire(error: WireError, more: Partial<ErrorFacts> = {}): DarkroomError {
  const { code, message, retryable, advice, details, request_id: requestId } = error;
  return new DarkroomError({
    code,
    message,
    retryable: retryable === true,
    advice: advice ?? (retryable ? 'Wait a moment, then send again.' : 'Correct the request before sending it again.'),
    ...(Array.isArray(details) ? { details } : {}),
    ...(requestId === undefined ? {} : { requestId }),
    ...more,
  });
}

/** The error of a body or a frame; undefined where it is none. */
export function wireError(body: unknown): WireError | undefined {
  const error = (body as Partial<ErrorBody> | null | undefined)?.error;
  return typeof error?.code === 'string' && typeof error.message === 'string' ? error : undefined;
}

/** Seconds, or an HTTP date. */
function retryAfter(header: string | null): number | undefined {
  if (header === null) return undefined;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}

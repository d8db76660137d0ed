// How a failure looks on the wire, and which HTTP status it wears. One table for every door.

import { z } from 'zod';
import { adviceFor, FAILURE_CODES, type Failure, type FailureCode, isRetryable } from '../domain/failure.ts';

export const HTTP_STATUS = {
  invalid_request: 422,
  unknown_model: 422,
  unsupported_input: 422,
  idempotency_conflict: 422,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  too_large: 413,
  insufficient_credits: 402,
  budget_exceeded: 402,
  rate_limited: 429,
  queue_full: 429,
  no_capable_node: 503,
  shutting_down: 503,
  internal: 500,
  safety_filter: 422,
  policy_block: 422,
  model_error: 500,
  model_gone: 422,
  out_of_memory: 500,
  node_lost: 500,
  run_timeout: 504,
  start_timeout: 504,
  provider_balance: 503,
  provider_auth: 503,
  cancelled_by_caller: 409,
  cancelled_by_admin: 409,
  batch_halted: 409,
} as const satisfies Record<FailureCode, number>;

export const ErrorCode = z.enum(FAILURE_CODES as [FailureCode, ...FailureCode[]]).meta({ id: 'ErrorCode' });

export const ErrorBody = z
  .object({
    error: z.object({
      code: ErrorCode,
      message: z.string(),
      retryable: z.boolean(),
      advice: z.string().optional(),
      details: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
      request_id: z.string().optional(),
    }),
  })
  .meta({ id: 'Error' });
export type ErrorBody = z.infer<typeof ErrorBody>;

/** The error object inside a finished generation. */
export const GenerationError = z
  .object({
    code: ErrorCode,
    message: z.string(),
    retryable: z.boolean(),
    advice: z.string(),
    possibly_billed: z.boolean().optional(),
  })
  .meta({ id: 'GenerationError' });
export type GenerationError = z.infer<typeof GenerationError>;

export function renderGenerationError(f: Failure): GenerationError {
  return {
    code: f.code,
    message: f.message,
    retryable: isRetryable(f),
    advice: adviceFor(f),
    ...(f.possiblyBilled ? { possibly_billed: true } : {}),
  };
}

export function renderError(f: Failure, requestId?: string): ErrorBody {
  return {
    error: {
      code: f.code,
      message: f.message,
      retryable: isRetryable(f),
      advice: adviceFor(f),
      ...(f.details?.length ? { details: f.details.map((d) => ({ ...d })) } : {}),
      ...(requestId ? { request_id: requestId } : {}),
    },
  };
}

/** A zod refusal → one failure whose details name every place; unknown fields by name. */
export function fromZod(error: z.ZodError, prefix = ''): Failure {
  const details = error.issues.flatMap((issue) => {
    const at = [...(prefix ? [prefix] : []), ...issue.path.map(String)];
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({ path: [...at, key].join('.'), message: 'unknown field' }));
    }
    return [{ path: at.join('.'), message: issue.message }];
  });
  const first = details[0];
  const message = first ? `${first.path ? `${first.path}: ` : ''}${first.message}` : 'The request is not valid.';
  return { code: 'invalid_request', message, details };
}

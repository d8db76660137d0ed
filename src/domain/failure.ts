// What can go wrong: one table, every door. A code says whose fault it was and what may be tried next; the text says
// it to a person. `Failure` is data and travels; `GatewayError` is the one throwable that carries it.

export type Blame = 'caller' | 'node' | 'provider' | 'gateway';

/** What the engine may do with an attempt that failed so. `never`: final at once. `elsewhere`: another node first. */
export type Retry = 'never' | 'elsewhere';

interface CodeRule {
  readonly blame: Blame;
  readonly retry: Retry;
  /** May the *caller* send the same request again with a chance of success? */
  readonly retryable: boolean;
  /** What to do about it, in one sentence. */
  readonly advice: string;
}

const rule = (blame: Blame, retry: Retry, retryable: boolean, advice: string): CodeRule => ({
  blame,
  retry,
  retryable,
  advice,
});

export const FAILURES = {
  invalid_request: rule('caller', 'never', false, 'Correct the fields named in details and send again.'),
  unknown_model: rule('caller', 'never', false, 'Pick a model from GET /v1/models.'),
  unsupported_input: rule('caller', 'never', false, 'Leave this input out, or pick a model that supports it.'),
  unauthenticated: rule('caller', 'never', false, 'Send a valid key as "Authorization: Bearer dk_…".'),
  forbidden: rule(
    'caller',
    'never',
    false,
    'Use a key with the needed scope, or a link as the gateway gave it out, before it expires.',
  ),
  not_found: rule('caller', 'never', false, 'Check the id; it may belong to another workspace or be gone.'),
  conflict: rule('caller', 'never', false, 'Read the current state and decide again.'),
  idempotency_conflict: rule('caller', 'never', false, 'Use a new idempotency key for a different request.'),
  insufficient_credits: rule(
    'caller',
    'never',
    false,
    'Add credits to the workspace before asking again; do not retry.',
  ),
  budget_exceeded: rule('caller', 'never', false, 'Raise the cap or ask for less; do not retry.'),
  rate_limited: rule('caller', 'elsewhere', true, 'Wait for Retry-After, then send again.'),
  queue_full: rule('caller', 'never', true, 'Wait until some queued work is done, then send again.'),
  too_large: rule('caller', 'never', false, 'Send less: a smaller body, file or picture.'),
  safety_filter: rule('provider', 'never', false, 'Soften the prompt and retry once with the same seed.'),
  policy_block: rule('provider', 'never', false, 'Rephrase the prompt and retry once with the same seed.'),
  model_error: rule('node', 'never', false, 'Change the model, not the prompt; do not retry blindly.'),
  model_gone: rule('provider', 'never', false, 'Choose another model from GET /v1/models.'),
  out_of_memory: rule(
    'node',
    'elsewhere',
    true,
    'Ask for a smaller picture or fewer outputs, or use a model that needs less memory.',
  ),
  no_capable_node: rule('gateway', 'never', true, 'Ask the operator to add a node or account that can run this model.'),
  node_lost: rule('node', 'elsewhere', true, 'Retry once; the node that ran it was lost.'),
  run_timeout: rule('node', 'never', true, 'Retry once, then use a faster model.'),
  start_timeout: rule(
    'gateway',
    'never',
    true,
    'Retry when the queue is shorter, or allow a longer start_within_seconds.',
  ),
  provider_balance: rule(
    'provider',
    'never',
    false,
    'The operator must top up the provider account; use another model meanwhile.',
  ),
  provider_auth: rule(
    'provider',
    'never',
    false,
    'The operator must correct the provider key; use another model meanwhile.',
  ),
  cancelled_by_caller: rule('caller', 'never', false, 'It was stopped on request; do not retry by itself.'),
  cancelled_by_admin: rule('gateway', 'never', false, 'An operator stopped it; do not retry by itself.'),
  batch_halted: rule('gateway', 'never', false, 'The batch halted on too many failures; look at its report first.'),
  shutting_down: rule('gateway', 'elsewhere', true, 'Send again in a few seconds; the gateway is restarting.'),
  internal: rule('gateway', 'never', false, 'This is a fault of the gateway; report the request id to its operator.'),
} as const satisfies Record<string, CodeRule>;

export type FailureCode = keyof typeof FAILURES;
export const FAILURE_CODES = Object.keys(FAILURES) as FailureCode[];

/** One complaint about one place in the input: `path` is dotted (`items.731.seed`), empty for the whole. */
export interface Detail {
  readonly path: string;
  readonly message: string;
}

export interface Failure {
  readonly code: FailureCode;
  /** For people. Safe to show to a caller: no paths, hosts, keys or provider text. */
  readonly message: string;
  readonly details?: readonly Detail[];
  /** Seconds after which trying again makes sense (becomes Retry-After). */
  readonly retryAfterSeconds?: number;
  /** Overrides the table where this very failure is known better (an ambiguous paid POST is never retryable). */
  readonly retryable?: boolean;
  /** A provider may have billed for it although nothing came back. */
  readonly possiblyBilled?: boolean;
}

export function failure(code: FailureCode, message: string, more: Omit<Failure, 'code' | 'message'> = {}): Failure {
  return { code, message, ...more };
}

export const isRetryable = (f: Failure): boolean => f.retryable ?? FAILURES[f.code].retryable;
export const adviceFor = (f: Failure): string => (f.possiblyBilled ? BILLED : FAILURES[f.code].advice);

const BILLED =
  'Do not send it again by itself: the provider may have billed for it; the operator can look at the account.';

/** The account itself is in trouble: no job of it fares better, by whichever route, until somebody sees to it. */
export const isOfAccount = (code: FailureCode): boolean => code === 'provider_auth' || code === 'provider_balance';

/** The one error class of the house. `cause` goes to the log only, never to a caller. */
export class GatewayError extends Error {
  readonly failure: Failure;
  constructor(
    code: FailureCode | Failure,
    message?: string,
    more: Omit<Failure, 'code' | 'message'> & { cause?: unknown } = {},
  ) {
    const { cause, ...rest } = more;
    const made = typeof code === 'string' ? failure(code, message ?? FAILURES[code].advice, rest) : code;
    super(made.message, cause === undefined ? undefined : { cause });
    this.name = 'GatewayError';
    this.failure = made;
  }
}

/** Whatever was thrown → a Failure. Unknown errors become `internal`; their text stays out of it. */
export function toFailure(thrown: unknown): Failure {
  if (thrown instanceof GatewayError) return thrown.failure;
  return failure('internal', 'The gateway met an unexpected error.');
}

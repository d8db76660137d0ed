// What a provider's answer means where its HTTP status says it all, and how a reply is read. A refused submit began
// nothing, but one that the provider broke down over, or gave up on, may have been taken; that, and whatever goes wrong
// with a job that was begun, may have been paid, and is never asked for again.

import { z } from 'zod';
import { type Failure, type FailureCode, failure, GatewayError } from '../../domain/failure.ts';
import type { Reply } from './provider.ts';

/** Of what may have been begun. */
export const PAID = { retryable: false, possiblyBilled: true } as const;

const SAID: Partial<Record<FailureCode, string>> = {
  provider_auth: 'The provider refused the key of the account.',
  provider_balance: 'The account at the provider is out of money.',
  model_gone: 'The provider no longer offers this model.',
  rate_limited: 'The provider takes no more work from this account for now.',
  unsupported_input: 'The provider refused a parameter or an input of this request.',
  policy_block: 'The provider refused the prompt or an input picture.',
  safety_filter: 'The provider withheld the result.',
  model_error: 'The provider could not make it.',
};

/** A failure in our own words; the provider's are in the log. */
export const told = (code: FailureCode, message = SAID[code]): Failure =>
  failure(code, message ?? SAID.model_error ?? '');

export const ok = ({ status }: Reply): boolean => status >= 200 && status < 300;

/** No answer came, which says nothing about the job. */
export const unanswered = (signal: AbortSignal) => (error: unknown) => {
  if (signal.aborted || error instanceof GatewayError) throw error;
  return null;
};

/** Given up on while it was busy with the request, by the provider or by somebody on the way. */
export const isBreakdown = ({ status }: Reply): boolean => status >= 500 || [408, 425, 499].includes(status);

/** What a provider says 403 about: of a refused key as well, or of the request alone. */
type Forbids = 'key' | 'request';

/**
 * Refused before anything began, by its status; in words only what a status cannot tell. After a breakdown nobody knows,
 * unless the provider says when to come back.
 */
export function refusedSubmit(reply: Reply, forbids: Forbids = 'request'): Failure {
  const { status } = reply;
  if (isAboutKey(reply)) return told('provider_auth');
  if (isModerated(reply)) return told('safety_filter');
  if (status === 403 && forbids === 'key' && !MODEL.test(textOf(reply.body))) return told('provider_auth');
  if (status === 403) return told('model_gone', 'The provider does not allow the account this request.');
  if (status === 402) return told('provider_balance');
  if (status === 404 || status === 410) return told('model_gone');
  if (status === 429 || (status === 503 && reply.header('retry-after') !== null)) return told('rate_limited');
  if (isBreakdown(reply))
    return failure('node_lost', 'The provider broke down over it, and whether it had taken it is not known.', PAID);
  return told('unsupported_input');
}

/** A question about a job that was refused for good. */
export function refusedPoll(reply: Reply, forbids: Forbids = 'request'): Failure {
  const { status } = reply;
  if (isAboutKey(reply) || (status === 403 && forbids === 'key')) return { ...told('provider_auth'), ...PAID };
  if (status === 404 || status === 410)
    return failure('node_lost', 'The provider no longer knows the job it began.', PAID);
  return failure('model_error', 'The provider does not say what became of the job.', PAID);
}

/** The reply in its expected form; throws `model_error` when it has another. */
export function readReply<T>(schema: z.ZodType<T>, { body }: Reply): T {
  const read = schema.safeParse(body);
  if (read.success) return read.data;
  throw new GatewayError('model_error', 'The provider answered with something unreadable.', {
    ...PAID,
    cause: read.error,
  });
}

/** Throws unless the answer is about this job. */
export function mustBeAbout(id: unknown, asked: unknown): void {
  if (id !== asked) throw new GatewayError('model_error', 'The provider answered about another job.', PAID);
}

/** What a text about moderation sounds like; only asked after status and machine code. */
export const MODERATED = /nsfw|moderat|safety|content.?polic|prohibited|flagged|not allowed/i;
/** As in MODERATED, but not what a complaint about a parameter could say. */
const REFUSED_TEXT =
  /nsfw|moderated|(content|by) moderation|moderation (system|filter|polic)|safety.?(system|filter|checker|polic|guideline)|content.?polic|flagged|prohibited (content|use)|\bE005\b/i;

/** A prompt or a picture that is refused in words only. What a status or a machine code says comes first. */
export const isModerated = ({ status, body }: Reply): boolean =>
  (status === 400 || status === 403 || status === 422) && REFUSED_TEXT.test(textOf(body));

/** A key may be good for some models and not for others. */
const MODEL = /\bmodel|endpoint/i;
const KEY = /api.?key|token|credential|authenticat|authoriz|authoris/i;

/** A 403 is said of one model or one prompt as well, and then the account is none the worse for it. */
const isAboutKey = ({ status, body }: Reply): boolean => status === 401 || (status === 403 && KEY.test(textOf(body)));

/** What a provider said, without what we sent, without pictures and without the key. */
export const textOf = (body: unknown, key = ''): string => {
  const said = JSON.stringify(body, (name, value: unknown) => {
    if (name === 'input' || name === 'prompt') return undefined;
    if (typeof value !== 'string') return value;
    const safe = key === '' ? value : value.replaceAll(key, '(the key)');
    return safe.length > 300 ? `${safe.slice(0, 300)}…` : safe;
  });
  return said ?? 'no JSON';
};

/** The last progress bar of a log. */
export function fractionIn(log: string): { readonly fraction?: number } {
  const percent = log.match(/\d+(?=%\|)/g)?.at(-1);
  return percent === undefined ? {} : { fraction: Math.min(100, Number(percent)) / 100 };
}

/** What a text about money sounds like. */
export const PENNILESS = /credit|balance|billing|fund/i;

/** All providers' words for a job that waits or is worked on. */
const UNDER_WAY = /^(starting|processing|queued|pending|dreaming|running|throttled|in[_ ](queue|progress))$/i;
const Status = z.object({ status: z.string().optional(), state: z.string().optional() });

/** The status of a job, where it is a word that no provider was known to say of one under way. */
export function unheardOf({ body }: Reply): string | null {
  const { status, state } = Status.safeParse(body).data ?? {};
  const said = status ?? state;
  return said === undefined || UNDER_WAY.test(said) ? null : said.slice(0, 100);
}

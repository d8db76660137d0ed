// Google's errors: a status, a name for it, and details that say more than both. A busy minute says when to come back; an
// account without money, or without any quota for this model, does not.

import { z } from 'zod';
import type { Failure } from '../../domain/failure.ts';
import { told } from '../hosted/answered.ts';
import { refusedAtOnce } from '../hosted/at-once.ts';
import type { Reply } from '../hosted/provider.ts';

const Detail = z.object({
  reason: z.string().optional(),
  retryDelay: z.string().optional(),
  violations: z.array(z.object({ quotaValue: z.coerce.string().optional() })).optional(),
});
const Refused = z.object({
  error: z.object({
    status: z.string().catch(''),
    message: z.string().catch(''),
    details: z.array(Detail).catch([]),
  }),
});

const BILLING = /billing|prepa(id|yment)|credits/i;
const KEY = /API key (not valid|expired)|API_KEY/i;

export function refusedBy(reply: Reply): Failure {
  const { data } = Refused.safeParse(reply.body);
  const { status = '', message = '', details = [] } = data?.error ?? {};
  const reasons = details.flatMap(({ reason }) => reason ?? []);
  if (reasons.includes('BILLING_DISABLED')) return told('provider_balance');
  if (reasons.some((reason) => reason.startsWith('API_KEY_')) || (reply.status === 400 && KEY.test(message)))
    return told('provider_auth');
  if (reply.status === 429) return exhausted(reply, message, details);
  if (status === 'PERMISSION_DENIED') return told('provider_auth');
  if (status === 'FAILED_PRECONDITION') return told(BILLING.test(message) ? 'provider_balance' : 'provider_auth');
  return refusedAtOnce(reply, 'key');
}

function exhausted(reply: Reply, message: string, details: readonly z.infer<typeof Detail>[]): Failure {
  if (details.some(({ violations }) => violations?.some(({ quotaValue }) => quotaValue === '0')))
    return told('provider_balance');
  const delay = Number.parseFloat(details.find(({ retryDelay }) => retryDelay)?.retryDelay ?? '');
  if (delay > 0) return { ...told('rate_limited'), retryAfterSeconds: Math.ceil(delay) };
  return told(reply.header('retry-after') === null && BILLING.test(message) ? 'provider_balance' : 'rate_limited');
}

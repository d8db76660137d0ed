// For providers that keep a job at an address of its own: a GET asks about it, a DELETE cancels it, and destroys it when
// it is finished. What went wrong with a submit they say in one sentence only.

import { z } from 'zod';
import { MODERATED, PENNILESS, readReply, refusedPoll, refusedSubmit, told } from './answered.ts';
import type { Provider, Reply } from './provider.ts';

const Begun = z.object({ id: z.string().regex(/^[\w-]{1,100}$/) });

/** `folder`: of the addresses. */
export function keptAt(
  folder: string,
): Pick<Provider, 'begun' | 'cancelDestroys'> & Required<Pick<Provider, 'poll' | 'cancel'>> {
  const addressOf = (id: unknown): string => `${folder}/${encodeURIComponent(String(id))}`;
  return {
    begun: (reply) => ({ reference: { id: readReply(Begun, reply).id } }),
    poll: ({ id }) => ({ method: 'GET', path: addressOf(id) }),
    cancel: ({ id }) => ({ method: 'DELETE', path: addressOf(id) }),
    cancelDestroys: true,
  };
}

/** `field`: the one with the sentence, which alone tells whether it was the money, the prompt or a parameter. `forbids`: a 403 is said of the key. */
export const refusedInWords =
  (field: string, forbids?: 'key'): Provider['refused'] =>
  (reply, stage) =>
    stage === 'poll' ? refusedPoll(reply, forbids) : (explained(reply, field) ?? refusedSubmit(reply, forbids));

function explained({ status, body }: Reply, field: string) {
  const { data } = z.record(z.string(), z.unknown()).safeParse(body);
  const sentence = data?.[field];
  if (status !== 400 || typeof sentence !== 'string') return null;
  if (MODERATED.test(sentence)) return told('policy_block');
  return PENNILESS.test(sentence) ? told('provider_balance') : null;
}

// fal's queue: a request is polled for its status, and COMPLETED also means failed: the result's own HTTP status says how it
// ended. Requests are asked after by their app and number, never at the addresses an answer names. Pictures that were
// blanked are marked in the result, and count as withheld.

import { z } from 'zod';
import { type Failure, failure } from '../../domain/failure.ts';
import {
  fractionIn,
  isModerated,
  mustBeAbout,
  readReply,
  refusedPoll,
  refusedSubmit,
  told,
} from '../hosted/answered.ts';
import type { Call, Outcome, Provider, Reference, Reply } from '../hosted/provider.ts';
import { inputOf } from './input.ts';
import { appOf, endpointOf, familyOf, takenBy } from './models.ts';

const Begun = z.object({ request_id: z.string().min(1) });
const Status = z.object({
  status: z.string(),
  request_id: z.string().nullish(),
  queue_position: z.number().nullish(),
  logs: z.array(z.object({ message: z.string().nullish() })).nullish(),
  error_type: z.string().nullish(),
});
const File = z.object({ url: z.string().min(1) });
const Result = z.object({
  images: z.array(File).nullish(),
  image: File.nullish(),
  video: File.nullish(),
  audio: File.nullish(),
  has_nsfw_concepts: z.array(z.boolean()).nullish(),
});
const Refused = z.object({
  detail: z.union([z.string(), z.array(z.object({ type: z.string() }))]).nullish(),
  error_type: z.string().nullish(),
});

const STATUS = '/status?logs=1';
const at = ({ app, id }: Reference): string => `/${String(app)}/requests/${encodeURIComponent(String(id))}`;

export const fal: Provider = {
  kind: 'fal',
  makes: ['image', 'video', 'audio'],
  baseUrl: 'https://queue.fal.run',
  fileHosts: ['fal.media', 'fal.run', 'fal.ai'],
  answerMs: 60_000,
  pollMs: [500, 3_000],
  headers: (token) => ({ authorization: `Key ${token}` }),
  most: (remote) => familyOf(remote).most,
  takes: takenBy,
  submit(order) {
    const endpoint = endpointOf(order);
    const { fields, warnings } = inputOf(order, familyOf(order.remote));
    return { call: { method: 'POST', path: `/${endpoint}`, json: fields }, warnings };
  },
  begun: (reply, { remote }) => ({ reference: { app: appOf(remote), id: readReply(Begun, reply).request_id } }),
  poll: (reference) => ({ method: 'GET', path: `${at(reference)}${STATUS}` }),
  polled: (reply, reference, asked) => (isStatus(asked) ? standing(reply, reference) : made(reply)),
  ended: (reply, asked) => (isStatus(asked) ? null : endOf(reply)),
  cancel: (reference) => ({ method: 'PUT', path: `${at(reference)}/cancel` }),
  refused: (reply, stage) => (stage === 'poll' ? failedWith(reply) : refusedBy(reply)),
};

const isStatus = ({ path }: Call): boolean => path.endsWith(STATUS);

function standing(reply: Reply, reference: Reference): Outcome {
  const { status, request_id, queue_position, logs, error_type } = readReply(Status, reply);
  if (request_id != null) mustBeAbout(request_id, reference.id);
  switch (status) {
    case 'COMPLETED': {
      const known = byType(error_type ?? '');
      if (known !== null) return { state: 'failed', failure: known };
      return { state: 'ask', call: { method: 'GET', path: at(reference) } };
    }
    case 'IN_QUEUE':
      return { state: 'running', message: `waiting for the provider${placeOf(queue_position)}` };
    default:
      return {
        state: 'running',
        message: 'rendering',
        ...fractionIn((logs ?? []).map(({ message }) => message ?? '').join('\n')),
      };
  }
}

const placeOf = (position: number | null | undefined): string => (position ? `, place ${position}` : '');

function made(reply: Reply): Outcome {
  const { images, image, video, audio, has_nsfw_concepts } = readReply(Result, reply);
  const files = [...(images ?? []), ...[image, video, audio].filter((file) => file != null)];
  const results = files.flatMap(({ url }, place) => (has_nsfw_concepts?.[place] === true ? [] : [{ url, place }]));
  return { state: 'done', results, withheld: files.length - results.length };
}

const BY_TYPE: readonly (readonly [RegExp, Failure])[] = [
  [/^content_policy_violation$/, told('policy_block')],
  [/^no_media_generated$/, told('safety_filter')],
  [/^client_/, failure('node_lost', 'The request was stopped at the provider before it was done.')],
  [/^runner_|_timeout$|^internal_(server_)?error$|^downstream_/, told('model_error')],
];

/** What a type of error means; null: no more than that something did not suit the model. */
const byType = (type: string): Failure | null => BY_TYPE.find(([types]) => types.test(type))?.[1] ?? null;

/** A result in the 5xx: the model's own end where it says so, else trouble with asking. */
function endOf({ body }: Reply): Failure | null {
  const { data } = Refused.safeParse(body);
  const own = Array.isArray(data?.detail) || /^runner_|_timeout$/.test(data?.error_type ?? '');
  return own ? told('model_error') : null;
}

/** A result in the 4xx: what the model thought of the input. */
function failedWith(reply: Reply): Failure {
  const { data } = Refused.safeParse(reply.body);
  const types = [data?.error_type ?? '', ...(Array.isArray(data?.detail) ? data.detail.map(({ type }) => type) : [])];
  const known = types.flatMap((type) => byType(type) ?? [])[0];
  if (known !== undefined) return known;
  if (isModerated(reply)) return told('safety_filter');
  return reply.status === 400 || reply.status === 422 ? told('unsupported_input') : refusedPoll(reply, 'key');
}

function refusedBy(reply: Reply): Failure {
  const { data } = Refused.safeParse(reply.body);
  const locked = typeof data?.detail === 'string' && /^(user is locked|exhausted balance)/i.test(data.detail);
  if (reply.status === 403 && locked) return told('provider_balance');
  return reply.status === 400 || reply.status === 422 ? failedWith(reply) : refusedSubmit(reply, 'key');
}

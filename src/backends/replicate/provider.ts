// Replicate: predictions, polled by id. There is no token by which a create could be repeated safely, but there is a list:
// a prediction whose answer was lost is found there by its input. Withheld pictures are missing ones; only the logs and the
// error's text tell why.

import { z } from 'zod';
import { type Failure, failure } from '../../domain/failure.ts';
import { fractionIn, mustBeAbout, readReply, refusedPoll, refusedSubmit, told } from '../hosted/answered.ts';
import type { Order, Outcome, Provider, Reference, Reply } from '../hosted/provider.ts';
import { inputOf } from './input.ts';
import { creationOf, familyOf, partsOf, takenBy } from './models.ts';

const Links = z.union([z.url(), z.array(z.url())]).nullish();
const Prediction = z.object({
  id: z.string().min(1),
  status: z.string(),
  output: z.unknown().optional(),
  error: z.unknown().optional(),
  logs: z.string().nullish(),
  data_removed: z.boolean().nullish(),
});
const Listed = z.object({
  id: z.string().min(1),
  model: z.string().nullish(),
  input: z.record(z.string(), z.unknown()),
});
const List = z.object({ next: z.string().nullish(), results: z.array(z.unknown()) });
const Throttled = z.object({ retry_after: z.number().positive() });

/** The longest a prediction may take, from its creation on, should nobody be left to stop it. */
const CANCEL_AFTER = '60m';
const WITHHELD = /nsfw|flagged as sensitive|\(E005\)|safety (checker|filter|system)|content polic|moderat/i;
const NO_SUCH_VERSION = /version.*(not permitted|does not exist|invalid)|invalid version/i;

const at = ({ id }: Reference): string => `/predictions/${encodeURIComponent(String(id))}`;

export const replicate: Provider = {
  kind: 'replicate',
  makes: ['image', 'video', 'audio'],
  baseUrl: 'https://api.replicate.com/v1',
  fileHosts: ['replicate.delivery'],
  answerMs: 60_000,
  pollMs: [500, 3_000],
  headers: (token) => ({ authorization: `Bearer ${token}` }),
  most: (remote) => familyOf(remote).most,
  takes: (remote) => takenBy(familyOf(remote)),
  submit(order) {
    const { fields: input, warnings } = inputOf(order, familyOf(order.remote));
    const { path, more } = creationOf(order);
    const headers = { 'cancel-after': CANCEL_AFTER };
    return { call: { method: 'POST', path, headers, json: { ...more, input } }, warnings };
  },
  begun: (reply, { n }) => ({ reference: { id: readReply(Prediction, reply).id, n } }),
  poll: (reference) => ({ method: 'GET', path: at(reference) }),
  polled: outcomeOf,
  cancel: (reference) => ({ method: 'POST', path: `${at(reference)}/cancel` }),
  refused(reply, stage) {
    const { success, data } = Throttled.safeParse(reply.body);
    if (reply.status === 429 && success) return { ...told('rate_limited'), retryAfterSeconds: data.retry_after };
    return stage === 'poll' ? refusedPoll(reply, 'key') : refusedBy(reply);
  },
  search: {
    call(from, to) {
      const between = { created_after: new Date(from).toISOString(), created_before: new Date(to).toISOString() };
      return { method: 'GET', path: `/predictions?${new URLSearchParams(between)}` };
    },
    found(reply, order) {
      const { next, results } = readReply(List, reply);
      const query = next ? (URL.parse(next)?.search ?? '') : '';
      return {
        candidates: results.flatMap((one) => (isOf(one, order) ? [one] : [])).map(({ id }) => ({ id, n: order.n })),
        next: query === '' ? null : { method: 'GET', path: `/predictions${query}` },
      };
    },
  },
};

/** Same model, same input; a picture that the list shows in another form than it was sent in is taken for the same. */
function isOf(one: unknown, order: Order): one is z.infer<typeof Listed> {
  const { success, data } = Listed.safeParse(one);
  if (!success) return false;
  const { name } = partsOf(order.remote);
  if (data.model != null && name !== '' && !name.startsWith('deployments/') && data.model !== name) return false;
  const sent = Object.entries(inputOf(order, familyOf(order.remote)).fields);
  return sent.every(([key, value]) => data.input[key] === value || (isInline(value) && !isInline(data.input[key])));
}

const isInline = (value: unknown): boolean => typeof value === 'string' && value.startsWith('data:');

function outcomeOf(reply: Reply, { id, n }: Reference): Outcome {
  const prediction = readReply(Prediction, reply);
  mustBeAbout(prediction.id, id);
  const { status, error, logs } = prediction;
  switch (status) {
    case 'succeeded':
      return made(prediction, Number(n));
    case 'failed':
      return { state: 'failed', failure: told(WITHHELD.test(String(error)) ? 'safety_filter' : 'model_error') };
    case 'canceled':
    case 'aborted':
      return { state: 'failed', failure: STOPPED };
    case 'starting':
      return { state: 'running', message: 'waiting for the provider' };
    default:
      return { state: 'running', message: 'rendering', ...fractionIn(logs ?? '') };
  }
}

const STOPPED = failure('node_lost', 'The prediction was stopped at the provider before it was done.');

/** Pictures that were flagged are left out of the output; only the log says so. */
function made({ output, logs, data_removed }: z.infer<typeof Prediction>, n: number): Outcome {
  if (data_removed) return { state: 'unknown' };
  const links = Links.safeParse(output);
  const urls = links.success ? [links.data ?? []].flat() : [];
  const flagged = WITHHELD.test(logs ?? '');
  const withheld = urls.length > 0 || flagged ? Math.max(0, n - urls.length) : 0;
  return { state: 'done', results: urls.map((url) => ({ url })), withheld };
}

function refusedBy(reply: Reply): Failure {
  const failed = refusedSubmit(reply, 'key');
  const gone = reply.status === 422 && NO_SUCH_VERSION.test(JSON.stringify(reply.body ?? ''));
  return gone ? told('model_gone') : failed;
}

// Asking for a picture and watching it become one. Submit answers at once unless `wait` is given; the poll is the hot
// path of the whole house.

import { hash } from 'node:crypto';
import { z } from 'zod';
import {
  GenerationBody as Body,
  type GenerationBody,
  GenerationList,
  GenerationQuery,
  GenerationRequest,
} from '../../contract/generations.ts';
import { renderGeneration, type View } from '../../contract/render.ts';
import type { Caller } from '../../domain/caller.ts';
import { type Generation, isFinal } from '../../domain/generation.ts';
import { toCredits } from '../../domain/units.ts';
import type { Gateway } from '../../engine/gateway.ts';
import {
  ETag,
  IdempotencyKey,
  IdempotencyReplayed,
  IfNoneMatch,
  Location,
  Prefer,
  PreferenceApplied,
  RetryAfter,
} from './headers.ts';
import { keyOf } from './idempotency.ts';
import { type Answer, type Asked, json, type Route, route } from './route.ts';
import type { Doors } from './serve.ts';

const WAIT_CAP_SECONDS = 60;
const TAG = 'Generations';

const WaitQuery = z.strictObject({
  wait: z
    .union([z.enum(['true', 'false']), z.coerce.number().min(0)])
    .optional()
    .describe('Seconds to hold the answer until it is final; at most 60.'),
});

const Submitted = z.object({
  Location,
  'Retry-After': RetryAfter,
  'Idempotency-Replayed': IdempotencyReplayed,
  'Preference-Applied': PreferenceApplied,
});

export function generationRoutes({ gateway, closing }: Pick<Doors, 'gateway' | 'closing'>): readonly Route[] {
  const hold = holder(gateway, closing);
  const poll = route({
    method: 'get',
    path: '/v1/generations/:id',
    tag: TAG,
    summary: 'One generation',
    description: '`wait` long-polls. `ETag` covers state, outputs and progress; send it back as `If-None-Match`.',
    scope: 'read',
    query: WaitQuery,
    reads: z.object({ 'If-None-Match': IfNoneMatch }),
    answers: {
      200: { says: 'The generation as it is now.', json: Body, headers: z.object({ ETag, 'Retry-After': RetryAfter }) },
      304: { says: 'Nothing changed.', headers: z.object({ ETag, 'Retry-After': RetryAfter }) },
    },
    async run(asked) {
      const { caller, params, query, headers, baseUrl } = asked;
      const id = params.id as string;
      const ms = waitMs(query.wait);
      const g = await (ms > 0 ? hold(caller, id, ms, asked.signal) : gateway.get(caller, id));
      return polled(g, gateway.view(g, baseUrl), headers['if-none-match']);
    },
  });
  const submit = route({
    method: 'post',
    path: '/v1/generations',
    tag: TAG,
    summary: 'Ask for a generation',
    description:
      'Answers 202 at once with an id to poll. `wait` (or `Prefer: wait=20`) holds the answer until it is final, or until the cap. `Idempotency-Key` makes retries safe.',
    scope: 'generate',
    body: GenerationRequest,
    reads: z.object({ 'Idempotency-Key': IdempotencyKey, Prefer }),
    answers: {
      200: { says: 'Final, or the replay of an earlier submit.', json: Body, headers: Submitted },
      202: { says: 'Queued or running: poll it.', json: Body, headers: Submitted },
    },
    newWork: true,
    run: (asked) => submitted(gateway, hold, asked),
  });
  const list = route({
    method: 'get',
    path: '/v1/generations',
    tag: TAG,
    summary: 'Generations, newest first',
    scope: 'read',
    query: GenerationQuery,
    answers: { 200: GenerationList },
    async run({ caller, query: q, baseUrl }) {
      const filter = {
        ...(q.status && { statuses: q.status }),
        ...(q.model !== undefined && { model: q.model }),
        ...(q.batch_id !== undefined && { batchId: q.batch_id }),
        ...(q.metadata && { metadata: q.metadata }),
        ...(q.since !== undefined && { since: Date.parse(q.since) }),
      };
      const page = await gateway.list(caller, filter, q.limit, q.cursor);
      return json({
        data: page.data.map((g) => renderGeneration(g, gateway.view(g, baseUrl))),
        next_cursor: page.next,
      });
    },
  });
  const cancel = route({
    method: 'post',
    path: '/v1/generations/:id/cancel',
    tag: TAG,
    summary: 'Cancel a generation',
    description: 'Idempotent; a final one comes back unchanged.',
    scope: 'generate',
    answers: { 200: { says: 'The generation, cancelled or as it ended before.', json: Body } },
    async run({ caller, params, baseUrl }) {
      const g = await gateway.cancel(caller, params.id as string);
      return json(renderGeneration(g, gateway.view(g, baseUrl)));
    },
  });
  return [submit, poll, list, cancel];
}

type Hold = (caller: Caller, id: string, ms: number, gone: AbortSignal) => Promise<Generation>;

/** Waits until final, the cap, or the closing of the doors, which is no error: the id still polls elsewhere. */
const holder =
  (gateway: Gateway, closing: AbortSignal): Hold =>
  async (caller, id, ms, gone) => {
    try {
      return await gateway.wait(caller, id, ms, AbortSignal.any([gone, closing]));
    } catch (error) {
      if (!closing.aborted || gone.aborted) throw error;
      return gateway.get(caller, id);
    }
  };

function polled(g: Generation, view: View, known: string | undefined): Answer {
  const body = renderGeneration(g, view);
  const headers = { etag: etagOf(g, body), 'cache-control': 'private, no-cache', ...retryAfter(view) };
  return known !== undefined && names(known, headers.etag) ? { status: 304, headers } : json(body, 200, headers);
}

/** Weak, because estimates move without an event. Links are in it: they vanish when a file is swept. */
function etagOf(g: Generation, body: GenerationBody): string {
  const moving =
    body.progress || body.outputs.length > 0 ? hash('sha256', JSON.stringify([body.progress, body.outputs])) : '';
  return `W/"${g.seq}${moving === '' ? '' : `-${moving.slice(0, 20)}`}"`;
}

const names = (ifNoneMatch: string, etag: string): boolean =>
  ifNoneMatch === '*' || ifNoneMatch.split(',').some((one) => one.trim().replace(/^W\//, '') === etag.slice(2));

const retryAfter = (view: View): Record<string, string> =>
  view.pollAfterSeconds === null ? {} : { 'retry-after': String(Math.max(1, Math.ceil(view.pollAfterSeconds))) };

async function submitted(gateway: Gateway, hold: Hold, asked: Asked<unknown, GenerationRequest>): Promise<Answer> {
  const { caller, baseUrl } = asked;
  const preferred = preferredWait(asked.headers.prefer);
  const ms = waitMs(asked.body.wait ?? preferred ?? undefined);
  const { generation, replayed, credits } = await gateway.submit(caller, withKey(asked.body, keyOf(asked)));
  const waited = ms > 0 && !isFinal(generation);
  const g = waited ? await hold(caller, generation.id, ms, asked.signal) : generation;
  const { balance, reserved } = waited ? await gateway.credits(caller) : credits;
  const view = gateway.view(g, baseUrl);
  const body = {
    ...renderGeneration(g, view),
    credits_reserved: toCredits(g.reserved),
    credits_available: toCredits(balance - reserved),
  };
  return json(body, replayed || isFinal(g) ? 200 : 202, {
    location: `/v1/generations/${g.id}`,
    ...(isFinal(g) ? {} : retryAfter(view)),
    ...(replayed ? { 'idempotency-replayed': 'true' } : {}),
    ...(preferred !== null && asked.body.wait === undefined ? { 'preference-applied': `wait=${ms / 1000}` } : {}),
  });
}

const withKey = (body: GenerationRequest, key: string | undefined): GenerationRequest =>
  key === undefined ? body : { ...body, idempotency_key: key };

/** `true` means the cap; more than the cap is the cap. */
function waitMs(wait: boolean | number | 'true' | 'false' | undefined): number {
  if (wait === undefined || wait === false || wait === 'false') return 0;
  return (typeof wait === 'number' ? Math.min(wait, WAIT_CAP_SECONDS) : WAIT_CAP_SECONDS) * 1000;
}

/** `Prefer: respond-async, wait=20` → 20. */
function preferredWait(prefer: string | string[] | undefined): number | null {
  const seconds = /(?:^|[,;])\s*wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])/i.exec(String(prefer ?? ''))?.[1];
  return seconds === undefined ? null : Number(seconds);
}

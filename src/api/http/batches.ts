// Batches: a set of generations that is asked for, watched, stopped and reported on as one. Its items are parsed by the
// engine, a few at a time, so that thousands of them hold nobody up here.

import { z } from 'zod';
import {
  BatchBody,
  BatchList,
  BatchRequest,
  DryRunBody,
  ItemList,
  ItemsQuery,
  ItemsRequest,
  ReportBody,
  renderBatch,
  renderProjection,
  renderReport,
} from '../../contract/batches.ts';
import { ListQuery } from '../../contract/lists.ts';
import { renderGeneration } from '../../contract/render.ts';
import type { Caller } from '../../domain/caller.ts';
import type { BatchDesk, BatchNow, Gateway } from '../../engine/gateway.ts';
import { IdempotencyKey, IdempotencyReplayed, Location } from './headers.ts';
import { keyOf } from './idempotency.ts';
import { type Answer, type Asked, json, type Route, route } from './route.ts';

const TAG = 'Batches';
/** Ten thousand items of thirty fields each. */
const MAX_FIELDS = 400_000;

const Made = z.object({ Location, 'Idempotency-Replayed': IdempotencyReplayed });

const rendered = ({ batch, tally, etaSeconds }: BatchNow) => renderBatch(batch, tally, etaSeconds);

export function batchRoutes(gateway: Pick<Gateway, 'batches' | 'view'>): readonly Route[] {
  const { batches } = gateway;
  return [...makingRoutes(batches), ...readingRoutes(gateway), ...movingRoutes(batches)];
}

function makingRoutes(batches: BatchDesk): readonly Route[] {
  return [
    route({
      method: 'post',
      path: '/v1/batches',
      tag: TAG,
      summary: 'Ask for a batch',
      description:
        'Answers 202 once all its items are stored. An item that does not parse refuses them all; one that cannot run fails alone. `dry_run` only says what it would cost.',
      scope: 'generate',
      body: BatchRequest,
      maxItems: MAX_FIELDS,
      reads: z.object({ 'Idempotency-Key': IdempotencyKey }),
      answers: {
        200: {
          says: 'What a dry run would cost, or the replay of an earlier request.',
          json: z.union([DryRunBody, BatchBody]),
        },
        202: { says: 'The batch.', json: BatchBody, headers: Made },
      },
      newWork: true,
      run: (asked) => made(batches, asked),
    }),
    route({
      method: 'post',
      path: '/v1/batches/:id/items',
      tag: TAG,
      summary: 'Append items',
      description:
        'While it runs or is paused. Items whose key it has already are left out, so this may be repeated; one that asks for something else under such a key fails.',
      scope: 'generate',
      body: ItemsRequest,
      maxItems: MAX_FIELDS,
      answers: { 202: { says: 'The batch with its new items.', json: BatchBody } },
      newWork: true,
      run: async ({ caller, params, body }) =>
        json(rendered(await batches.extend(caller, params.id as string, body.items)), 202),
    }),
  ];
}

async function made(batches: BatchDesk, asked: Asked<unknown, BatchRequest>): Promise<Answer> {
  const { caller, body } = asked;
  const key = keyOf(asked);
  const request = key === undefined ? body : { ...body, idempotency_key: key };
  if (body.dry_run) return json(renderProjection(await batches.project(caller, request)));
  const { replayed, ...now } = await batches.create(caller, request);
  return json(rendered(now), replayed ? 200 : 202, {
    location: `/v1/batches/${now.batch.id}`,
    ...(replayed ? { 'idempotency-replayed': 'true' } : {}),
  });
}

function readingRoutes({ batches, view }: Pick<Gateway, 'batches' | 'view'>): readonly Route[] {
  return [
    route({
      method: 'get',
      path: '/v1/batches',
      tag: TAG,
      summary: 'Batches, newest first',
      scope: 'read',
      query: ListQuery,
      answers: { 200: BatchList },
      async run({ caller, query }) {
        const page = await batches.list(caller, query.limit, query.cursor);
        return json({ data: page.data.map(rendered), next_cursor: page.next });
      },
    }),
    route({
      method: 'get',
      path: '/v1/batches/:id',
      tag: TAG,
      summary: 'One batch',
      description: 'Counts, credits, breaker and how long it will take, as they are now.',
      scope: 'read',
      answers: { 200: BatchBody },
      run: async ({ caller, params }) => json(rendered(await batches.get(caller, params.id as string))),
    }),
    route({
      method: 'get',
      path: '/v1/batches/:id/items',
      tag: TAG,
      summary: 'Its items, in order',
      scope: 'read',
      query: ItemsQuery,
      answers: { 200: ItemList },
      async run({ caller, params, query, baseUrl }) {
        const { status = null, limit, cursor } = query;
        const page = await batches.items(caller, params.id as string, status, limit, cursor);
        const data = page.data.map(({ index, key, generation: g }) => ({
          index,
          key,
          generation: renderGeneration(g, view(g, baseUrl)),
        }));
        return json({ data, next_cursor: page.next });
      },
    }),
    route({
      method: 'get',
      path: '/v1/batches/:id/report',
      tag: TAG,
      summary: 'What became of it',
      description: 'The batch, each item that did not succeed and why, what was projected and charged, and the times.',
      scope: 'read',
      answers: { 200: ReportBody },
      async run({ caller, params }) {
        const { batch, tally, etaSeconds, failures, nodeMs } = await batches.report(caller, params.id as string);
        return json(renderReport(batch, tally, etaSeconds, failures, nodeMs));
      },
    }),
  ];
}

type Move = (caller: Caller, id: string) => Promise<BatchNow>;

function movingRoutes(batches: BatchDesk): readonly Route[] {
  const row = (name: string, summary: string, description: string, move: Move): Route =>
    route({
      method: 'post',
      path: `/v1/batches/:id/${name}`,
      tag: TAG,
      summary,
      description,
      scope: 'generate',
      answers: { 200: { says: 'The batch as it is now.', json: BatchBody } },
      run: async ({ caller, params }) => json(rendered(await move(caller, params.id as string))),
    });
  return [
    row('pause', 'Pause a batch', 'Nothing of it is started until it is resumed; what runs goes on.', batches.pause),
    row('resume', 'Resume a batch', 'Also ends a pause of its breaker at once.', batches.resume),
    row('cancel', 'Cancel a batch', 'Answers at once; its items follow. Idempotent.', batches.cancel),
    row(
      'retry_failed',
      'Run its failed items again',
      'Those that failed, timed out or were halted: the same requests, seeds and keys. Nothing that succeeded is charged again.',
      batches.retryFailed,
    ),
  ];
}

// Workspaces, keys and credits, for operators.

import {
  KeyAnswer,
  KeyBody,
  KeyList,
  KeyRequest,
  renderKey,
  renderWorkspace,
  WorkspaceAnswer,
  WorkspaceList,
  WorkspaceRequest,
} from '../../contract/admin.ts';
import { CreditsBody, GrantRequest, renderCredits } from '../../contract/credits.ts';
import { ListQuery } from '../../contract/lists.ts';
import type { Key } from '../../domain/caller.ts';
import { type Detail, GatewayError } from '../../domain/failure.ts';
import { type Millis, type ModelId, toMillicredits } from '../../domain/units.ts';
import type { Gateway, NewKeyRequest } from '../../engine/gateway.ts';
import type { Clock } from '../../system/system.ts';
import type { Callers } from './callers.ts';
import { json, nothing, type Route, route } from './route.ts';

const TAG = 'Admin';
const ROOT = '/v1/admin/workspaces';
const MAX_PAGE = 100;

export function adminRoutes(gateway: Gateway, callers: Callers, clock: Clock): readonly Route[] {
  return [...workspaceRoutes(gateway, callers), ...keyRoutes(gateway, callers, clock), ...grantRoutes(gateway)];
}

function workspaceRoutes(gateway: Gateway, callers: Callers): readonly Route[] {
  const creditsOf = async (id: string) => renderCredits(await gateway.creditsOf(id), gateway.usdPerCredit);
  return [
    route({
      method: 'post',
      path: ROOT,
      tag: TAG,
      summary: 'Create a workspace',
      scope: 'admin',
      body: WorkspaceRequest,
      answers: { 201: WorkspaceAnswer },
      async run({ body: { name, credits, limits, provenance } }) {
        const made = await gateway.createWorkspace({
          name,
          credits: toMillicredits(credits),
          limits: {
            ...(limits.concurrency !== undefined && { concurrency: limits.concurrency }),
            ...(limits.queue !== undefined && { queue: limits.queue }),
            ...(limits.requests_per_minute !== undefined && { requestsPerMinute: limits.requests_per_minute }),
          },
          ...(provenance !== undefined && { provenance }),
        });
        return json({ ...renderWorkspace(made), credits: await creditsOf(made.id) }, 201);
      },
    }),
    route({
      method: 'get',
      path: ROOT,
      tag: TAG,
      summary: 'Workspaces',
      scope: 'admin',
      query: ListQuery,
      answers: { 200: WorkspaceList },
      async run({ query }) {
        const page = await gateway.workspaces(query.limit, query.cursor);
        return json({ data: page.data.map(renderWorkspace), next_cursor: page.next });
      },
    }),
    route({
      method: 'get',
      path: `${ROOT}/:id`,
      tag: TAG,
      summary: 'One workspace',
      scope: 'admin',
      answers: { 200: WorkspaceAnswer },
      async run({ params }) {
        const found = await gateway.workspace(params.id as string);
        return json({ ...renderWorkspace(found), credits: await creditsOf(found.id) });
      },
    }),
    route({
      method: 'delete',
      path: `${ROOT}/:id`,
      tag: TAG,
      summary: 'Delete a workspace',
      description: 'Refused with 409 while it has queued or running generations.',
      scope: 'admin',
      answers: { 204: 'Gone.' },
      async run({ params }) {
        await gateway.deleteWorkspace(params.id as string);
        callers.forget();
        return nothing;
      },
    }),
  ];
}

function keyRoutes(gateway: Gateway, callers: Callers, clock: Clock): readonly Route[] {
  return [
    route({
      method: 'post',
      path: `${ROOT}/:id/keys`,
      tag: TAG,
      summary: 'Create a key',
      description: 'The text of the key is in this answer and nowhere else.',
      scope: 'admin',
      body: KeyRequest,
      answers: { 201: KeyAnswer },
      async run({ params, body }) {
        const { key, secret } = await gateway.createKey(params.id as string, newKey(body, gateway, clock.now()));
        return json({ ...renderKey(key), key: secret }, 201, { 'cache-control': 'no-store' });
      },
    }),
    route({
      method: 'get',
      path: `${ROOT}/:id/keys`,
      tag: TAG,
      summary: 'Keys of a workspace',
      scope: 'admin',
      query: ListQuery,
      answers: { 200: KeyList },
      async run({ params, query }) {
        const page = await gateway.keys(params.id as string, query.limit, query.cursor);
        return json({ data: page.data.map(renderKey), next_cursor: page.next });
      },
    }),
    route({
      method: 'get',
      path: `${ROOT}/:id/keys/:key`,
      tag: TAG,
      summary: 'One key',
      scope: 'admin',
      answers: { 200: KeyBody },
      run: async ({ params }) => json(renderKey(await findKey(gateway, params.id as string, params.key as string))),
    }),
    route({
      method: 'delete',
      path: `${ROOT}/:id/keys/:key`,
      tag: TAG,
      summary: 'Delete a key',
      description: 'It stops working at once.',
      scope: 'admin',
      answers: { 204: 'Gone.' },
      async run({ params }) {
        await gateway.deleteKey(params.id as string, params.key as string);
        callers.forget();
        return nothing;
      },
    }),
  ];
}

/** What was asked for, in the house's words. Throws invalid_request on what would make a key that can do nothing. */
function newKey(body: KeyRequest, gateway: Gateway, now: Millis): NewKeyRequest {
  const expiresAt = body.expires_at === null ? null : Date.parse(body.expires_at);
  if (expiresAt !== null && expiresAt <= now) {
    throw refused([{ path: 'expires_at', message: 'expected a time in the future' }]);
  }
  return {
    name: body.name,
    scopes: body.scopes,
    models: body.models && modelsNamed(body.models, gateway),
    expiresAt,
    requestsPerMinute: body.requests_per_minute,
    spendCap: body.spend_cap === null ? null : toMillicredits(body.spend_cap),
  };
}

/** Their ids: a key knows models by what they are called, and aliases stand for one. */
function modelsNamed(names: readonly string[], gateway: Gateway): readonly ModelId[] {
  const ids = new Map(gateway.models().data.flatMap((m) => [m.model.id, ...m.aliases].map((n) => [n, m.model.id])));
  const unknown = names.flatMap((name, at) =>
    ids.has(name) ? [] : [{ path: `models.${at}`, message: `there is no model "${name}"` }],
  );
  if (unknown.length > 0) throw refused(unknown);
  return [...new Set(names.map((name) => ids.get(name) as ModelId))];
}

const refused = (details: readonly Detail[]) =>
  new GatewayError('invalid_request', `${details[0]?.path}: ${details[0]?.message}`, { details });

async function findKey(gateway: Gateway, workspaceId: string, id: string): Promise<Key> {
  let cursor: string | undefined;
  do {
    const page = await gateway.keys(workspaceId, MAX_PAGE, cursor);
    const found = page.data.find((key) => key.id === id);
    if (found) return found;
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
  throw new GatewayError('not_found', 'There is no such key.');
}

function grantRoutes(gateway: Gateway): readonly Route[] {
  const path = `${ROOT}/:id/credits`;
  return [
    route({
      method: 'get',
      path,
      tag: TAG,
      summary: 'Credits of a workspace',
      scope: 'admin',
      answers: { 200: CreditsBody },
      run: async ({ params }) =>
        json(renderCredits(await gateway.creditsOf(params.id as string), gateway.usdPerCredit)),
    }),
    route({
      method: 'post',
      path,
      tag: TAG,
      summary: 'Add or take credits',
      description: 'Taking more than is free cancels the newest queued generations; below 0 is refused with 409.',
      scope: 'admin',
      body: GrantRequest,
      answers: { 200: CreditsBody },
      async run({ params, body }) {
        const after = await gateway.grant(params.id as string, toMillicredits(body.amount), body.note ?? null);
        return json(renderCredits(after, gateway.usdPerCredit));
      },
    }),
  ];
}

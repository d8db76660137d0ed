// Who may do what: keys, scopes, expiry, other workspaces, request limits.

import { expect, it } from 'vitest';
import { createCallers } from '../../src/api/http/callers.ts';
import { ADMIN_KEY as HOUSE_KEY, openHouse } from '../engine/house.ts';
import { ADMIN_KEY, NOW } from './fake-gateway.ts';
import { type Served, served } from './served.ts';

const as = (key: string, more = {}) => ({ headers: { authorization: `Bearer ${key}`, ...more } });

it.each([[''], ['Basic abc'], ['Bearer'], ['Bearer dk_wrong'], [`Bearer ${'x'.repeat(300)}`], ['Bearer a b']])(
  'answers 401 to the authorization %j',
  async (authorization) => {
    const s = await served();
    const reply = await s.call('/v1/credits', { headers: { authorization } });
    expect(reply.status).toBe(401);
    expect(reply.error.code).toBe('unauthenticated');
    expect(reply.headers.get('www-authenticate')).toMatch(/^Bearer/);
  },
);

it('lets each scope do its part and no more', async () => {
  const s = await served();
  s.gateway.addKey('dk_read', { scopes: ['read'] });
  s.gateway.addKey('dk_generate', { scopes: ['generate'] });
  s.gateway.addKey('dk_hooks', { scopes: ['webhooks'] });
  const status = async (key: string, path: string, method = 'GET') =>
    (await s.call(path, { method, ...as(key), ...(method === 'POST' ? { body: {} } : {}) })).status;
  expect(await status('dk_read', '/v1/credits')).toBe(200);
  expect(await status('dk_read', '/v1/generations', 'POST')).toBe(403);
  expect(await status('dk_generate', '/v1/generations', 'POST')).toBe(202);
  expect(await status('dk_generate', '/v1/generations')).toBe(200);
  expect(await status('dk_generate', '/v1/nodes')).toBe(403);
  expect(await status('dk_generate', '/v1/admin/workspaces')).toBe(403);
  expect(await status('dk_hooks', '/v1/generations')).toBe(403);
  expect(await status(ADMIN_KEY, '/v1/admin/workspaces')).toBe(200);
});

it('asks the gateway about a key once a second at most', async () => {
  const s = await served();
  for (let i = 0; i < 5; i++) await s.call('/v1/credits');
  expect(s.gateway.authentications).toBe(1);
  await s.clock.advance(1_000);
  await s.call('/v1/credits');
  expect(s.gateway.authentications).toBe(2);
});

it('refuses a key from the moment it expires, looked up before or not', async () => {
  const s = await served();
  s.gateway.addKey('dk_brief', { expiresAt: NOW + 500 });
  expect((await s.call('/v1/credits', as('dk_brief'))).status).toBe(200);
  await s.clock.advance(500);
  expect((await s.call('/v1/credits', as('dk_brief'))).status).toBe(401);
});

it('refuses a deleted key at once', async () => {
  const s = await served();
  const key = s.gateway.addKey('dk_doomed');
  expect((await s.call('/v1/credits', as('dk_doomed'))).status).toBe(200);
  const gone = await s.call(`/v1/admin/workspaces/studio/keys/${key.id}`, { method: 'DELETE' });
  expect(gone.status).toBe(204);
  expect(gone.text).toBe('');
  expect((await s.call('/v1/credits', as('dk_doomed'))).status).toBe(401);
});

it('lets an admin act in another workspace, and nobody else', async () => {
  const s = await served();
  s.gateway.addKey('dk_theirs', {}, { id: 'theirs' });
  const there = { 'x-darkroom-workspace': 'theirs' };
  const made = await s.call('/v1/generations', { body: {}, ...as(ADMIN_KEY, there) });
  expect(made.status).toBe(202);
  const path = `/v1/generations/${made.json().id}`;
  expect((await s.call(path)).status).toBe(404);
  expect((await s.call(path, as('dk_theirs'))).status).toBe(200);
  expect((await s.call('/v1/credits', as('dk_theirs', { 'x-darkroom-workspace': 'studio' }))).status).toBe(403);
  expect((await s.call('/v1/credits', as('dk_theirs', there))).status).toBe(200);
  expect((await s.call('/v1/credits', as(ADMIN_KEY, { 'x-darkroom-workspace': 'nowhere' }))).status).toBe(404);
});

it('leaves it to the engine who may act in another workspace', async () => {
  await using house = await openHouse();
  const callers = createCallers(house.gateway, house.clock);
  const { id } = await house.gateway.createWorkspace({ name: 'theirs', credits: 0, limits: {} });
  const rights = { models: null, expiresAt: null, requestsPerMinute: null, spendCap: null };
  const { secret } = await house.gateway.createKey(id, { name: 'k', scopes: ['read'], ...rights });
  const asked = (key: string, workspace: string) =>
    callers.ofRequest({ authorization: `Bearer ${key}`, 'x-darkroom-workspace': workspace }, 'read');
  expect((await asked(HOUSE_KEY, id)).workspace.id).toBe(id);
  await expect(asked(secret, 'studio')).rejects.toHaveProperty('failure.code', 'forbidden');
  await expect(asked(HOUSE_KEY, 'nowhere')).rejects.toHaveProperty('failure.code', 'not_found');
});

const limited = async (s: Served, key: string) => {
  const reply = await s.call('/v1/credits', as(key));
  return { status: reply.status, wait: Number(reply.headers.get('retry-after')), text: reply.text };
};

it('counts requests per minute by key', async () => {
  const s = await served();
  s.gateway.addKey('dk_slow', { requestsPerMinute: 2 });
  s.gateway.addKey('dk_free');
  await limited(s, 'dk_slow');
  expect((await limited(s, 'dk_slow')).status).toBe(200);
  const refused = await limited(s, 'dk_slow');
  expect(refused.status).toBe(429);
  expect(JSON.parse(refused.text).error).toMatchObject({ code: 'rate_limited', retryable: true });
  expect(refused.wait).toBeGreaterThan(0);
  expect(refused.wait).toBeLessThanOrEqual(60);
  expect((await limited(s, 'dk_free')).status).toBe(200);
});

it('counts requests per minute by workspace over all its keys', async () => {
  const s = await served();
  const w = { id: 'busy', limits: { concurrency: 1, queue: 1, requestsPerMinute: 2 } };
  s.gateway.addKey('dk_one', {}, w);
  s.gateway.addKey('dk_two', {}, w);
  expect((await limited(s, 'dk_one')).status).toBe(200);
  expect((await limited(s, 'dk_two')).status).toBe(200);
  expect((await limited(s, 'dk_one')).status).toBe(429);
});

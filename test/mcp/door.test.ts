// /mcp as a door: who may come in, from where, with what; what a client that goes away leaves behind; how it closes.

import http from 'node:http';
import { describe, expect, it } from 'vitest';
import { ADMIN_KEY, NOW } from '../api/fake-gateway.ts';
import { type Init, type Reply, type Served, served } from '../api/served.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { agent, KINDS, type Kind, objectOf } from './callers.ts';

const rpc = (method: string, params: object = {}) => ({ jsonrpc: '2.0', id: 1, method, params });
const accept = { accept: 'application/json, text/event-stream', 'content-type': 'application/json' };
const post = (house: Served, body: unknown, init: Init = {}): Promise<Reply> =>
  house.call('/mcp', { method: 'POST', ...init, headers: { ...accept, ...init.headers }, body });
const idOf = (house: Served) => [...house.gateway.generations.keys()][0] as string;
const statusOf = (house: Served) => house.gateway.generations.get(idOf(house))?.state.status;

/** fetch does not let a Host be chosen. */
function asHost(house: Served, headers: Record<string, string>): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.request(
      `${house.url}/mcp`,
      { method: 'POST', headers: { authorization: `Bearer ${ADMIN_KEY}`, ...accept, ...headers } },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    request.on('error', reject);
    request.end(JSON.stringify(rpc('tools/list')));
  });
}

describe('who comes in', () => {
  it('asks for a bearer key and says nothing of OAuth', async () => {
    const house = await served();
    for (const headers of [{ authorization: '' }, { authorization: 'Bearer dk_wrong' }]) {
      const reply = await post(house, rpc('tools/list'), { headers });
      expect(reply.status).toBe(401);
      expect(reply.headers.get('www-authenticate')).toMatch(/^Bearer/);
      expect(reply.headers.get('www-authenticate')).not.toContain('resource_metadata');
      expect(reply.error.code).toBe('unauthenticated');
    }
    for (const path of ['oauth-protected-resource', 'oauth-authorization-server', 'oauth-protected-resource/mcp']) {
      const reply = await house.call(`/.well-known/${path}`, { headers: { authorization: '' } });
      expect([reply.status, reply.error.code]).toEqual([404, 'not_found']);
    }
  });

  it('lets a key do what its scopes say', async () => {
    const house = await served();
    house.gateway.addKey('dk_read', { scopes: ['read'] });
    house.gateway.addKey('dk_hooks', { scopes: ['webhooks'] });
    const reader = await agent('current', house.url, 'dk_read');
    expect((await reader.call('get_credits')).isError).toBeFalsy();
    const refused = await reader.call('generate_image', { prompt: 'x' });
    expect(objectOf(refused)).toMatchObject({
      error: { code: 'forbidden', message: 'The key lacks the scope generate.' },
    });
    expect((await post(house, rpc('tools/list'), { headers: { authorization: 'Bearer dk_hooks' } })).status).toBe(403);
  });

  it('counts requests against the limits of the key', async () => {
    const house = await served();
    house.gateway.addKey('dk_slow', { requestsPerMinute: 1 });
    const headers = { authorization: 'Bearer dk_slow' };
    expect((await post(house, rpc('tools/list'), { headers })).status).toBe(200);
    const refused = await post(house, rpc('tools/list'), { headers });
    expect([refused.status, refused.error.code]).toEqual([429, 'rate_limited']);
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    house.gateway.addKey('dk_lists', { requestsPerMinute: 5 });
    const list = Array.from({ length: 6 }, (_, id) => ({ ...rpc('tools/list'), id }));
    expect((await post(house, list, { headers: { authorization: 'Bearer dk_lists' } })).status).toBe(429);
  });

  it('acts in the workspace an admin names, and shows no other', async () => {
    const house = await served();
    house.gateway.addKey('dk_other', {}, { id: 'other' });
    const admin = await agent('current', house.url, ADMIN_KEY, { 'x-darkroom-workspace': 'other' });
    const made = objectOf(await admin.call('generate_image', { prompt: 'x' }));
    expect(house.gateway.generations.get(made.id as string)?.workspaceId).toBe('other');
    const studio = await agent('current', house.url);
    for (const tool of ['get_generation', 'cancel_generation']) {
      expect(objectOf(await studio.call(tool, { id: made.id }))).toMatchObject({ error: { code: 'not_found' } });
    }
    const foreign = await post(house, rpc('tools/list'), {
      headers: { authorization: 'Bearer dk_other', 'x-darkroom-workspace': 'studio' },
    });
    expect(foreign.status).toBe(403);
  });
});

describe('where from', () => {
  it('on loopback a name must be of this machine, so that no page can rebind one of its own', async () => {
    const house = await served();
    for (const host of ['localhost:1', '127.0.0.2:8787', '[::1]:8787', '10.0.0.5']) {
      expect(await asHost(house, { host })).toBe(200);
    }
    for (const host of ['evil.example', '127.0.0.1.evil.example:8787']) {
      expect(await asHost(house, { host })).toBe(403);
    }
  });

  it('on the LAN every name is, for agents come by address, container or mDNS name', async () => {
    const house = await served({ host: '0.0.0.0' });
    for (const host of ['10.0.0.5:8787', 'darkroom:8787', 'studio.local', '[fd00::5]:8787']) {
      expect(await asHost(house, { host })).toBe(200);
    }
  });

  it('refuses a page of any other origin, wherever it is bound', async () => {
    for (const host of ['127.0.0.1', '0.0.0.0']) {
      const house = await served({ host, publicUrl: 'https://darkroom.studio.example' });
      const from = (origin: string, name: string) => asHost(house, { origin, host: name });
      expect(await from('http://evil.example', 'localhost')).toBe(403);
      expect(await from('null', 'localhost')).toBe(403);
      expect(await from('http://localhost:5173', 'localhost')).toBe(200);
      expect(await from('https://darkroom.studio.example', 'darkroom.studio.example')).toBe(200);
    }
    const lan = await served({ host: '0.0.0.0' });
    expect(await asHost(lan, { origin: 'http://rebound.example', host: 'rebound.example' })).toBe(403);
    expect(await asHost(lan, { origin: 'http://10.0.0.5:8787', host: '10.0.0.5:8787' })).toBe(200);
  });
});

describe('with what', () => {
  it('answers POST only', async () => {
    const house = await served();
    for (const method of ['GET', 'DELETE', 'PUT']) {
      const reply = await house.call('/mcp', { method });
      expect([reply.status, reply.headers.get('allow')]).toEqual([405, 'POST']);
    }
  });

  it('answers bad bodies in the words of JSON-RPC', async () => {
    const house = await served();
    const broken = await house.call('/mcp', { method: 'POST', raw: '{"jsonrpc": ', headers: accept });
    expect([broken.status, broken.json()]).toEqual([
      400,
      expect.objectContaining({ error: { code: -32700, message: expect.any(String) } }),
    ]);
    const bomb = await house.call('/mcp', { method: 'POST', raw: `[${'{},'.repeat(20_000)}{}]`, headers: accept });
    expect(bomb.status).toBe(400);
    const large = await house.call('/mcp', { method: 'POST', raw: ' '.repeat(33 * 1024 * 1024), headers: accept });
    expect(large.status).toBe(413);
    const form = await house.call('/mcp', {
      method: 'POST',
      raw: 'a=b',
      headers: { ...accept, 'content-type': 'text/plain' },
    });
    expect(form.status).toBeGreaterThanOrEqual(400);
  });

  it('takes a picture of megabytes as an argument', async () => {
    const house = await served();
    const someone = await agent('current', house.url);
    const init_image = `data:image/png;base64,${'A'.repeat(8 * 1024 * 1024)}`;
    const result = await someone.call('generate_image', { prompt: 'x', init_image });
    expect(result.isError).toBeFalsy();
  });
});

describe('a client that goes away', () => {
  /** Asks with a long wait, and leaves once the call is held. */
  async function leave(house: Served, kind: Kind, before: () => void = () => {}): Promise<void> {
    const someone = await agent(kind, house.url);
    const call = someone.call('generate_image', { prompt: 'x', wait: true });
    const ended = expect(call).rejects.toThrow();
    await until(() => house.gateway.seen.waitMs);
    before();
    await someone.close();
    await ended;
  }

  /** The call has ended on this side too, and done whatever it does then. */
  async function overWith(house: Served): Promise<void> {
    await until(() => house.clock.pending === 1, 'nothing but the heartbeat of the sockets');
    await settle();
  }

  it('cancels its queued job when it speaks the current revision', async () => {
    const house = await served();
    await leave(house, 'current');
    await until(() => statusOf(house) === 'cancelled', 'the job cancelled');
  });

  it.each(['legacy', 'v1'] as const)('keeps its queued job when it speaks an older one: %s', async (kind) => {
    const house = await served();
    await leave(house, kind);
    await overWith(house);
    expect(statusOf(house)).toBe('queued');
  });

  it('cancels its queued job when it gives up the call alone', async () => {
    const house = await served();
    const someone = await agent('current', house.url);
    const gone = new AbortController();
    const call = someone.call('generate_image', { prompt: 'x', wait: true }, { signal: gone.signal });
    await until(() => house.gateway.seen.waitMs);
    gone.abort();
    await expect(call).rejects.toThrow();
    await until(() => statusOf(house) === 'cancelled', 'the job cancelled');
  });

  it.each(KINDS)('never cancels running work: %s', async (kind) => {
    const house = await served();
    await leave(house, kind, () =>
      house.gateway.emit(idOf(house), { type: 'started', at: NOW, node: 'n', backend: 'b' }),
    );
    await overWith(house);
    expect(statusOf(house)).toBe('running');
  });

  it('does not cancel a job that an earlier call asked for', async () => {
    const house = await served();
    const someone = await agent('current', house.url);
    await someone.call('generate_image', { prompt: 'x', idempotency_key: 'one' });
    const gone = new AbortController();
    const again = { prompt: 'x', idempotency_key: 'one', wait: true };
    const call = someone.call('generate_image', again, { signal: gone.signal });
    await until(() => house.gateway.seen.waitMs);
    gone.abort();
    await expect(call).rejects.toThrow();
    const watching = someone.call('get_generation', { id: idOf(house), wait: true }, { signal: AbortSignal.abort() });
    await expect(watching).rejects.toThrow();
    await overWith(house);
    expect(statusOf(house)).toBe('queued');
  });
});

describe('closing', () => {
  it.each(KINDS)('answers held calls with their handle and cancels nothing: %s', async (kind) => {
    const house = await served();
    const someone = await agent(kind, house.url);
    const progress: unknown[] = [];
    const call = someone.call(
      'generate_image',
      { prompt: 'x', wait: true },
      { onprogress: (p) => void progress.push(p) },
    );
    await until(() => house.gateway.seen.waitMs);
    await house.close();
    expect(objectOf(await call)).toMatchObject({ id: idOf(house), status: 'queued' });
    expect(statusOf(house)).toBe('queued');
  });

  it('answers a held get_generation with the state as it is', async () => {
    const house = await served();
    const someone = await agent('current', house.url);
    await someone.call('generate_image', { prompt: 'x' });
    const call = someone.call('get_generation', { id: idOf(house), wait: true });
    await until(() => house.gateway.seen.waitMs);
    await house.close();
    expect((await call).structuredContent).toMatchObject({ id: idOf(house), status: 'queued' });
  });
});

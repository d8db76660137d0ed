// The doors of webhooks on a real server over the real engine.

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createApi } from '../../src/api/api.ts';
import type { ErrorBody } from '../../src/contract/errors.ts';
import type { DeliveryBody, WebhookBody } from '../../src/contract/webhooks.ts';
import { type Hooked, hooked } from '../engine/hooked.ts';
import { ADMIN_KEY } from '../engine/house.ts';
import { until } from '../harness/manual-clock.ts';
import { realSystem } from '../harness/system.ts';

const URL_ = 'https://hooks.example/darkroom';
const ALL = [
  'generation.succeeded',
  'generation.failed',
  'generation.timeout',
  'generation.cancelled',
  'batch.finished',
];

interface Reply<T> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
  readonly error: ErrorBody['error'];
}

let h: Hooked;
let base: string;

beforeEach(async () => {
  h = await hooked();
  const system = realSystem(h.house.clock);
  const api = createApi({ gateway: h.house.gateway, system, host: '127.0.0.1', publicUrl: null });
  const server = http.createServer(api.handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  onTestFinished(async () => {
    await api.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
});

async function call<T = Record<string, unknown>>(
  method: string,
  path: string,
  body?: unknown,
  key = ADMIN_KEY,
): Promise<Reply<T>> {
  const response = await fetch(`${base}/v1/webhooks${path}`, {
    method,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  const parsed = text === '' ? null : JSON.parse(text);
  return { status: response.status, headers: response.headers, body: parsed as T, error: parsed?.error };
}

const make = async (url = URL_) => (await call<WebhookBody & { secret: string }>('POST', '', { url })).body;
const keyWith = async (...scopes: readonly ('generate' | 'read' | 'webhooks')[]) => {
  const rights = { models: null, expiresAt: null, requestsPerMinute: null, spendCap: null };
  return (await h.house.gateway.createKey('studio', { name: 'k', scopes, ...rights })).secret;
};

describe('a webhook', () => {
  it('is made with every event unless told otherwise, and shows its secret once', async () => {
    const made = await call<WebhookBody & { secret: string }>('POST', '', { url: URL_ });
    expect(made.status).toBe(201);
    expect(made.headers.get('cache-control')).toBe('no-store');
    const { secret, ...shown } = made.body;
    expect(secret).toMatch(/^whsec_/);
    expect(shown).toMatchObject({ url: URL_, events: ALL, description: null });
    expect(shown.health).toEqual({ state: 'ok', failures: 0, since: null, last_error: null, waiting: 0 });
    const one = await call('GET', `/${shown.id}`);
    expect([one.status, one.body]).toEqual([200, shown]);
    expect((await call('GET', '')).body).toEqual({ data: [shown], next_cursor: null });
  });

  it('is changed field by field', async () => {
    const { id } = await make();
    const patched = await call<WebhookBody>('PATCH', `/${id}`, { events: ['batch.finished', 'batch.finished'] });
    expect(patched.status).toBe(200);
    expect(patched.body).toMatchObject({ id, url: URL_, events: ['batch.finished'], description: null });
    await call('PATCH', `/${id}`, { url: `${URL_}/2`, description: 'night shift' });
    expect((await call('GET', `/${id}`)).body).toMatchObject({ url: `${URL_}/2`, description: 'night shift' });
    expect((await call('PATCH', `/${id}`, { description: null })).body).toMatchObject({ description: null });
    expect('secret' in patched.body).toBe(false);
  });

  it('is gone once deleted', async () => {
    const { id } = await make();
    expect((await call('DELETE', `/${id}`)).status).toBe(204);
    for (const [method, path, body] of [
      ['GET', `/${id}`],
      ['PATCH', `/${id}`, {}],
      ['DELETE', `/${id}`],
      ['POST', `/${id}/rotate`],
      ['POST', `/${id}/ping`],
      ['GET', `/${id}/deliveries`],
      ['POST', `/${id}/deliveries/msg_1/redeliver`],
    ] as const) {
      expect(await call(method, path, body)).toMatchObject({ status: 404, error: { code: 'not_found' } });
    }
  });

  it.each([
    [{}, 'url'],
    [{ url: 'nonsense' }, 'url'],
    [{ url: 'ftp://a.example/' }, 'url'],
    [{ url: 'http://10.0.0.1/' }, 'url'],
    [{ url: 'http://[::1]/' }, 'url'],
    [{ url: 'http://169.254.169.254/latest' }, 'url'],
    [{ url: 'https://user:secret@a.example/' }, 'url'],
    [{ url: URL_, events: [] }, 'events'],
    [{ url: URL_, events: ['generation.queued'] }, 'events.0'],
    [{ url: URL_, colour: 'red' }, 'colour'],
  ])('is refused as %j, naming the field', async (body, path) => {
    const refused = await call('POST', '', body);
    expect(refused).toMatchObject({ status: 422, error: { code: 'invalid_request', details: [{ path }] } });
    const { id } = await make();
    if ('url' in body || 'events' in body) expect((await call('PATCH', `/${id}`, body)).status).toBe(422);
  });

  it('is the fifty-first: 409', async () => {
    for (let i = 0; i < 50; i++) await make();
    expect(await call('POST', '', { url: URL_ })).toMatchObject({ status: 409, error: { code: 'conflict' } });
  });
});

describe('secrets', () => {
  it('are shown by those doors alone that make or ask for one', async () => {
    const { id, secret } = await make();
    const rotated = await call<{ secret: string }>('POST', `/${id}/rotate`);
    expect(rotated).toMatchObject({ status: 200, body: { secret: expect.stringMatching(/^whsec_/) } });
    expect(rotated.body.secret).not.toBe(secret);
    const standard = await call<{ secret: string }>('GET', '/secret');
    expect((await call<{ secret: string }>('GET', '/secret')).body).toEqual(standard.body);
    const fresh = await call<{ secret: string }>('POST', '/secret/rotate');
    expect((await call<{ secret: string }>('GET', '/secret')).body).toEqual(fresh.body);
    expect(fresh.body.secret).not.toBe(standard.body.secret);
    for (const one of [rotated, standard, fresh]) expect(one.headers.get('cache-control')).toBe('no-store');
  });
});

describe('deliveries', () => {
  it('are listed by webhook and for the whole workspace, and sent again', async () => {
    const [r, own] = [await h.receiver(500), await h.receiver()];
    const { id } = await make(r.url);
    const g = await h.finish({ webhook_url: own.url });
    const { id: delivery } = await h.noted(1, (await h.calls(r, 1)).id);
    await h.noted(1, (await h.calls(own, 1)).id);

    const listed = (await call<{ data: DeliveryBody[] }>('GET', `/${id}/deliveries`)).body.data;
    expect(listed).toHaveLength(1);
    expect(listed[0]).toMatchObject({
      id: delivery,
      webhook_id: id,
      event: 'generation.succeeded',
      generation_id: g.id,
      batch_id: null,
      state: 'pending',
      next_attempt_at: expect.stringMatching(/Z$/),
      attempts: [{ status_code: 500, error: 'answered 500', at: expect.stringMatching(/Z$/) }],
    });
    const all = (await call<{ data: DeliveryBody[] }>('GET', '/deliveries')).body.data;
    expect(all.map((d) => d.webhook_id).sort()).toEqual([null, id]);
    const delivered = (await call<{ data: DeliveryBody[] }>('GET', '/deliveries?state=delivered')).body.data;
    expect(delivered).toMatchObject([{ webhook_id: null, url: own.url, next_attempt_at: null }]);
    expect((await call<WebhookBody>('GET', `/${id}`)).body.health).toMatchObject({
      state: 'ok',
      failures: 1,
      last_error: 'answered 500',
      waiting: 1,
    });

    r.behave(200);
    const again = await call<DeliveryBody>('POST', `/${id}/deliveries/${delivery}/redeliver`);
    expect([again.status, again.body.id, again.body.state]).toEqual([202, delivery, 'pending']);
    expect((await h.calls(r, 2)).body).toBe(r.calls[0]?.body);
    const other = await call<DeliveryBody>('POST', `/deliveries/${own.calls[0]?.id}/redeliver`);
    expect(other.status).toBe(202);
    expect((await h.calls(own, 2)).id).toBe(own.calls[0]?.id);
    const foreign = await call('POST', `/${id}/deliveries/${own.calls[0]?.id}/redeliver`);
    expect(foreign.status).toBe(404);
  });

  it('come page by page, newest first', async () => {
    const r = await h.receiver();
    const { id } = await make(r.url);
    const made: string[] = [];
    for (let i = 0; i < 5; i++) made.unshift((await call<DeliveryBody>('POST', `/${id}/ping`)).body.id);
    const seen: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const path: string = `/${id}/deliveries?limit=2${cursor && `&cursor=${cursor}`}`;
      const page = await call<{ data: DeliveryBody[]; next_cursor: string | null }>('GET', path);
      seen.push(...page.body.data.map((d) => d.id));
      cursor = page.body.next_cursor;
    }
    expect(seen).toEqual(made);
    expect((await call('GET', `/${id}/deliveries?cursor=made-up`)).status).toBe(422);
    expect((await call('GET', `/${id}/deliveries?state=lost`)).status).toBe(422);
    expect((await call('GET', '/deliveries?limit=101')).status).toBe(422);
  });

  it('begin with a ping', async () => {
    const r = await h.receiver();
    const { id } = await make(r.url);
    const pinged = await call<DeliveryBody>('POST', `/${id}/ping`);
    expect(pinged).toMatchObject({ status: 202, body: { event: 'ping', webhook_id: id, generation_id: null } });
    expect((await h.calls(r, 1)).json()).toMatchObject({ event: 'ping', id });
  });
});

describe('the scope webhooks', () => {
  it('is needed by every door, and is all that is needed', async () => {
    const hooks = await keyWith('webhooks');
    const [reader, maker] = [await keyWith('read'), await keyWith('generate')];
    const { id } = await make();
    const doors = [
      ['POST', '', { url: URL_ }],
      ['GET', ''],
      ['GET', `/${id}`],
      ['PATCH', `/${id}`, {}],
      ['POST', `/${id}/rotate`],
      ['POST', `/${id}/ping`],
      ['GET', `/${id}/deliveries`],
      ['GET', '/deliveries'],
      ['GET', '/secret'],
      ['POST', '/secret/rotate'],
      ['DELETE', `/${id}`],
    ] as const;
    for (const [method, path, body] of doors) {
      for (const key of [reader, maker]) expect((await call(method, path, body, key)).status).toBe(403);
      expect((await call(method, path, body, hooks)).status).toBeLessThan(300);
    }
    const { url } = await h.receiver();
    const asked = { method: 'POST', headers: { authorization: `Bearer ${maker}` } };
    const generation = await fetch(`${base}/v1/generations`, {
      ...asked,
      body: JSON.stringify({ prompt: 'a lighthouse', webhook_url: url }),
    });
    expect(generation.status).toBe(202);
    expect(((await generation.json()) as { warnings: string[] }).warnings).toEqual([]);
  });
});

it('says which methods a path answers', async () => {
  const { id } = await make();
  const wrong = await call('PUT', `/${id}`);
  expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'DELETE, GET, HEAD, PATCH']);
});

it('counts what waits to be sent in the metrics, and tells the others when that cannot be counted', async () => {
  const text = async () => (await fetch(`${base}/metrics`)).text();
  const r = await h.receiver('hang');
  const { id } = await make(r.url);
  for (let n = 0; n < 3; n++) await call('POST', `/${id}/ping`);
  expect(await text()).toContain('darkroom_webhook_deliveries_pending 3\n');
  Object.assign(h.house.store.deliveries, { waiting: () => Promise.reject(new Error('the database is away')) });
  const without = await text();
  expect(without).toContain('darkroom_webhook_deliveries_pending Nan\n');
  expect(without).toContain('darkroom_store_commits_total ');
});

it('counts what was sent in the metrics', async () => {
  const r = await h.receiver();
  const { id } = await make(r.url);
  await call('POST', `/${id}/ping`);
  const lines = [
    'darkroom_webhook_deliveries_total{state="delivered"} 1',
    'darkroom_webhook_deliveries_total{state="dead"} 0',
    'darkroom_webhook_tries_total{outcome="arrived"} 1',
    'darkroom_webhook_receivers_failing 0',
    'darkroom_webhook_deliveries_pending 0',
  ];
  await until(async () => {
    const text = await (await fetch(`${base}/metrics`)).text();
    return lines.every((line) => text.includes(line));
  }, lines.join());
});

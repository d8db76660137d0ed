// Asking, polling, listing and cancelling over real HTTP.

import { describe, expect, it } from 'vitest';
import { GenerationBody } from '../../src/contract/generations.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { until } from '../harness/manual-clock.ts';
import { ADMIN_KEY, NODE, NOW, output } from './fake-gateway.ts';
import { type Served, served } from './served.ts';

const submit = async (s: Served, body: unknown = { prompt: 'a boat' }, headers = {}) => {
  const reply = await s.call('/v1/generations', { body, headers });
  return { reply, id: reply.json<{ id: string }>().id };
};
const succeed = (s: Served, id: string) => {
  s.gateway.emit(id, { type: 'started', at: NOW, node: NODE.spec.id, backend: 'sdapi' });
  s.gateway.emit(id, { type: 'succeeded', at: NOW, outputs: [output(0)], nodeMs: 1000 });
};

describe('submitting', () => {
  it('answers 202 with the body, where to poll, when, and what is left', async () => {
    const s = await served();
    const { reply, id } = await submit(s);
    expect(reply.status).toBe(202);
    expect(reply.headers.get('location')).toBe(`/v1/generations/${id}`);
    expect(reply.headers.get('retry-after')).toBe('4');
    expect(reply.headers.get('x-powered-by')).toBeNull();
    expect(reply.json()).toMatchObject({
      status: 'queued',
      model: 'sketch',
      estimated_seconds: 9,
      created_at: '2026-04-30T09:17:42Z',
      credits_reserved: 2.5,
      credits_available: 997.5,
    });
    expect(GenerationBody.safeParse(reply.json()).error).toBeUndefined();
  });

  it('replays an idempotency key with 200 and says so, whether it came as header or as field', async () => {
    const s = await served();
    const first = await submit(s, { prompt: 'a', idempotency_key: 'k1' });
    const second = await submit(s, { prompt: 'a' }, { 'idempotency-key': 'k1' });
    expect(first.reply.headers.get('idempotency-replayed')).toBeNull();
    expect(second.reply.status).toBe(200);
    expect(second.reply.headers.get('idempotency-replayed')).toBe('true');
    expect(second.id).toBe(first.id);
  });

  it('refuses a header and a field that name different keys', async () => {
    const s = await served();
    const { reply } = await submit(s, { idempotency_key: 'a' }, { 'idempotency-key': 'b' });
    expect(reply.status).toBe(422);
    expect(reply.error).toMatchObject({ code: 'invalid_request', details: [{ path: 'idempotency_key' }] });
    expect(s.gateway.generations.size).toBe(0);
  });

  it('takes the same key given twice alike', async () => {
    const s = await served();
    expect((await submit(s, { idempotency_key: 'a' }, { 'idempotency-key': 'a' })).reply.status).toBe(202);
  });

  it('refuses an idempotency header that is too long', async () => {
    const s = await served();
    expect((await submit(s, {}, { 'idempotency-key': 'x'.repeat(256) })).reply.status).toBe(422);
  });

  it('holds the answer while Prefer: wait lasts, and answers 202 with the state when the cap is reached', async () => {
    const s = await served();
    const pending = submit(s, { prompt: 'a' }, { prefer: 'respond-async, wait=20' });
    await until(() => s.gateway.seen.waitMs === 20_000);
    await s.clock.advance(20_000);
    const { reply } = await pending;
    expect(reply.status).toBe(202);
    expect(reply.headers.get('preference-applied')).toBe('wait=20');
  });

  it('answers 200 with the result when the wait saw it finish, with credits as they are then', async () => {
    const s = await served();
    const pending = submit(s, { prompt: 'a', wait: true });
    await until(() => s.gateway.seen.waitMs === 60_000);
    succeed(s, [...s.gateway.generations.keys()][0] as string);
    const { reply } = await pending;
    expect(reply.status).toBe(200);
    expect(reply.headers.get('retry-after')).toBeNull();
    expect(reply.json()).toMatchObject({ status: 'succeeded', credits_charged: 2.5, credits_available: 998 });
  });

  it.each([
    [{ wait: 500 }, {}, 60_000],
    [{ wait: 7 }, { prefer: 'wait=20' }, 7_000],
    [{}, { prefer: 'wait="3"' }, 3_000],
  ])('waits as long as %j with %j says, never above the cap', async (body, headers, ms) => {
    const s = await served();
    const pending = submit(s, body, headers);
    await until(() => s.gateway.seen.waitMs === ms);
    await s.clock.advance(ms);
    expect((await pending).reply.status).toBe(202);
  });

  it('does not wait when told not to', async () => {
    const s = await served();
    expect((await submit(s, { wait: false })).reply.status).toBe(202);
    expect((await submit(s, { wait: 0 })).reply.status).toBe(202);
    expect(s.gateway.seen.waitMs).toBeUndefined();
  });

  it('stops waiting when the client goes away, and the generation lives on', async () => {
    const s = await served();
    const gone = new AbortController();
    const pending = s.call('/v1/generations', { body: { wait: 60 }, signal: gone.signal });
    await until(() => s.gateway.seen.waitMs);
    gone.abort();
    await expect(pending).rejects.toThrow();
    await until(() => s.clock.pending === 1, 'only the heartbeat sleeps');
    expect(s.gateway.generations.size).toBe(1);
  });

  it('refuses new work while draining, with a time to come back, but still cancels and polls', async () => {
    const s = await served();
    const { id } = await submit(s);
    s.gateway.draining = true;
    const { reply } = await submit(s);
    expect(reply.status).toBe(503);
    expect(reply.error.code).toBe('shutting_down');
    expect(reply.headers.get('retry-after')).toBe('5');
    expect((await s.call(`/v1/generations/${id}`)).status).toBe(200);
    expect((await s.call(`/v1/generations/${id}/cancel`, { method: 'POST' })).status).toBe(200);
  });
});

describe('failures by code', () => {
  it.each([
    ['invalid_request', 422],
    ['unknown_model', 422],
    ['unsupported_input', 422],
    ['idempotency_conflict', 422],
    ['unauthenticated', 401],
    ['insufficient_credits', 402],
    ['budget_exceeded', 402],
    ['forbidden', 403],
    ['not_found', 404],
    ['conflict', 409],
    ['too_large', 413],
    ['rate_limited', 429],
    ['queue_full', 429],
    ['no_capable_node', 503],
    ['shutting_down', 503],
    ['internal', 500],
  ] as const)('%s is answered with %i as JSON with a request id', async (code, status) => {
    const s = await served();
    s.gateway.failWith.submit = new GatewayError(code, 'why');
    const reply = await s.call('/v1/generations', { body: {} });
    expect(reply.status).toBe(status);
    expect(reply.error).toMatchObject({ code, message: 'why', request_id: reply.headers.get('x-request-id') });
    expect(reply.headers.get('retry-after') !== null).toBe([429, 503].includes(status));
  });

  it('hides what an unexpected error says', async () => {
    const s = await served();
    s.gateway.failWith.submit = new Error('password of /secret/path');
    const reply = await s.call('/v1/generations', { body: {} });
    expect(reply.status).toBe(500);
    expect(reply.error.code).toBe('internal');
    expect(reply.text).not.toMatch(/secret|password|at .*\.ts/);
  });

  it('passes on how long to wait', async () => {
    const s = await served();
    s.gateway.failWith.submit = new GatewayError('queue_full', 'full', { retryAfterSeconds: 17.2 });
    expect((await s.call('/v1/generations', { body: {} })).headers.get('retry-after')).toBe('18');
  });
});

describe('polling', () => {
  it('answers 304 until state, outputs or progress change', async () => {
    const s = await served();
    const { id } = await submit(s);
    const tag = async (known = '') => {
      const reply = await s.call(`/v1/generations/${id}`, { headers: { 'if-none-match': known } });
      return { status: reply.status, etag: reply.headers.get('etag') as string, reply };
    };
    const first = await tag();
    expect(first.reply.headers.get('retry-after')).toBe('4');
    const again = await tag(`"other", ${first.etag}`);
    expect(again).toMatchObject({ status: 304, etag: first.etag });
    expect(again.reply.headers.get('retry-after')).toBe('4');
    s.gateway.emit(id, { type: 'started', at: NOW, node: 'rack-1', backend: 'sdapi' });
    const running = await tag(first.etag);
    expect(running.status).toBe(200);
    s.gateway.progressNow = { fraction: 0.65, message: 'denoising step 32/50' };
    const progressed = await tag(running.etag);
    expect(progressed.status).toBe(200);
    expect(progressed.reply.json()).toMatchObject({ progress: { fraction: 0.65, message: 'denoising step 32/50' } });
    s.gateway.emit(id, { type: 'succeeded', at: NOW, outputs: [output(0)], nodeMs: 1 });
    const done = await tag(progressed.etag);
    expect(done.status).toBe(200);
    expect((await tag(done.etag)).status).toBe(304);
    s.gateway.swept = true;
    const swept = await tag(done.etag);
    expect(swept.status).toBe(200);
    expect(swept.reply.json()).toMatchObject({ url: null, outputs: [{ url: null }] });
  });

  it('holds a long-poll until the end', async () => {
    const s = await served();
    const { id } = await submit(s);
    const pending = s.call(`/v1/generations/${id}?wait=20`);
    await until(() => s.gateway.seen.waitMs === 20_000);
    succeed(s, id);
    const body = (await pending).json<{ url: string; output_url: string }>();
    expect(body).toMatchObject({ status: 'succeeded', credits_charged: 2.5 });
    expect(body.url).toBe(body.output_url);
    expect(body.url).toMatch(new RegExp(`^${s.url}/v1/outputs/`));
  });

  it('clamps a long-poll to the cap', async () => {
    const s = await served();
    const { id } = await submit(s);
    const pending = s.call(`/v1/generations/${id}?wait=9999`);
    await until(() => s.gateway.seen.waitMs === 60_000);
    await s.clock.advance(60_000);
    expect((await pending).status).toBe(200);
  });

  it.each(['?wait=soon', '?wait=-1', '?wait=1&wait=2', '?wiat=1'])('refuses %s by name', async (query) => {
    const s = await served();
    const { id } = await submit(s);
    const reply = await s.call(`/v1/generations/${id}${query}`);
    expect(reply.status).toBe(422);
    expect(reply.error.details?.[0]?.path).toMatch(/^wi?a?i?t$/);
  });

  it("is 404 for another workspace's id, an unknown one and nonsense", async () => {
    const s = await served();
    s.gateway.addKey('dk_other', {}, { id: 'elsewhere' });
    const { id } = await submit(s);
    const other = { headers: { authorization: 'Bearer dk_other' } };
    for (const path of [`/v1/generations/${id}`, '/v1/generations/gen_nope', '/v1/generations/%ff']) {
      const reply = await s.call(path, other);
      expect(reply.status).toBe(404);
      expect(reply.error.code).toBe('not_found');
    }
  });

  it('puts links under the public URL where there is one', async () => {
    const s = await served({ publicUrl: 'https://pics.example' });
    const { id } = await submit(s);
    succeed(s, id);
    expect((await s.call(`/v1/generations/${id}`)).json().url).toMatch(/^https:\/\/pics\.example\/v1\/outputs\//);
  });
});

describe('listing and cancelling', () => {
  it('pages newest first with an opaque cursor', async () => {
    const s = await served();
    const ids = [];
    for (let i = 0; i < 3; i++) ids.unshift((await submit(s)).id);
    type Page = { data: { id: string }[]; next_cursor: string | null };
    const first = (await s.call('/v1/generations?limit=2')).json<Page>();
    expect(first.data.map((g) => g.id)).toEqual(ids.slice(0, 2));
    const second = (await s.call(`/v1/generations?limit=2&cursor=${first.next_cursor}`)).json<Page>();
    expect(second).toMatchObject({ data: [{ id: ids[2] }], next_cursor: null });
  });

  it('hands filters on, metadata by key', async () => {
    const s = await served();
    const query = 'status=queued,running&model=sketch&batch_id=b&since=2026-04-30T00:00:00Z';
    const reply = await s.call(`/v1/generations?${query}&metadata.ticket=MKT-2241&metadata.shot.no=4`);
    expect(reply.status).toBe(200);
    expect(s.gateway.seen.filter).toEqual({
      statuses: ['queued', 'running'],
      model: 'sketch',
      batchId: 'b',
      since: Date.UTC(2026, 3, 30),
      metadata: { ticket: 'MKT-2241', 'shot.no': '4' },
    });
  });

  it('takes names that objects are born with for names', async () => {
    const s = await served();
    await s.call('/v1/generations?metadata.constructor=a&metadata.toString=b&metadata.hasOwnProperty=c');
    expect(s.gateway.seen.filter).toEqual({ metadata: { constructor: 'a', toString: 'b', hasOwnProperty: 'c' } });
    const metadata = { constructor: 'a', toString: 'b', valueOf: 'c' };
    expect((await s.call('/v1/generations', { body: { prompt: 'a', metadata } })).status).toBe(202);
  });

  it.each([
    ['limit=0', 'limit'],
    ['limit=101', 'limit'],
    ['limit=many', 'limit'],
    ['status=done', 'status'],
    ['status=queued,done', 'status'],
    ['since=yesterday', 'since'],
    ['colour=red', 'colour'],
    ['metadata=x', 'metadata'],
    ['limit=5&limit=6', 'limit'],
    ['__proto__.x=1', '__proto__'],
    ['metadata.__proto__=x', 'metadata.__proto__'],
    ['metadata.%5F_proto__=x&metadata.a=b', 'metadata.__proto__'],
    ['constructor=x', 'constructor'],
  ])('refuses ?%s by name', async (query, path) => {
    const s = await served();
    const reply = await s.call(`/v1/generations?${query}`);
    expect(reply.status).toBe(422);
    expect(reply.error.details?.[0]?.path).toBe(path);
  });

  it('cancels once and then returns it unchanged', async () => {
    const s = await served();
    const { id } = await submit(s);
    const cancel = () => s.call(`/v1/generations/${id}/cancel`, { method: 'POST' });
    const first = (await cancel()).json();
    expect(first).toMatchObject({ status: 'cancelled', credits_charged: 0, error: { code: 'cancelled_by_caller' } });
    expect((await cancel()).json()).toEqual(first);
  });

  it('answers with the caller’s request id where it is sane', async () => {
    const s = await served();
    const id = async (sent: string) =>
      (await s.call('/v1/credits', { headers: { 'x-request-id': sent } })).headers.get('x-request-id');
    expect(await id('trace-17')).toBe('trace-17');
    expect(await id('no spaces please')).toMatch(/^req_/);
    expect(await id('x'.repeat(129))).toMatch(/^req_/);
  });

  it('never shows a key back', async () => {
    const s = await served();
    expect((await s.call('/v1/generations?x=1')).text).not.toContain(ADMIN_KEY);
  });
});

// The doors of batches on a real server, over the real engine with nodes that obey.

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { createApi } from '../../src/api/api.ts';
import { BatchBody, BatchList, DryRunBody, ItemList, ReportBody } from '../../src/contract/batches.ts';
import type { ErrorBody } from '../../src/contract/errors.ts';
import { codes, ended, itemsOf, shots } from '../engine/batch-stage.ts';
import { ADMIN_KEY, CREDIT, type House, openHouse } from '../engine/house.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { realSystem } from '../harness/system.ts';

let house: House;
let url: string;
let closeDoors: () => Promise<void>;

const openDoors = async () => {
  const api = createApi({
    gateway: house.gateway,
    system: realSystem(house.clock),
    host: '127.0.0.1',
    publicUrl: 'http://darkroom.test',
  });
  const server = http.createServer(api.handler);
  api.attach(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  closeDoors = async () => {
    await api.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
};
beforeEach(async () => {
  house = await openHouse();
  await openDoors();
});
afterEach(async () => {
  await closeDoors();
  await house[Symbol.asyncDispose]();
});

async function call(path: string, body?: unknown, headers: Record<string, string> = {}, method?: string) {
  const response = await fetch(url + path, {
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    headers: { authorization: `Bearer ${ADMIN_KEY}`, ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const json = (await response.json()) as Record<string, unknown>;
  return { status: response.status, headers: response.headers, json, error: (json as unknown as ErrorBody).error };
}
const post = (path: string) => call(path, undefined, {}, 'POST');
const keyWith = async (...scopes: ('read' | 'generate')[]) => {
  const rights = { scopes, models: null, expiresAt: null, requestsPerMinute: null, spendCap: null };
  const { secret } = await house.gateway.createKey('studio', { name: 'k', ...rights });
  return { authorization: `Bearer ${secret}` };
};

describe('POST /v1/batches', () => {
  it('answers 202 with the batch in the words of the contract', async () => {
    const asked = { name: 'overnight', items: shots(3), max_credits: 6, metadata: { campaign: 'spring' } };
    const { status, headers, json } = await call('/v1/batches', asked);
    expect(status).toBe(202);
    expect(headers.get('location')).toBe(`/v1/batches/${json.id}`);
    expect(BatchBody.parse(json)).toEqual(json);
    expect(json).toMatchObject({
      id: expect.stringMatching(/^batch_[0-9A-HJKMNP-TV-Z]{26}$/),
      name: 'overnight',
      status: 'running',
      total: 3,
      counts: { queued: 3, running: 0, succeeded: 0, failed: 0, timeout: 0, cancelled: 0 },
      credits: { projected: 6, charged: 0, reserved: expect.any(Number), max_credits: 6 },
      breaker: { state: 'closed', trips: 0, resumes_at: null },
      concurrency: 50,
      finished_at: null,
      metadata: { campaign: 'spring' },
    });
    const done = await ended(house, json.id as string);
    expect(done.tally.charged).toBe(6 * CREDIT);
    const after = await call(`/v1/batches/${json.id}`);
    expect(after.json).toMatchObject({ status: 'finished', eta_seconds: null, finished_at: expect.any(String) });
  });

  it('says what it would cost and stores nothing on a dry run', async () => {
    const items = [...shots(2), { prompt: 'x', model: 'nope' }];
    const { status, json } = await call('/v1/batches', { items, dry_run: true, max_credits: 3 });
    expect(status).toBe(200);
    expect(DryRunBody.parse(json)).toEqual({
      items: 3,
      projected_credits: 4,
      available: 1000,
      max_credits: 3,
      fits: false,
      by_model: { 'flux-dev': { items: 2, credits: 4 } },
      attached: 0,
      refused: [{ index: 2, code: 'unknown_model', message: 'There is no model "nope".' }],
    });
    expect((await call('/v1/batches')).json).toEqual({ data: [], next_cursor: null });
  });

  it('names every place that does not parse', async () => {
    const items: unknown[] = shots(900);
    items[731] = { prompt: 'x', seed: 'seven' };
    items[800] = { prompt: 'x', wait: 5 };
    const { status, error } = await call('/v1/batches', { items });
    expect(status).toBe(422);
    expect(error.code).toBe('invalid_request');
    expect(error.details?.map((d) => d.path)).toEqual(['items.731.seed', 'items.800.wait']);
    for (const wrong of [{ items: 5 }, { colour: 1 }, { concurrency: 0 }, { breaker: true }, { max_credits: -1 }])
      expect((await call('/v1/batches', wrong)).status).toBe(422);
  });

  it('takes ten thousand items of thirty fields, and no more', async () => {
    const wide = Object.fromEntries(Array.from({ length: 27 }, (_, i) => [`k${i}`, i]));
    const items = Array.from({ length: 10_001 }, (_, i) => ({ prompt: `p${i}`, metadata: wide }));
    const { status, error } = await call('/v1/batches', { items, dry_run: true });
    expect([status, error.details?.[0]?.path]).toEqual([422, 'items']);
    const most = await call('/v1/batches', { items: items.slice(1), dry_run: true });
    expect([most.status, most.json.items]).toEqual([200, 10_000]);
  }, 60_000);

  it('refuses what the workspace cannot pay, naming both numbers', async () => {
    const { status, error } = await call('/v1/batches', { items: shots(600) });
    expect(status).toBe(402);
    expect(error).toMatchObject({ code: 'insufficient_credits', message: expect.stringMatching(/1200 .* 1000/) });
  });

  it('is made once per Idempotency-Key, header or field', async () => {
    const items = shots(2);
    const first = await call('/v1/batches', { items }, { 'idempotency-key': 'night' });
    expect([first.status, first.headers.get('idempotency-replayed')]).toEqual([202, null]);
    const again = await call('/v1/batches', { items, idempotency_key: 'night' });
    expect([again.status, again.headers.get('idempotency-replayed')]).toEqual([200, 'true']);
    expect(again.json.id).toBe(first.json.id);
    const both = await call('/v1/batches', { items, idempotency_key: 'a' }, { 'idempotency-key': 'b' });
    expect([both.status, both.error.details?.[0]?.path]).toEqual([422, 'idempotency_key']);
    const other = await call('/v1/batches', { items: shots(3) }, { 'idempotency-key': 'night' });
    expect([other.status, other.error.code]).toEqual([422, 'idempotency_conflict']);
    await ended(house, first.json.id as string);
  });

  it('asks for the right scope', async () => {
    const reader = await keyWith('read');
    expect((await call('/v1/batches', { items: [] }, reader)).status).toBe(403);
    expect((await call('/v1/batches', undefined, reader)).status).toBe(200);
    const { json } = await call('/v1/batches', {}, await keyWith('generate'));
    for (const move of ['pause', 'resume', 'cancel', 'retry_failed'])
      expect((await call(`/v1/batches/${json.id}/${move}`, undefined, reader, 'POST')).status).toBe(403);
    expect((await call(`/v1/batches/${json.id}/report`, undefined, reader)).status).toBe(200);
  });

  it('is refused while the gateway drains', async () => {
    const stopped = house.gateway.stop();
    await settle();
    expect((await call('/v1/batches', { items: [] })).status).toBe(503);
    await house.clock.advance(60_000);
    await stopped;
  });
});

describe('a batch behind its doors', () => {
  const made = async (items: unknown[], more = {}) => (await call('/v1/batches', { items, ...more })).json.id as string;

  it('lists its items in order, page by page and by status', async () => {
    const id = await made([...shots(4), { prompt: 'x', model: 'nope' }], { concurrency: 1 });
    const first = await call(`/v1/batches/${id}/items?limit=3`);
    expect(ItemList.parse(first.json)).toEqual(first.json);
    const rest = await call(`/v1/batches/${id}/items?limit=3&cursor=${first.json.next_cursor}`);
    const all = [first, rest].flatMap(({ json }) => (json as unknown as ItemList).data);
    expect(all.map((item) => [item.index, item.key])).toEqual([0, 1, 2, 3, 4].map((i) => [i, `${id}/${i}`]));
    expect(all[3]?.generation).toMatchObject({
      status: 'queued',
      queue_reason: 'waiting_for_slot',
      credits_reserved: 0,
    });
    const failed = await call(`/v1/batches/${id}/items?status=failed`);
    expect((failed.json as unknown as ItemList).data.map((item) => item.index)).toEqual([4]);
    expect((await call(`/v1/batches/${id}/items?status=lost`)).status).toBe(422);
    await ended(house, id);
    const done = await call(`/v1/batches/${id}/items?limit=1`);
    expect((done.json as unknown as ItemList).data[0]?.generation.url).toMatch(/^http:\/\/darkroom\.test\/v1\/outputs/);
    const listed = await call(`/v1/generations?batch_id=${id}`);
    expect(listed.json.data).toHaveLength(5);
  });

  it('takes more items while it runs or is paused', async () => {
    const id = await made(shots(1));
    const more = await call(`/v1/batches/${id}/items`, { items: [{ prompt: 'late', idempotency_key: 'late' }] });
    expect([more.status, more.json.total]).toEqual([202, 2]);
    const again = await call(`/v1/batches/${id}/items`, { items: [{ prompt: 'late', idempotency_key: 'late' }] });
    expect([again.status, again.json.total]).toEqual([202, 2]);
    const wrong = await call(`/v1/batches/${id}/items`, { items: [{ n: 99 }] });
    expect([wrong.status, wrong.error.details?.[0]?.path]).toEqual([422, 'items.0.n']);
    await ended(house, id);
    const late = await call(`/v1/batches/${id}/items`, { items: shots(1) });
    expect([late.status, late.error.code]).toEqual([409, 'conflict']);
  });

  it('is paused, resumed, cancelled and retried, and says why it cannot be', async () => {
    const id = await made(shots(3), { concurrency: 1 });
    expect((await post(`/v1/batches/${id}/pause`)).json.status).toBe('paused');
    expect((await post(`/v1/batches/${id}/pause`)).status).toBe(200);
    expect((await post(`/v1/batches/${id}/resume`)).json.status).toBe('running');
    expect((await post(`/v1/batches/${id}/retry_failed`)).error).toMatchObject({ code: 'conflict' });
    const cancelled = await post(`/v1/batches/${id}/cancel`);
    expect([cancelled.status, cancelled.json.status]).toEqual([200, 'cancelled']);
    await ended(house, id);
    expect(codes(await itemsOf(house, id))).toContain('cancelled_by_caller');
    const refused = await post(`/v1/batches/${id}/resume`);
    expect([refused.status, refused.error.message]).toEqual([
      409,
      `${id} is cancelled: only one that is running or paused can be resumed.`,
    ]);
  });

  it('reports what failed and why, what it cost and how long it took', async () => {
    for (const node of ['rack-1', 'rack-2'])
      house.fakes.node(node).plan = (job) => (job.params.prompt === 'shot 1' ? { fail: 'safety_filter' } : {});
    const id = await made(shots(4));
    await ended(house, id);
    const { json } = await call(`/v1/batches/${id}/report`);
    expect(ReportBody.parse(json)).toEqual(json);
    expect(json).toMatchObject({
      id,
      counts: { succeeded: 3, failed: 1 },
      failures: [
        {
          index: 1,
          key: `${id}/1`,
          prompt: 'shot 1',
          model: 'flux-dev',
          attempts: 1,
          error: { code: 'safety_filter' },
        },
      ],
      reconciliation: { projected: 8, charged: 6, delta_percent: -25, flagged: true },
      seconds_per_job: { mean: 1, p50: 1, p95: 1 },
      outputs: `/v1/generations?batch_id=${id}`,
    });
  });

  it('reports of thousands no more than a desk can hold, and says how many there are', async () => {
    const prompt = `a${'\u{1F5FC}'.repeat(400)}`;
    const id = await made(Array.from({ length: 2100 }, () => ({ prompt, model: 'nope' })));
    const { json } = await call(`/v1/batches/${id}/report`);
    const report = ReportBody.parse(json);
    expect(report.failures).toHaveLength(2000);
    expect(report.failures_total).toBe(2100);
    expect(report.failures.map((f) => f.index).slice(-1)).toEqual([1999]);
    expect(report.failures[0]?.prompt).toHaveLength(300);
    expect(prompt.startsWith(report.failures[0]?.prompt.slice(0, -2) ?? '?')).toBe(true);
    expect(report.seconds_per_job).toEqual({ mean: null, p50: null, p95: null });
  });

  it('comes back from its list, newest first', async () => {
    const first = await made([]);
    await house.clock.advance(5);
    const second = await made([]);
    const page = await call('/v1/batches?limit=1');
    expect(BatchList.parse(page.json)).toEqual(page.json);
    expect((page.json.data as BatchBody[]).map((b) => b.id)).toEqual([second]);
    const rest = await call(`/v1/batches?limit=1&cursor=${page.json.next_cursor}`);
    expect((rest.json.data as BatchBody[]).map((b) => b.id)).toEqual([first]);
  });

  it('is not found where there is none', async () => {
    for (const path of ['', '/items', '/report']) expect((await call(`/v1/batches/batch_x${path}`)).status).toBe(404);
    for (const move of ['pause', 'resume', 'cancel', 'retry_failed'])
      expect((await post(`/v1/batches/batch_x/${move}`)).status).toBe(404);
    expect((await call('/v1/batches/batch_x/items', { items: [] })).status).toBe(404);
  });

  it('is told of on the WebSocket', async () => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/v1/events?progress=0`, {
      headers: { authorization: `Bearer ${ADMIN_KEY}` },
    });
    const frames: { type: string; event?: string; batch?: BatchBody }[] = [];
    socket.on('message', (data) => frames.push(JSON.parse(String(data))));
    await until(() => frames.some((f) => f.type === 'ready'), 'the ready frame');
    const id = await made(shots(2));
    await post(`/v1/batches/${id}/pause`);
    await post(`/v1/batches/${id}/resume`);
    await ended(house, id);
    await until(() => frames.some((f) => f.event === 'batch.finished'), 'the end of the batch');
    const moves = frames.filter((f) => f.event?.startsWith('batch.'));
    expect(moves.map((f) => f.event)).toEqual(['batch.running', 'batch.paused', 'batch.running', 'batch.finished']);
    expect(BatchBody.parse(moves.at(-1)?.batch)).toMatchObject({ id, counts: { succeeded: 2 } });
    expect(frames.filter((f) => f.event === 'generation.queued')).toHaveLength(2);
    socket.close();
  });

  it('shows in the document and in the metrics', async () => {
    const { json } = await call('/openapi.json');
    const paths = Object.keys(json.paths as object).filter((path) => path.startsWith('/v1/batches'));
    expect(paths).toHaveLength(8);
    await made([]);
    const text = await (await fetch(`${url}/metrics`)).text();
    expect(text).toContain('darkroom_batches_open{state="running"} 1');
  });
});

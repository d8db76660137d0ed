// What becomes of answers that are none: one error each, a code for programs and words for people.

import { describe, expect, it } from 'vitest';
import { createClient } from '../../src/client/client.ts';
import { type Behaviour, cut, done, drop, failing, json, page, startRough, truncated } from './rough.ts';
import { errorOf } from './thrown.ts';
import { recordedSleep } from './waits.ts';

describe('an answer that is none', () => {
  const cases: readonly [string, Behaviour, object][] = [
    ['a dropped connection', drop, { code: 'unreachable', retryable: true }],
    ['a connection cut in the answer', cut, { code: 'unreachable', retryable: true }],
    ['JSON cut off', truncated, { code: 'bad_answer', retryable: true, status: 200 }],
    ['a page instead of JSON', page(200), { code: 'bad_answer', retryable: false, status: 200 }],
    ['a page for a wrong path', page(404), { code: 'bad_answer', retryable: false, status: 404 }],
    ['a page of a proxy that wants other credentials', page(401), { code: 'unauthenticated', retryable: false }],
    ['a page of a proxy without its gateway', page(502), { code: 'unreachable', retryable: true, status: 502 }],
    [
      'a page of a proxy under load',
      page(503, { 'retry-after': '7' }),
      { code: 'unreachable', retryable: true, retryAfterSeconds: 7 },
    ],
    ['a page about too many requests', page(429), { code: 'rate_limited', retryable: true }],
    ['a page about a fault', page(500), { code: 'bad_answer', retryable: true, status: 500 }],
    ['a redirect', page(301, { location: 'http://127.0.0.1:1/' }), { code: 'bad_answer', retryable: false }],
    ['JSON of something else', json([1, 2]), { code: 'bad_answer', retryable: false }],
    ['an error that is not one', json({ error: 'no' }, 400), { code: 'bad_answer', status: 400 }],
    [
      'an error with a code from the future',
      failing('lens_cap_on', 409, false),
      { code: 'lens_cap_on', status: 409, message: 'It was lens_cap_on.', advice: 'Do something.' },
    ],
  ];
  it.each(cases)('%s', async (_, behaviour, expected) => {
    const { url } = await startRough([behaviour]);
    const error = await errorOf(createClient({ url, key: 'k' }).submit({ prompt: 'x' }));
    expect(error).toMatchObject(expected);
    expect(error.message).not.toMatch(/[<>{}]/);
    expect(error.advice).toMatch(/\.$/);
  });

  it('nobody there', async () => {
    const error = await errorOf(createClient({ url: 'http://127.0.0.1:1', key: 'k' }).credits());
    expect(error).toMatchObject({
      code: 'unreachable',
      message: 'No answer from http://127.0.0.1:1.',
    });
  });

  it('Retry-After as a date', async () => {
    const at = new Date(Date.now() + 60_000).toUTCString();
    const { url } = await startRough([failing('queue_full', 429, true, { 'retry-after': at })]);
    const { retryAfterSeconds = 0 } = await errorOf(createClient({ url, key: 'k' }).credits());
    expect(retryAfterSeconds).toBeGreaterThan(30);
    expect(retryAfterSeconds).toBeLessThanOrEqual(60);
  });
});

describe('what is sent', () => {
  it('carries the key, below the path of the address, and no key with a download', async () => {
    const { url, asked } = await startRough([json({ data: [], next_cursor: null }), page(200)]);
    const client = createClient({ url: `${url}/darkroom/`, key: 'dk_1' });
    await client.list({ metadata: { 'a b': 'c&d' }, limit: 2 });
    await client.download(`${url}/file`);
    expect(asked.map((a) => [a.method, a.path, a.headers.authorization])).toEqual([
      ['GET', '/darkroom/v1/generations?metadata.a+b=c%26d&limit=2', 'Bearer dk_1'],
      ['GET', '/file', undefined],
    ]);
  });

  it('reads lists of models to their end', async () => {
    const first = { data: [{ id: 'a' }], next_cursor: 'next', catalog: {} };
    const { url, asked } = await startRough([json(first), json({ data: [{ id: 'b' }], next_cursor: null })]);
    expect((await createClient({ url, key: 'k' }).models()).map((m) => m.id)).toEqual(['a', 'b']);
    expect(asked.map((a) => a.path)).toEqual(['/v1/models?limit=100', '/v1/models?limit=100&cursor=next']);
  });

  it('goes through the fetch that was given', async () => {
    const seen: string[] = [];
    const fetch: typeof globalThis.fetch = async (input) => {
      seen.push(String(input));
      return Response.json(done());
    };
    expect((await createClient({ url: 'http://there', key: 'k', fetch }).get('gen_1', { wait: 5 })).id).toBe('gen_1');
    expect(seen).toEqual(['http://there/v1/generations/gen_1?wait=5']);
  });

  it('keeps an id in its place', async () => {
    const { url, asked } = await startRough([json(done())]);
    await createClient({ url, key: 'k' }).get('../admin?x=1');
    expect(asked[0]?.path).toBe('/v1/generations/..%2Fadmin%3Fx%3D1');
  });

  it.each(['not a url', 'ftp://there', ''])('is nothing when the address is "%s"', (url) => {
    expect(() => createClient({ url, key: 'k' })).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });

  it('is taken back by an abort, with its reason', async () => {
    const abort = new AbortController();
    const { url } = await startRough([() => abort.abort('enough')]);
    await expect(createClient({ url, key: 'k' }).credits({ signal: abort.signal })).rejects.toBe('enough');
    await expect(createClient({ url, key: 'k' }).credits({ signal: abort.signal })).rejects.toBe('enough');
  });
});

describe('generate, when answers are lost', () => {
  it('asks again under one key until it has one', async () => {
    const { url, asked } = await startRough([
      drop,
      cut,
      truncated,
      failing('shutting_down', 503, true, { 'retry-after': '12' }),
      json(done()),
    ]);
    const { sleep, waits } = recordedSleep();
    const g = await createClient({ url, key: 'k', sleep }).generate({ prompt: 'x' });
    expect(g.status).toBe('succeeded');
    const keys = asked.map((a) => (JSON.parse(a.body) as { idempotency_key: string }).idempotency_key);
    expect(keys).toHaveLength(5);
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toMatch(/^client-[0-9a-f]{32}$/);
    for (const [n, least] of [850, 1700, 3400].entries()) {
      expect(waits[n]).toBeGreaterThanOrEqual(least);
      expect(waits[n]).toBeLessThanOrEqual((least / 0.85) * 1.15);
    }
    expect(waits[3]).toBe(12_000);
  });

  it('gives up after a few, with what was wrong', async () => {
    const { url, asked } = await startRough([drop]);
    const { sleep } = recordedSleep();
    const error = await errorOf(createClient({ url, key: 'k', sleep }).generate({ prompt: 'x' }));
    expect(error).toMatchObject({ code: 'unreachable', retryable: true });
    expect(asked).toHaveLength(6);
  });

  it.each([
    ['a request that is wrong', failing('invalid_request', 422, false)],
    ['a workspace without credits', failing('insufficient_credits', 402, false)],
    ['a fleet that cannot', failing('no_capable_node', 503, true, { 'retry-after': '5' })],
  ])('does not ask again for %s', async (_, behaviour) => {
    const { url, asked } = await startRough([behaviour]);
    const { sleep } = recordedSleep();
    await errorOf(createClient({ url, key: 'k', sleep }).generate({ prompt: 'x' }));
    expect(asked).toHaveLength(1);
  });

  it("uses the caller's key and its own of each call never twice", async () => {
    const { url, asked } = await startRough([json(done())]);
    const client = createClient({ url, key: 'k' });
    await client.generate({ prompt: 'x', idempotency_key: 'mine' });
    await client.generate({ prompt: 'x' });
    await client.generate({ prompt: 'x' });
    const keys = asked.map((a) => (JSON.parse(a.body) as { idempotency_key: string }).idempotency_key);
    expect(keys[0]).toBe('mine');
    expect(new Set(keys).size).toBe(3);
  });

  it('spreads its polls when several run, and not when one does', async () => {
    const running = json({ ...done(), status: 'running', estimated_seconds: 9 });
    const alone = recordedSleep();
    const one = await startRough([running, json(done())]);
    await createClient({ url: one.url, key: 'k', sleep: alone.sleep }).generate({ prompt: 'x' });
    expect(alone.waits).toEqual([9_000]);
    const many = recordedSleep();
    const { url } = await startRough([running, running, running, json(done())]);
    const client = createClient({ url, key: 'k', sleep: many.sleep });
    await Promise.all([1, 2, 3].map(() => client.generate({ prompt: 'x' })));
    expect(many.waits.slice(0, 3).filter((ms) => ms === 9_000)).toEqual([]);
    for (const ms of many.waits.slice(0, 3)) expect(ms / 9_000).toBeCloseTo(1, 0);
  });
});

// Results going out by signed link, pictures coming in.

import { randomBytes } from 'node:crypto';
import http from 'node:http';
import { describe, expect, it } from 'vitest';
import { GatewayError } from '../../src/domain/failure.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { ADMIN_KEY, FILE, NOW, sha256 } from './fake-gateway.ts';
import { type Served, served } from './served.ts';

const MEGABYTE = 1024 * 1024;
const DAY = NOW / 1000 + 86_400;

describe('outputs', () => {
  const linked = async () => {
    const s = await served();
    const { id } = (await s.call('/v1/generations', { body: {} })).json<{ id: string }>();
    const path = `/v1/outputs/${id}/0?expires=${DAY}&signature=signed`;
    const get = async (headers: Record<string, string> = {}, method = 'GET', from = path) => {
      const response = await fetch(s.url + from, { headers, method });
      return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
    };
    return { s, id, path, get };
  };

  it('serves the file without a key, named, typed, cacheable until the link ends', async () => {
    const { get, id } = await linked();
    const whole = await get();
    expect(whole.status).toBe(200);
    expect(whole.bytes.equals(FILE)).toBe(true);
    expect(Object.fromEntries(whole.headers)).toMatchObject({
      'content-type': 'image/png',
      'content-length': '1000',
      'content-disposition': `inline; filename="${id}-0.png"`,
      'x-content-type-options': 'nosniff',
      'accept-ranges': 'bytes',
      'cache-control': 'private, max-age=86400, immutable',
      etag: `"${sha256(FILE)}"`,
    });
  });

  it('answers HEAD with the same headers and no body', async () => {
    const { get } = await linked();
    const head = await get({}, 'HEAD');
    expect(head.status).toBe(200);
    expect(head.headers.get('content-length')).toBe('1000');
    expect(head.bytes.length).toBe(0);
  });

  it('serves thumbnails', async () => {
    const { get, id } = await linked();
    const small = await get({}, 'GET', `/v1/outputs/${id}/0/thumbnail?expires=${DAY}&signature=signed`);
    expect(small.status).toBe(200);
    expect(small.headers.get('content-disposition')).toBe(`inline; filename="${id}-0-thumbnail.webp"`);
  });

  it.each([
    ['bytes=0-99', 0, 99],
    ['bytes=900-', 900, 999],
    ['bytes=-10', 990, 999],
    ['bytes=990-5000', 990, 999],
  ])('serves %s alone', async (range, start, end) => {
    const { get } = await linked();
    const part = await get({ range });
    expect(part.status).toBe(206);
    expect(part.headers.get('content-range')).toBe(`bytes ${start}-${end}/1000`);
    expect(part.bytes.equals(FILE.subarray(start, end + 1))).toBe(true);
  });

  it.each(['bytes=0-1,5-6', 'lines=1-2', 'bytes=x'])('serves the whole for %s', async (range) => {
    const { get } = await linked();
    expect(await get({ range })).toMatchObject({ status: 200, bytes: FILE });
  });

  it('answers a range outside the file with 416 and its size', async () => {
    const { get } = await linked();
    const outside = await get({ range: 'bytes=1000-' });
    expect(outside.status).toBe(416);
    expect(outside.headers.get('content-range')).toBe('bytes */1000');
    expect(JSON.parse(outside.bytes.toString()).error.code).toBe('invalid_request');
  });

  it('honours If-None-Match and If-Range', async () => {
    const { get } = await linked();
    const etag = `"${sha256(FILE)}"`;
    expect((await get({ 'if-none-match': etag })).status).toBe(304);
    expect((await get({ 'if-none-match': `W/${etag}` })).status).toBe(304);
    expect((await get({ 'if-none-match': '"other"' })).status).toBe(200);
    expect((await get({ range: 'bytes=0-1', 'if-range': etag })).status).toBe(206);
    expect((await get({ range: 'bytes=0-1', 'if-range': '"older"' })).status).toBe(200);
  });

  it.each([
    `expires=${DAY}&signature=forged`,
    `expires=${DAY}`,
    'signature=signed',
    `expires=soon&signature=signed`,
    `expires=${NOW / 1000 - 1}&signature=signed`,
    '',
  ])('refuses the link %j with 403', async (query) => {
    const { get, id } = await linked();
    const refused = await get({}, 'GET', `/v1/outputs/${id}/0?${query}`);
    expect(refused.status).toBe(403);
    expect(JSON.parse(refused.bytes.toString()).error.code).toBe('forbidden');
  });

  it('is 404 for a swept file and an index that is none', async () => {
    const { get, id, s } = await linked();
    expect((await get({}, 'GET', `/v1/outputs/${id}/x?expires=${DAY}&signature=signed`)).status).toBe(404);
    s.gateway.swept = true;
    expect((await get()).status).toBe(404);
  });
});

describe('uploads', () => {
  const picture = randomBytes(300_000);
  const uploaded = (s: Served) => s.gateway.uploaded[0] as Buffer;

  it('takes the raw bytes', async () => {
    const s = await served();
    const reply = await s.call('/v1/uploads', { raw: picture, headers: { 'content-type': 'image/png' } });
    expect(reply.status).toBe(201);
    expect(reply.json()).toMatchObject({
      id: 'upl_01HWX2K8Y4N5R7P9Q1B3T6V8M0',
      media_type: 'image/png',
      bytes: 300_000,
      expires_at: '2026-05-01T09:17:42Z',
    });
    expect(uploaded(s).equals(picture)).toBe(true);
  });

  it('takes the first file of a form, among other fields', async () => {
    const s = await served();
    const form = new FormData();
    form.set('note', 'a reference');
    form.set('image', new Blob([picture], { type: 'image/png' }), 'a.png');
    form.set('second', new Blob([randomBytes(2000)]), 'b.png');
    expect((await s.call('/v1/uploads', { raw: form })).status).toBe(201);
    expect(uploaded(s).equals(picture)).toBe(true);
  });

  it('refuses a form without a file, a broken one, and one without a boundary', async () => {
    const s = await served();
    const form = new FormData();
    form.set('note', 'no file');
    expect((await s.call('/v1/uploads', { raw: form })).status).toBe(422);
    const multipart = 'multipart/form-data; boundary=b';
    const broken = '--b\r\ncontent-disposition: form-data; name="f"; filename="a.png"\r\n\r\nhalf of';
    const part = await s.call('/v1/uploads', { raw: broken, headers: { 'content-type': multipart } });
    expect(part.status).toBe(422);
    expect(part.error.code).toBe('invalid_request');
    const none = await s.call('/v1/uploads', { raw: 'x', headers: { 'content-type': 'multipart/form-data' } });
    expect(none.status).toBe(422);
    expect(s.gateway.uploaded.length).toBe(0);
  });

  const endless = (total: number) => {
    let sent = 0;
    return new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(MEGABYTE));
        sent += MEGABYTE;
        if (sent >= total) controller.close();
      },
    });
  };

  it('refuses more than 64 MB with 413: announced, streamed, or inside a form', async () => {
    const s = await served();
    const announced = await s.call('/v1/uploads', { raw: new Uint8Array(65 * MEGABYTE) });
    expect(announced.status).toBe(413);
    expect((await s.call('/v1/uploads', { raw: endless(70 * MEGABYTE) })).status).toBe(413);
    const head = '--b\r\ncontent-disposition: form-data; name="f"; filename="a.png"\r\n\r\n';
    const form = new Blob([head, new Uint8Array(70 * MEGABYTE), '\r\n--b--\r\n']).stream();
    const inForm = await s.call('/v1/uploads', {
      raw: form,
      headers: { 'content-type': 'multipart/form-data; boundary=b' },
    });
    expect(inForm.status).toBe(413);
    expect(inForm.error.code).toBe('too_large');
    expect(s.gateway.uploaded.length).toBe(0);
  });

  describe('of a form that breaks', () => {
    const head = '--b\r\ncontent-disposition: form-data; name="f"; filename="a.png"\r\n\r\n';
    const headers = { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'multipart/form-data; boundary=b' };
    const started = (s: Served) => {
      const request = http.request(`${s.url}/v1/uploads`, { method: 'POST', headers });
      const answer = new Promise<{ status: number | undefined; code: string }>((resolve, reject) => {
        request.on('error', reject).on('response', (response) => {
          response.toArray().then((chunks) => {
            const code = JSON.parse(Buffer.concat(chunks).toString()).error.code;
            resolve({ status: response.statusCode, code });
          }, reject);
        });
      });
      return { request, answer };
    };
    const invalid = { status: 422, code: 'invalid_request' };
    const alive = async (s: Served) => expect((await s.call('/healthz')).status).toBe(200);

    it('answers 422 when it ends before anybody reads', async () => {
      const s = await served();
      const { promise, resolve } = Promise.withResolvers<void>();
      s.gateway.uploadsFrom = promise;
      const { request, answer } = started(s);
      request.end(`${head}half of`);
      await settle(50);
      resolve();
      expect(await answer).toEqual(invalid);
      await alive(s);
    });

    it('goes on when it ends after its reader has let go', async () => {
      const s = await served();
      s.gateway.failWith.upload = new GatewayError('invalid_request', 'This is not a picture.');
      const { request, answer } = started(s);
      request.write(`${head}half of`);
      expect(await answer).toEqual(invalid);
      await new Promise<void>((resolve) => request.end('a picture', resolve));
      await settle(50);
      await alive(s);
    });

    it('answers 413 to too much without an end', async () => {
      const s = await served();
      const { request, answer } = started(s);
      request.write(head);
      request.end(Buffer.alloc(64 * MEGABYTE + 30_000));
      expect(await answer).toEqual({ status: 413, code: 'too_large' });
      await alive(s);
    });

    it('answers 422 to part headers that are none, while more is to come', async () => {
      const s = await served();
      const { request, answer } = started(s);
      request.write(`\r\n--b\r\n\0: 1\r\n\r\n\r\n--b\r\n\0: 1\r\n\r\n`);
      expect(await answer).toEqual(invalid);
      request.destroy();
      await alive(s);
    });

    it('goes on when its sender goes away', async () => {
      const s = await served();
      const { request, answer } = started(s);
      request.write(`${head}half of`);
      await until(() => s.gateway.seen.uploading, 'the reading');
      request.destroy();
      await expect(answer).rejects.toThrow();
      await settle(50);
      await alive(s);
    });
  });

  it('passes on what the sniffing says, before everything was sent', async () => {
    const s = await served();
    s.gateway.failWith.upload = new GatewayError('invalid_request', 'This is not a picture.');
    const reply = await s.call('/v1/uploads', { raw: endless(8 * MEGABYTE) });
    expect(reply.status).toBe(422);
    expect(reply.error.message).toBe('This is not a picture.');
  });

  it('keeps the connection usable after refusing a form half-way', async () => {
    const s = await served();
    s.gateway.failWith.upload = new GatewayError('invalid_request', 'This is not a picture.');
    const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
    const head = '--b\r\ncontent-disposition: form-data; name="f"; filename="a.png"\r\n\r\n';
    const body = Buffer.concat([Buffer.from(head), Buffer.alloc(8 * MEGABYTE), Buffer.from('\r\n--b--\r\n')]);
    const type = { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'multipart/form-data; boundary=b' };
    const ask = (method: string, path: string, sent?: Buffer) =>
      new Promise<{ status: number | undefined; from: number | undefined }>((resolve, reject) => {
        const request = http.request(s.url + path, { agent, method, headers: type }, (response) => {
          const from = response.socket.localPort;
          response.resume().on('end', () => resolve({ status: response.statusCode, from }));
        });
        request.on('error', reject).end(sent);
      });
    const refused = await ask('POST', '/v1/uploads', body);
    expect(refused.status).toBe(422);
    expect(await ask('GET', '/healthz')).toEqual({ status: 200, from: refused.from });
    agent.destroy();
  });
});

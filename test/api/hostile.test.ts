// What arrives that should not: wrong paths and methods, broken and endless bodies, lies in headers.

import { once } from 'node:events';
import net from 'node:net';
import { describe, expect, it, vi } from 'vitest';
import { GatewayError } from '../../src/domain/failure.ts';
import { until } from '../harness/manual-clock.ts';
import { ADMIN_KEY, NOW } from './fake-gateway.ts';
import { type Served, served } from './served.ts';

const MEGABYTE = 1024 * 1024;

describe('paths and methods', () => {
  it.each(['/', '/v2/generations', '/v1/generations/a/b/c', '/v1', '/favicon.ico'])(
    '%s is 404 as JSON',
    async (path) => {
      const s = await served();
      const reply = await s.call(path);
      expect(reply.status).toBe(404);
      expect(reply.error).toMatchObject({ code: 'not_found', request_id: reply.headers.get('x-request-id') });
    },
  );

  it.each([
    ['PUT', '/v1/generations', 'GET, HEAD, POST'],
    ['DELETE', '/v1/generations/gen_x', 'GET, HEAD'],
    ['GET', '/v1/generations/gen_x/cancel', 'POST'],
    ['PATCH', '/v1/nodes/rack-1', 'DELETE'],
    ['POST', '/healthz', 'GET, HEAD'],
    ['OPTIONS', '/v1/credits', 'GET, HEAD'],
  ])('%s %s is 405 and names what is allowed', async (method, path, allow) => {
    const s = await served();
    const reply = await s.call(path, { method });
    expect(reply.status).toBe(405);
    expect(reply.headers.get('allow')).toBe(allow);
    expect(reply.error.code).toBe('not_found');
  });
});

describe('bodies', () => {
  const post = async (raw: string | Uint8Array<ArrayBuffer>, headers = {}) => {
    const s = await served();
    const reply = await s.call('/v1/generations', { raw, headers: { 'content-type': 'application/json', ...headers } });
    return { reply, stored: s.gateway.generations.size };
  };

  it.each([
    ['{"prompt": nope}', 12],
    ['{"prompt": "a",}', 15],
    ['[,]', 1],
    ['nope', 1],
    ['{"prompt": "a"', 14],
    ['{"prompt": "a" "b"}', 15],
    [`{"metadata": {${'"a": 1, '.repeat(5000)} x}}`, 40015],
  ])('malformed JSON is 400 with its position', async (raw, position) => {
    const { reply } = await post(raw);
    expect(reply.status).toBe(400);
    expect(reply.error.code).toBe('invalid_request');
    expect(reply.error.message).toContain(`at position ${position}.`);
  });

  it.each([
    ['{"steps": "many"}', 'steps'],
    ['{"seed": 9007199254740993}', 'seed'],
    ['{"seed": -1}', 'seed'],
    ['{"seed": 1e400}', 'seed'],
    ['{"n": 0}', 'n'],
    ['{"n": 1.5}', 'n'],
    ['{"colour": 1, "prompt": "a"}', 'colour'],
    ['{"output": {"format": "bmp"}}', 'output.format'],
    ['{"output": {"dpi": 3}}', 'output.dpi'],
    ['{"loras": [{"name": "a"}, {"strength": 1}]}', 'loras.1.name'],
    ['{"init_image": "file:///etc/passwd"}', 'init_image'],
    ['{"metadata": {"a": null}}', 'metadata.a'],
    ['{"max_credits": 0.0001}', 'max_credits'],
    ['{"__proto__": {"admin": true}}', '__proto__'],
    ['[1, 2]', ''],
    ['"text"', ''],
    ['null', ''],
    [`${'['.repeat(200_000)}${']'.repeat(200_000)}`, ''],
    [`{"inputs": {"a": ${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}}`, 'inputs'],
    ['{"metadata": {"a": "b", "__proto__": "c"}}', 'metadata.__proto__'],
    ['{"inputs": {"\\u005f_proto__": {"a": 1}}}', 'inputs.__proto__'],
  ])('%.60s is 422 naming the place', async (raw, path) => {
    const { reply, stored } = await post(raw);
    expect(reply.status).toBe(422);
    expect(reply.error.code).toBe('invalid_request');
    expect(reply.error.details?.map((d) => d.path)).toContain(path);
    expect(stored).toBe(0);
  });

  it('takes JSON for JSON whatever its type says, and no body for an empty request', async () => {
    expect((await post('{"prompt": "a"}', { 'content-type': 'text/plain' })).reply.status).toBe(202);
    expect((await post('', { 'content-type': 'application/x-www-form-urlencoded' })).reply.status).toBe(202);
  });

  it('names no more places than a person reads, however many are wrong', async () => {
    const fields = Array.from({ length: 5_000 }, (_, i) => `"f${i}": 1`).join(', ');
    const { reply } = await post(`{${fields}, "${'x'.repeat(100_000)}": 1}`);
    expect(reply.status).toBe(422);
    expect(reply.error.details?.length).toBe(100);
    expect(reply.text.length).toBeLessThan(20_000);
  });

  describe('with more structure than any request needs', () => {
    const MANY = 1_000_000;
    it.each([
      ['metadata', `{"prompt": "a", "metadata": {${'"k": 1,'.repeat(MANY)} "z": 1}}`],
      ['loras', `{"loras": [${'{},'.repeat(MANY)} {}]}`],
      ['inputs', `{"metadata": {"a": "]}\\""}, "inputs": [${'[],'.repeat(MANY)} []]}`],
      ['', `{${Array.from({ length: MANY }, (_, i) => `"f${i}": 1`).join()}}`],
      ['', `[${'1,'.repeat(MANY)} 1]`],
      ['', `[${'1,'.repeat(MANY)}`],
    ])('%s is refused before it is parsed', async (path, raw) => {
      const parse = vi.spyOn(JSON, 'parse');
      const { reply } = await post(raw);
      const texts = parse.mock.calls.map(([text]) => text.length);
      parse.mockRestore();
      expect(reply.status).toBe(422);
      expect(reply.error.details).toEqual([{ path, message: 'more than 10000 fields and items in the request' }]);
      expect(Math.max(0, ...texts)).toBeLessThan(MEGABYTE);
    });

    it('takes what looks like structure inside of text for text', async () => {
      const prompt = '[{"a\\":,'.repeat(1_000);
      const metadata = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`{"${i}`, '[,'.repeat(200)]));
      const { reply } = await post(JSON.stringify({ prompt, metadata }));
      expect(reply.status).toBe(202);
    });

    it('takes 32 levels and no more', async () => {
      const nested = (levels: number) => `${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}`;
      const refused = await post(`{"inputs": ${nested(33)}}`);
      expect(refused.reply.error.details).toEqual([{ path: 'inputs', message: 'nested deeper than 32 levels' }]);
      const taken = await post(`{"inputs": ${nested(32)}}`);
      expect(taken.reply.error.details?.[0]?.message).not.toContain('nested');
    });
  });

  it('takes UTF-8 only', async () => {
    const { reply } = await post('{}', { 'content-type': 'application/json; charset=utf-16le' });
    expect(reply.status).toBe(422);
    expect(reply.error.message).toBe('Expected the body in UTF-8.');
  });

  it('refuses 100 MB with 413, announced or not', async () => {
    const big = new Uint8Array(100 * MEGABYTE).fill(0x20);
    const announced = await post(big);
    expect(announced.reply.status).toBe(413);
    expect(announced.reply.error.code).toBe('too_large');
    const s = await served();
    const stream = new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(MEGABYTE).fill(0x20));
        if (++sent === 100) controller.close();
      },
    });
    let sent = 0;
    const streamed = await s.call('/v1/generations', { raw: stream });
    expect(streamed.status).toBe(413);
  });

  it('refuses an encoding it does not know', async () => {
    const { reply } = await post('{}', { 'content-encoding': 'rot13' });
    expect(reply.status).toBe(400);
    expect(reply.error.code).toBe('invalid_request');
  });
});

describe('connections', () => {
  /** Sends bytes as they are and returns everything that comes back until the end. */
  const raw = (port: number, bytes: string) =>
    new Promise<string>((resolve, reject) => {
      const socket = net.connect(port, '127.0.0.1', () => socket.end(bytes));
      let text = '';
      socket.setEncoding('utf8').on('data', (chunk) => {
        text += chunk;
      });
      socket.on('end', () => resolve(text)).on('error', reject);
    });
  const request = (host: string, more = '') =>
    `GET /v1/generations HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${ADMIN_KEY}\r\n${more}Connection: close\r\n\r\n`;

  describe('once it has refused a request whose body goes on', () => {
    /** Sends a request's head and reads its answer; whatever is written next belongs to the body. */
    const refused = async (s: Served, path: string, head = '', key = ADMIN_KEY) => {
      const socket = net.connect(s.port, '127.0.0.1');
      const closed = new Promise<void>((resolve) => socket.on('error', () => {}).on('close', () => resolve()));
      const more = `Host: a\r\nAuthorization: Bearer ${key}\r\nTransfer-Encoding: chunked\r\n${head}`;
      socket.write(`POST ${path} HTTP/1.1\r\n${more}\r\n1\r\n[\r\n`);
      const [answer] = await once(socket, 'data');
      return { socket, closed, answer: String(answer) };
    };
    const gif = 'Content-Type: image/gif\r\n';

    it.each([
      ['/v1/generations', '', 'dk_wrong', 401],
      ['/v1/nothing', '', ADMIN_KEY, 404],
      ['/v1/credits', '', ADMIN_KEY, 405],
      ['/v1/uploads', gif, ADMIN_KEY, 422],
    ])('%s hangs up on one that takes long', async (path, head, key, status) => {
      const s = await served();
      s.gateway.failWith.upload = new GatewayError('invalid_request', 'This is not a picture.');
      const { socket, closed, answer } = await refused(s, path, head, key);
      expect(answer).toMatch(new RegExp(`^HTTP/1.1 ${status} `));
      await until(() => s.clock.pending > 0, 'the patience');
      await s.clock.advance(4_000);
      expect(socket.readyState).toBe('open');
      await s.clock.advance(1_000);
      await closed;
    });

    it('hangs up on one that sends much more', async () => {
      const s = await served();
      const { socket, closed } = await refused(s, '/v1/generations', '', 'dk_wrong');
      const chunk = `${MEGABYTE.toString(16)}\r\n${'x'.repeat(MEGABYTE)}\r\n`;
      for (let i = 0; i < 15; i++) await new Promise((resolve) => socket.write(chunk, resolve));
      await s.clock.advance(200);
      expect(socket.readyState).toBe('open');
      for (let i = 0; i < 32; i++) socket.write(chunk);
      await until(async () => {
        if (s.clock.now() < NOW + 4_000) await s.clock.advance(10);
        return socket.destroyed;
      }, 'the end');
      expect(s.clock.now()).toBeLessThan(NOW + 4_000);
      await closed;
    });

    it('takes the next one once the body ends', async () => {
      const s = await served();
      const { socket } = await refused(s, '/v1/generations', '', 'dk_wrong');
      socket.write(`0\r\n\r\n${request('a')}`);
      const [next] = await once(socket, 'data');
      expect(String(next)).toMatch(/^HTTP\/1\.1 200 /);
    });

    it('answers too much JSON before its end', async () => {
      const s = await served();
      const socket = net.connect(s.port, '127.0.0.1').on('error', () => {});
      socket.write(request('a', 'Transfer-Encoding: chunked\r\n').replace('GET', 'POST'));
      socket.write(`${(40 * MEGABYTE).toString(16)}\r\n${' '.repeat(33 * MEGABYTE)}`);
      const [answer] = await once(socket, 'data');
      expect(String(answer)).toMatch(/^HTTP\/1\.1 413 [\s\S]*"too_large"/);
      socket.destroy();
    });
  });

  it('answers what is not HTTP with 400 and hangs up', async () => {
    const s = await served();
    expect(await raw(s.port, 'hello\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    expect((await s.call('/healthz')).status).toBe(200);
  });

  it('answers too many header bytes with 431', async () => {
    const s = await served();
    expect(await raw(s.port, request('a', `X-Big: ${'x'.repeat(20_000)}\r\n`))).toMatch(/^HTTP\/1\.1 431 /);
  });

  it('does not make links from a Host that is none', async () => {
    const s = await served();
    expect(await raw(s.port, request('evil"><script>'))).toMatch(/^HTTP\/1\.1 4(00|22) /);
    expect(await raw(s.port, request('studio.local:8787'))).toMatch(/^HTTP\/1\.1 200 /);
    expect(await raw(s.port, request('[::1]:8787'))).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('answers a client that offers HTTP/2 on the side in HTTP/1.1', async () => {
    const s = await served();
    expect(await raw(s.port, request('a', 'Upgrade: h2c\r\n').replace('close', 'Upgrade'))).toMatch(/^HTTP\/1\.1 200 /);
  });
});

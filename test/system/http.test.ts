import { once } from 'node:events';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { createHttp, HttpError } from '../../src/system/http.ts';

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

async function serve(handler: RequestListener): Promise<number> {
  const server = createServer(handler).listen(0, '127.0.0.1');
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

const open = createHttp({ allowPrivate: ['127.0.0.0/8', '::1'] });
const strict = createHttp({ allowPrivate: [] });
const kind = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    (e: unknown) => (e instanceof HttpError ? e.kind : e),
  );

describe('what a caller names may reach the public internet only', () => {
  const tricks = [
    'http://127.0.0.1/',
    'http://localhost/',
    'http://sub.localhost/',
    'http://2130706433/',
    'http://0x7f000001/',
    'http://017700000001/',
    'http://127.1/',
    'http://0.0.0.0/',
    'http://[::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[::ffff:7f00:1]/',
    'http://10.0.0.1/',
    'http://172.16.0.1/',
    'http://192.168.1.1/',
    'http://169.254.169.254/latest/meta-data/',
    'http://100.64.0.1/',
    'http://[fd00::1]/',
    'http://[fe80::1]/',
    'http://[::]/',
    'http://[2002:7f00:1::]/',
    'http://user:pass@example.com/',
    'ftp://example.com/',
    'file:///etc/passwd',
  ];
  for (const url of tricks) {
    it(`refuses ${url}`, async () =>
      expect(await kind(strict.request(url, { trust: 'public' }))).toBe('refused_address'));
  }
  it('refuses a name that resolves to a private address, at the connection', async () => {
    const port = await serve((_q, r) => r.end('secret'));
    const { guardedLookup, publicAddress } = await import('../../src/system/addresses.ts');
    const answer = await new Promise((resolve) =>
      guardedLookup(publicAddress([]))('localhost', {}, (error) => resolve(error?.code)),
    );
    expect(answer).toBe('EREFUSEDADDRESS');
    expect(await kind(open.request(`http://127.0.0.1:${port}/`, { trust: 'public' }))).toBe('answered');
  });
});

describe('a node', () => {
  it('may be private, but never link-local or a metadata address', async () => {
    const port = await serve((_q, r) => r.end('ok'));
    expect(await kind(strict.request(`http://127.0.0.1:${port}/`, { trust: 'node' }))).toBe('answered');
    for (const url of [
      'http://169.254.169.254/',
      'http://[fe80::1]/',
      'http://224.0.0.1/',
      'http://[fd00:ec2::254]/',
    ]) {
      expect(await kind(strict.request(url, { trust: 'node' }))).toBe('refused_address');
    }
  });
});

describe('every request', () => {
  it('never follows a redirect', async () => {
    const port = await serve((_q, r) => r.writeHead(302, { location: 'http://169.254.169.254/' }).end());
    expect(await kind(open.request(`http://127.0.0.1:${port}/`, { trust: 'node' }))).toBe('redirect');
  });
  it('is cut off beyond its size, also when the server does not say how large it is', async () => {
    const port = await serve((_q, r) => {
      for (let i = 0; i < 64; i++) r.write(Buffer.alloc(65_536));
      r.end();
    });
    const response = await open.request(`http://127.0.0.1:${port}/`, { trust: 'node', maxBytes: 1_000_000 });
    expect(await kind(response.bytes())).toBe('too_large');
  });
  it('ends when its time is over, in the middle of a body too', async () => {
    const port = await serve((_q, r) => void r.write('a'));
    const response = await open.request(`http://127.0.0.1:${port}/`, { trust: 'node', timeoutMs: 50 });
    expect(await kind(response.text())).toBe('timeout');
  });
  it('tells a server that was never reached from one that hung up', async () => {
    const port = await serve((q) => q.socket.destroy());
    expect(await kind(open.request(`http://127.0.0.1:${port}/`, { trust: 'node' }))).toBe('cut');
    for (const close of closers.splice(0)) close();
    expect(await kind(open.request(`http://127.0.0.1:${port}/`, { trust: 'node' }))).toBe('unsent');
  });
  it('never reached a server that speaks no TLS', async () => {
    const port = await serve(() => {});
    const asked = open.request(`https://127.0.0.1:${port}/`, { trust: 'node', method: 'POST', body: 'x' });
    expect(await kind(asked)).toBe('unsent');
  });
  it.each([
    ['EHOSTUNREACH', 'connect', 'unsent'],
    ['EHOSTUNREACH', 'read', 'cut'],
    ['ENETUNREACH', 'write', 'cut'],
    ['ECONNABORTED', 'write', 'cut'],
    ['CERT_HAS_EXPIRED', undefined, 'unsent'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', undefined, 'unsent'],
    ['ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC', undefined, 'cut'],
  ])('tells %s of %s from what it would be elsewhere: %s', async (code, syscall, expected) => {
    const port = await serve(() => {});
    const body = Readable.from(
      (async function* () {
        yield 'half';
        throw Object.assign(new Error(code), { code, syscall });
      })(),
    );
    expect(await kind(open.request(`http://127.0.0.1:${port}/`, { trust: 'node', method: 'POST', body }))).toBe(
      expected,
    );
  });
  it('rethrows the reason of an abort', async () => {
    const port = await serve(() => {});
    const reason = new Error('cancelled');
    const controller = new AbortController();
    const answer = open.request(`http://127.0.0.1:${port}/`, { trust: 'node', signal: controller.signal });
    controller.abort(reason);
    await expect(answer).rejects.toBe(reason);
  });
  it('sends no browser headers', async () => {
    let seen: object = {};
    const port = await serve((q, r) => {
      seen = q.headers;
      r.end();
    });
    await (await open.request(`http://127.0.0.1:${port}/`, { trust: 'node' })).text();
    expect(Object.keys(seen).filter((h) => /^(origin|referer|sec-fetch|cookie)/.test(h))).toEqual([]);
  });
});

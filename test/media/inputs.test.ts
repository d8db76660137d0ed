import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { dataUrlToStream, fetchInput } from '../../src/media/media.ts';
import { createSystem } from '../../src/system/system.ts';
import { realSystem } from '../harness/system.ts';
import { read, refusal } from './fixtures/room.ts';

const { signal } = new AbortController();

describe('a data: URL', () => {
  test('gives its bytes, however many pieces they come in', async () => {
    for (const size of [0, 1, 2, 3, 1_000_001]) {
      const bytes = Buffer.alloc(size, 'picture');
      expect(await read(Promise.resolve(dataUrlToStream(`data:image/png;base64,${bytes.toString('base64')}`)))).toEqual(
        bytes,
      );
    }
  });

  test.each(['data:image/png,plain', 'data:', 'data:image/png;base64', `data:${'x'.repeat(300)};base64,AAAA`])(
    'must be base64: %s',
    async (url) => {
      expect(await refusal((async () => dataUrlToStream(url))())).toMatchObject({ code: 'invalid_request' });
    },
  );

  test('with rubbish in it is refused while it is read', async () => {
    const stream = dataUrlToStream('data:image/png;base64,AAAA!!!!');
    expect(await refusal(read(Promise.resolve(stream)))).toMatchObject({ code: 'invalid_request' });
  });

  test('beyond 64 MB is refused at once', async () => {
    const url = `data:image/png;base64,${'A'.repeat(90 * 1024 * 1024)}`;
    expect(await refusal((async () => dataUrlToStream(url))())).toMatchObject({ code: 'too_large' });
  });
});

async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/secret-path`;
}

describe('an input fetched by URL', () => {
  const { http } = realSystem();

  test('arrives as a stream', async () => {
    const url = await serve((_request, response) => response.end('bytes'));
    expect((await read(fetchInput(http, url, signal))).toString()).toBe('bytes');
  });

  test.each<[string, string, string, RequestListener]>([
    ['an error', 'unsupported_input', 'answered 404', (_q, r) => r.writeHead(404).end()],
    [
      'a redirect',
      'unsupported_input',
      'redirect',
      (_q, r) => r.writeHead(302, { location: 'http://10.0.0.1/' }).end(),
    ],
    [
      'a broken body',
      'unsupported_input',
      'broke off',
      (_q, r) => {
        r.writeHead(200, { 'content-length': 100 });
        r.write('half', () => r.destroy());
      },
    ],
  ])('is refused at %s, without naming the address', async (_name, code, says, listener) => {
    const url = await serve(listener);
    const refused = await refusal(read(fetchInput(http, url, signal)));
    expect(refused).toMatchObject({ code, message: expect.stringContaining(says) });
    expect(refused.message).not.toMatch(/127|secret-path|10\.0/);
  });

  test('is refused beyond 64 MB', async () => {
    const megabyte = Buffer.alloc(1024 * 1024);
    const url = await serve((_request, response) => {
      const more = () => {
        while (!response.destroyed && response.write(megabyte));
      };
      response.on('drain', more);
      more();
    });
    const refused = await refusal(
      (async () => {
        for await (const _ of await fetchInput(http, url, signal));
      })(),
    );
    expect(refused.code).toBe('too_large');
  });

  test('is refused when its address is private', async () => {
    const url = await serve((_request, response) => response.end('internal'));
    const guarded = createSystem({ level: 'silent', allowPrivate: [] }).http;
    expect(await refusal(fetchInput(guarded, url, signal))).toMatchObject({ code: 'invalid_request' });
  });
});

// Where a key may go, and where a picture may come from, at the providers' real addresses: HTTP answers from a script and
// notes what it was asked, since no stand-in can be at https://api.bfl.ai.

import { describe, expect, it } from 'vitest';
import { bfl } from '../../src/backends/bfl/provider.ts';
import { connectAccount } from '../../src/backends/hosted/account.ts';
import { createFiles } from '../../src/backends/hosted/files.ts';
import type { Provider } from '../../src/backends/hosted/provider.ts';
import { replicate } from '../../src/backends/replicate/provider.ts';
import type { GatewayError } from '../../src/domain/failure.ts';
import type { Http, HttpRequest } from '../../src/system/system.ts';
import { realSystem } from '../harness/system.ts';
import { forever, hurriedClock, openAccount } from './hosted-account.ts';

type Answer = (url: URL, method: string) => unknown;
interface Asked extends Pick<HttpRequest, 'trust'> {
  readonly host: string;
  readonly method: string;
  readonly keyed: boolean;
}

function scripted(answer: Answer) {
  const asked: Asked[] = [];
  const http: Http = {
    async request(address, { method = 'GET', trust, headers = {} }) {
      const url = new URL(address);
      const keyed = Object.values(headers).some((value) => value.includes('secret'));
      asked.push({ host: url.host, method, trust, keyed });
      const text = JSON.stringify(answer(url, method)) ?? '';
      const bytes = async () => Buffer.from(text);
      const stream = () => {
        throw new Error('no file is in the script');
      };
      const json = async () => JSON.parse(text) as unknown;
      return { status: 200, ok: true, header: () => null, text: async () => text, json, bytes, stream, discard() {} };
    },
  };
  return { asked, system: { ...realSystem(hurriedClock()), http } };
}

/** Runs one job of this provider at its own address, or at another, against a script. */
async function run(provider: Provider, remote: string, answer: Answer, url = '') {
  const { asked, system } = scripted(answer);
  const spec = { id: 'a', kind: provider.kind, url, labels: [], auth: null, slots: 1, token: 'secret' };
  const connection = connectAccount(provider)({ spec, system, scratch: '/nowhere' });
  const { job } = await openAccount(provider, remote);
  const types: string[] = [];
  const failure = await (async () => {
    for await (const event of connection.run(job(), forever)) types.push(event.type);
    return null;
  })().catch((error: GatewayError) => error.failure);
  return { asked, types, failure };
}

const task = (polling_url: string): Answer => {
  const done = { id: 'task-1', status: 'Ready', result: { sample: 'https://delivery-eu1.bfl.ai/a.png' } };
  return (_, method) => (method === 'POST' ? { id: 'task-1', polling_url } : done);
};
const REGION = 'https://api.eu1.bfl.ai/v1/get_result?id=task-1';

describe('the key', () => {
  it('goes to another host of the provider, where tasks live', async () => {
    const { asked, failure } = await run(bfl, 'flux-pro-1.1', task(REGION));
    expect(failure).toBeNull();
    expect(asked).toEqual([
      { host: 'api.bfl.ai', method: 'POST', trust: 'node', keyed: true },
      { host: 'api.eu1.bfl.ai', method: 'GET', trust: 'public', keyed: true },
    ]);
  });

  it.each([
    'https://api.bfl.ai.example/v1/get_result?id=task-1',
    'https://evilbfl.ai/v1/get_result?id=task-1',
    'http://api.eu1.bfl.ai/v1/get_result?id=task-1',
    'http://169.254.169.254/v1/get_result',
    'not an address',
  ])('goes nowhere else: %s', async (polling) => {
    const { asked, failure } = await run(bfl, 'flux-pro-1.1', task(polling));
    expect(failure).toBeNull();
    expect(asked.map(({ host }) => host)).toEqual(['api.bfl.ai', 'api.bfl.ai']);
  });

  it('of an account that has its own address stays there', async () => {
    const { asked, failure } = await run(bfl, 'flux-pro-1.1', task(REGION), 'http://proxy.studio:8080/bfl');
    expect(failure).toBeNull();
    expect(asked.map(({ host }) => host)).toEqual(['proxy.studio:8080', 'proxy.studio:8080']);
  });
});

describe('an answer that makes no sense, after a job was taken', () => {
  it.each([{}, [], 'thanks', null, { id: 7 }])('may have been billed: %j', async (answer) => {
    const { asked, failure, types } = await run(bfl, 'flux-pro-1.1', () => answer);
    expect(failure).toMatchObject({ code: 'node_lost', retryable: false, possiblyBilled: true });
    expect(asked).toHaveLength(1);
    expect(types).toEqual(['intent']);
  });

  it('is looked up where the provider has a list', async () => {
    const input = { prompt: 'a red bicycle', seed: 7, aspect_ratio: '1:1', megapixels: '0.25' };
    const listed = { id: 'p1', model: 'a/flux-schnell', input: { ...input, num_outputs: 1, output_format: 'png' } };
    const { failure, asked } = await run(replicate, 'a/flux-schnell', (url, method) => {
      if (method === 'POST') return {};
      if (url.searchParams.has('created_after')) return { next: null, results: [listed, { id: 9 }] };
      return { id: 'p1', status: 'succeeded', output: ['https://replicate.delivery/a.png'] };
    });
    expect(failure).toBeNull();
    expect(asked.filter(({ method }) => method === 'POST')).toHaveLength(1);
  });
});

describe('a picture', () => {
  const provider = { kind: 'bfl', fileHosts: ['files.example'] } as const;
  it.each([
    ['https://files.example/a.png', 'public'],
    ['https://eu1.files.example/a.png', 'public'],
    ['http://files.example/a.png', 'listed'],
    ['https://evilfiles.example/a.png', 'listed'],
    ['https://files.example.net/a.png', 'listed'],
    ['http://10.0.0.5:9000/a.png', 'node'],
    ['http://10.0.0.5/a.png', 'listed'],
  ])('at %s is fetched as %s, without the key', async (url, trust) => {
    const { asked, system } = scripted(() => '');
    const files = createFiles({ provider, baseUrl: 'http://10.0.0.5:9000', system });
    await files
      .of({ url }, 7, async () => null)
      .open(forever)
      .catch(() => null);
    expect(asked).toMatchObject([{ trust, keyed: false }]);
  });

  it.each([{ base64: 'aGVsbG8=' }, { url: 'data:image/png;base64,aGVsbG8=' }])(
    'may lie in the answer: %j',
    async (result) => {
      const { asked, system } = scripted(() => '');
      const files = createFiles({ provider, baseUrl: 'https://api.example', system });
      const stream = await files.of(result, 7, async () => null).open(forever);
      expect(Buffer.concat(await stream.toArray()).toString()).toBe('hello');
      expect(asked).toEqual([]);
    },
  );
});

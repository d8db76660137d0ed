// A server that says exactly what it is told to, in turn, and a connection of a provider's to it: for answers that no stand-in
// would give.

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach } from 'vitest';
import type { Connection } from '../../src/backends/backend.ts';
import { connectAccount } from '../../src/backends/hosted/account.ts';
import type { Provider } from '../../src/backends/hosted/provider.ts';
import type { Stage } from './hosted-account.ts';

export interface Said {
  readonly status: number;
  /** Text that is no JSON as it is; anything else as JSON. */
  readonly body: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

const servers: { close(): unknown }[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

/** Says these in turn, and the last one for ever; `asked` are the methods of what it was asked. */
export async function saying(
  provider: Provider,
  { system }: Pick<Stage, 'system'>,
  said: readonly Said[],
  token = 'a-key',
): Promise<{ readonly asked: readonly string[]; readonly connection: Connection }> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    request.resume();
    const { status, body, headers = {} } = said[Math.min(asked.push(request.method ?? ''), said.length) - 1] ?? NOTHING;
    response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const spec = { id: 'said', kind: provider.kind, url, labels: [], auth: null, slots: 1, token };
  return { asked, connection: connectAccount(provider)({ spec, system, scratch: '/nowhere' }) };
}

const NOTHING: Said = { status: 500, body: '' };
export const times = (count: number, said: Said): readonly Said[] => Array.from({ length: count }, () => said);
/** As bfl says it. */
export const BEGUN: Said = { status: 200, body: { id: 't1' } };
export const READY: Said = {
  status: 200,
  body: { id: 't1', status: 'Ready', result: { sample: 'http://127.0.0.1:1/x.png' } },
};

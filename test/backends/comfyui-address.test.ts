// A node's name is asked again at each connection. Here the resolver is ours, so that a name can change its mind.

import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import { expect, onTestFinished, test } from 'vitest';
import { createSocket, type Socket } from '../../src/backends/comfyui/socket.ts';
import { startComfyUi } from '../doubles/comfyui/server.ts';
import { testSystem } from '../harness/system.ts';

/** From now on every name has these addresses. */
function everyNameIs(...addresses: readonly string[]): void {
  const { lookup } = dns;
  const answer = (_name: string, _options: object, callback: (error: null, found: dns.LookupAddress[]) => void) =>
    callback(
      null,
      addresses.map((address) => ({ address, family: 4 })),
    );
  Object.assign(dns, { lookup: answer });
  syncBuiltinESMExports();
  onTestFinished(() => {
    Object.assign(dns, { lookup });
    syncBuiltinESMExports();
  });
}

async function connected(): Promise<Socket> {
  const double = await startComfyUi();
  const url = `http://gpu.test:${new URL(double.url).port}`;
  const spec = { id: 'n', kind: 'comfyui', url, labels: [], auth: null, slots: 1 } as const;
  const socket = createSocket(spec, testSystem());
  onTestFinished(async () => {
    socket.close();
    await double.stop();
  });
  await socket.ready();
  return socket;
}

test('the socket reaches a node by a name that leads to a private address', async () => {
  everyNameIs('127.0.0.1');
  expect((await connected()).open).toBe(true);
});

test('a name that also leads to where clouds keep their credentials is not connected to', async () => {
  everyNameIs('127.0.0.1', '169.254.169.254');
  expect((await connected()).open).toBe(false);
});

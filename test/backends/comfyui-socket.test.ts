// The socket alone, against a server that stops answering pings as a half-open connection does.

import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { createSocket } from '../../src/backends/comfyui/socket.ts';
import { settle, until } from '../harness/manual-clock.ts';
import { testSystem } from '../harness/system.ts';

async function serverThat({ autoPong }: { autoPong: boolean }) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, autoPong });
  const clientIds: (string | null)[] = [];
  let pings = 0;
  server.on('connection', (ws, req) => {
    clientIds.push(new URL(req.url ?? '', 'http://node').searchParams.get('clientId'));
    ws.on('ping', () => pings++);
  });
  await new Promise<void>((resolve) => server.once('listening', resolve));
  const system = testSystem();
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const spec = { id: 'n', kind: 'comfyui', url, labels: [], auth: null, slots: 1 } as const;
  const socket = createSocket(spec, system);
  onTestFinished(() => {
    socket.close();
    for (const ws of server.clients) ws.terminate();
    server.close();
  });
  return { server, clientIds, socket, clock: system.clock, pings: () => pings };
}

test('a connection that answers pings is kept', async () => {
  const { clientIds, socket, clock, pings } = await serverThat({ autoPong: true });
  await socket.ready();
  for (let seen = 1; seen <= 4; seen++) {
    await clock.advance(20_000);
    await until(() => pings() === seen, 'the next ping');
    await settle(50);
  }
  expect(clientIds).toEqual([socket.clientId]);
});

test('a connection that answers no ping is given up, and the next one has another client id', async () => {
  const { clientIds, socket, clock, pings } = await serverThat({ autoPong: false });
  let deaf = 0;
  using _listening = socket.listen((hint) => {
    if (hint.type === 'deaf') deaf++;
  });
  await socket.ready();
  await clock.advance(20_000);
  await until(() => pings() === 1, 'the ping');
  await clock.advance(20_000);
  await until(() => deaf === 1, 'the break');
  await clock.advance(1_000);
  await until(() => clientIds.length === 2, 'the next connection');
  expect(new Set(clientIds).size).toBe(2);
  expect(clientIds[1]).toBe(socket.clientId);
});

test('the pause between attempts grows while nobody answers', async () => {
  const { server, clientIds, socket, clock } = await serverThat({ autoPong: true });
  let breaks = 0;
  using _listening = socket.listen((hint) => {
    if (hint.type === 'deaf') breaks++;
  });
  server.on('connection', (ws) => ws.close());
  server.options.verifyClient = (_: unknown, answer: (ok: boolean, code: number) => void) => answer(false, 403);
  await socket.ready();
  await until(() => breaks === 1);
  for (const pauseMs of [1_000, 2_000, 4_000]) {
    const before = breaks;
    await clock.advance(pauseMs - 1);
    await settle(50);
    expect(breaks).toBe(before);
    await clock.advance(1);
    await until(() => breaks === before + 1, 'the next attempt');
  }
  expect(clientIds).toEqual([]);
});

test('closing leaves nothing behind', async () => {
  const { server, socket, clock } = await serverThat({ autoPong: true });
  await socket.ready();
  socket.close();
  await until(() => server.clients.size === 0, 'the end of the connection');
  expect(clock.pending).toBe(0);
  await socket.ready();
  expect(socket.open).toBe(false);
});

// B17 and B18: a thousand webhooks to a receiver that fails half the time, the gateway killed in the middle; and tool
// calls over MCP.

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  client,
  expectStatus,
  hammer,
  KEY,
  nodesOnline,
  REQUEST,
  type Row,
  rate,
  sleep,
  startGateway,
  startNodes,
} from './rig.ts';

const DELIVERIES = 1_000;
/** What fails seven times in a row waits for many minutes; after this it is asked for by hand. */
const PATIENCE_MS = 60_000;

interface Receiver {
  readonly url: string;
  readonly server: Server;
  /** Message ids that were taken, and how often. */
  readonly taken: Map<string, number>;
  readonly bodies: Map<string, string>;
  tries: number;
  changed: number;
}

async function receiver(): Promise<Receiver> {
  const taken = new Map<string, number>();
  const bodies = new Map<string, string>();
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const id = String(request.headers['webhook-id']);
      const body = Buffer.concat(chunks).toString();
      made.tries++;
      if (bodies.has(id) && bodies.get(id) !== body) made.changed++;
      bodies.set(id, body);
      if (Math.random() < 0.5) return response.writeHead(500).end();
      taken.set(id, (taken.get(id) ?? 0) + 1);
      return response.writeHead(204).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const made: Receiver = { url, server, taken, bodies, tries: 0, changed: 0 };
  return made;
}

/** Has every delivery that still waits sent now. */
async function askAgain(url: string): Promise<void> {
  const c = client(url);
  const answer = expectStatus(await c('GET', '/v1/webhooks/deliveries?state=pending&limit=100'), 200);
  for (const { id } of (JSON.parse(answer.body) as { data: { id: string }[] }).data)
    await c('POST', `/v1/webhooks/deliveries/${id}/redeliver`);
  await sleep(1_000);
}

export async function b17(): Promise<Row[]> {
  const nodes = await startNodes(8, { renderMs: 20, image: 'small', historyMs: 0 });
  const to = await receiver();
  let gateway = await startGateway({ nodes: nodes.ready, settings: 'outbound: {allow_private: ["127.0.0.0/8"]}\n' });
  await nodesOnline(gateway.url, 8);
  expectStatus(await client(gateway.url)('POST', '/v1/webhooks', { url: to.url }), 201);
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      const c = client(gateway.url);
      for (let i = 0; i < DELIVERIES / 20; i++) expectStatus(await c('POST', '/v1/generations', REQUEST), 202);
    }),
  );
  while (to.taken.size < DELIVERIES / 3) await sleep(20);
  gateway = await gateway.crash();
  const start = performance.now();
  while (to.taken.size < DELIVERIES && performance.now() - start < PATIENCE_MS) await sleep(50);
  const seconds = (performance.now() - start) / 1000;
  const byThemselves = to.taken.size;
  for (let round = 0; round < 40 && to.taken.size < DELIVERIES; round++) await askAgain(gateway.url);
  const again = [...to.taken.values()].filter((times) => times > 1).length;
  const missing = DELIVERIES - to.taken.size;
  await gateway[Symbol.asyncDispose]();
  await nodes.stop();
  to.server.close();
  to.server.closeAllConnections();
  const what = `${DELIVERIES.toLocaleString('en')} webhooks, every second try fails, one kill -9`;
  return [
    {
      id: 'B17',
      what: `${what}: missing`,
      limit: '0',
      ours: String(missing),
      ratio: '–',
      goal: '0',
      met: missing === 0,
    },
    {
      id: 'B17',
      what: 'the same: tries, twice taken, bodies that changed',
      limit: '–',
      ours: `${to.tries}, ${again}, ${to.changed}`,
      ratio: '–',
      goal: 'no body changes',
      met: to.changed === 0,
    },
    {
      id: 'B17',
      what: 'the same: arrived without being asked for again, and until when after the kill',
      limit: '–',
      ours: `${byThemselves}, ${seconds.toFixed(1)} s`,
      ratio: '–',
      goal: '–',
      met: true,
    },
  ];
}

const CALL = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: { name: 'get_credits', arguments: {} },
});

export async function b18(): Promise<Row[]> {
  await using gateway = await startGateway({ nodes: ['http://127.0.0.1:9'] });
  const call = async () => {
    const answer = await fetch(`${gateway.url}/mcp`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${KEY}`,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2025-11-25',
      },
      body: CALL,
    });
    const text = await answer.text();
    if (answer.status !== 200 || !text.includes('available'))
      throw new Error(`${answer.status}: ${text.slice(0, 300)}`);
  };
  const seen = await hammer(gateway.url, 10, 5_000, call);
  return [
    {
      id: 'B18',
      what: 'MCP get_credits, 10 at once',
      limit: '–',
      ours: rate(seen.perSecond),
      ratio: '–',
      goal: '≥ 200/s',
      met: seen.perSecond >= 200,
    },
  ];
}

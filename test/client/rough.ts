// A server that misbehaves as told: each request, and each socket, meets the next behaviour of its list, the last one
// again and again. Nothing in it knows Darkroom.

import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { onTestFinished } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import type { GenerationBody } from '../../src/contract/generations.ts';

export interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}
export type Behaviour = (response: ServerResponse, asked: Asked) => void;
export type SocketBehaviour = (socket: WebSocket, asked: Asked) => void;

export interface Rough {
  readonly url: string;
  /** Requests and upgrades, in order. */
  readonly asked: Asked[];
  readonly openSockets: () => number;
}

export async function startRough(http: readonly Behaviour[], ws: readonly SocketBehaviour[] = []): Promise<Rough> {
  const asked: Asked[] = [];
  const turns = { http: 0, ws: 0 };
  const next = <B>(list: readonly B[], kind: 'http' | 'ws') => list[Math.min(turns[kind]++, list.length - 1)];
  const seen = async (request: IncomingMessage, body: Promise<string> | string): Promise<Asked> => {
    const { method = '', url: path = '', headers } = request;
    const one = { method, path, headers, body: await body };
    asked.push(one);
    return one;
  };
  const server = createServer((request, response) => {
    void seen(request, text(request)).then((one) => next(http, 'http')?.(response, one));
  });
  const sockets = new WebSocketServer({ noServer: true, handleProtocols: ([first]) => first ?? false });
  server.on('upgrade', (request, stream, head) => {
    void seen(request, '').then((one) => {
      const behave = next(ws, 'ws');
      if (behave) sockets.handleUpgrade(request, stream, head, (socket) => behave(socket, one));
      else stream.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, asked, openSockets: () => sockets.clients.size };
}

export const drop: Behaviour = (response) => response.socket?.destroy();
/** Taken, then the connection dies before the answer is out. */
export const cut: Behaviour = (response) => {
  response.writeHead(202, { 'content-type': 'application/json', 'content-length': 1000 });
  response.write('{"id":"gen_', () => response.socket?.destroy());
};
export const json =
  (body: unknown, status = 200, headers: Record<string, string> = {}): Behaviour =>
  (response) =>
    void response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
export const page =
  (status: number, headers: Record<string, string> = {}): Behaviour =>
  (response) =>
    void response.writeHead(status, { 'content-type': 'text/html', ...headers }).end('<html><h1>nginx</h1></html>');
/** Complete for HTTP, cut off for JSON. */
export const truncated: Behaviour = (response) =>
  void response.writeHead(200, { 'content-type': 'application/json' }).end('{"id":"gen_1","sta');

export const failing = (code: string, status: number, retryable: boolean, headers: Record<string, string> = {}) =>
  json({ error: { code, message: `It was ${code}.`, retryable, advice: 'Do something.', more: 1 } }, status, headers);

/** As much of a generation as a client looks at. */
export const generation = (more: Partial<GenerationBody> = {}): GenerationBody =>
  ({ id: 'gen_1', status: 'queued', model: 'sketch', outputs: [], ...more }) as GenerationBody;
export const done = (more: Partial<GenerationBody> = {}): GenerationBody =>
  generation({ status: 'succeeded', url: 'http://x/1', credits_charged: 1, ...more });

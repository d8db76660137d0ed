// A loopback HTTP server that can vanish and come back on the same port: the ground every double stands on.
// It owns the sockets, so `down` cuts what is in flight as a killed process would.

import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import type { Duplex } from 'node:stream';

export interface Listener {
  readonly port: number;
  readonly url: string;
  /** Listens again, on the same port. */
  up(): Promise<void>;
  /** Stops listening and resets every connection. */
  down(): Promise<void>;
}

export interface ListenerOptions {
  /** 0 picks a free one. */
  readonly port: number;
  readonly onRequest: (req: IncomingMessage, res: ServerResponse) => Promise<void>;
  readonly onUpgrade?: (req: IncomingMessage, socket: Duplex, head: Buffer) => void;
}

export async function listen({ port, onRequest, onUpgrade }: ListenerOptions): Promise<Listener> {
  const sockets = new Set<Socket>();
  let server: Server | null = null;
  let bound = port;

  const up = async () => {
    const fresh = createServer((req, res) => void onRequest(req, res).catch((error: unknown) => failed(res, error)));
    fresh.on('connection', (socket) => {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    });
    if (onUpgrade) fresh.on('upgrade', onUpgrade);
    await new Promise<void>((resolve, reject) => {
      fresh.once('error', reject).listen(bound, '127.0.0.1', resolve);
    });
    bound = (fresh.address() as AddressInfo).port;
    server = fresh;
  };
  const down = async () => {
    const old = server;
    server = null;
    const closed = new Promise<void>((resolve) => (old ? old.close(() => resolve()) : resolve()));
    for (const socket of sockets) socket.resetAndDestroy();
    await closed;
  };

  await up();
  return { port: bound, url: `http://127.0.0.1:${bound}`, up, down };
}

function failed(res: ServerResponse, error: unknown): void {
  if (res.destroyed || res.writableEnded) return;
  if (res.headersSent) res.destroy();
  else send(res, 599, `the double itself failed: ${error instanceof Error ? error.stack : String(error)}`);
}

type Headers = Readonly<Record<string, string>>;

/** Answers once. Several buffers are written one after the other, without a copy. */
export function send(
  res: ServerResponse,
  status: number,
  body: string | Buffer | readonly Buffer[] = '',
  headers: Headers = {},
): void {
  const parts = typeof body === 'string' ? [Buffer.from(body)] : Buffer.isBuffer(body) ? [body] : body;
  const type = { 'content-type': 'text/plain; charset=utf-8', ...headers };
  const length = status === 204 ? {} : { 'content-length': String(parts.reduce((sum, part) => sum + part.length, 0)) };
  res.writeHead(status, { ...length, ...type });
  for (const part of parts) res.write(part);
  res.end();
}

export function sendJson(res: ServerResponse, status: number, value: unknown, headers: Headers = {}): void {
  send(res, status, JSON.stringify(value), { 'content-type': 'application/json; charset=utf-8', ...headers });
}

export class TooLarge extends Error {}

/** The whole body; throws TooLarge as soon as it is certain that it exceeds the limit. */
export async function readBody(req: IncomingMessage, limitBytes: number): Promise<Buffer> {
  if (Number(req.headers['content-length'] ?? 0) > limitBytes) throw new TooLarge();
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of req as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > limitBytes) throw new TooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

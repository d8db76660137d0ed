// A web server as a studio would put it before the gateway: pages and scripts from a folder, all else passed on, upgrades
// included, so that a page may call the gateway as its own origin.

import { readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, request as requestOf } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';

/** The client's front door stands in the page as `client`. */
const PAGE =
  '<!doctype html><script type="module">globalThis.client = await import("/dist/client/client.js");</script>';

export interface Front {
  readonly url: string;
  /** Paths of the scripts that were fetched. */
  readonly scripts: string[];
}

export async function startFront(gateway: string, folder: string): Promise<Front> {
  const { hostname, port } = new URL(gateway);
  const scripts: string[] = [];
  const passOn = ({ method, url, headers }: IncomingMessage) => ({ hostname, port, method, path: url, headers });
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    if (path === '/') return void response.setHeader('content-type', 'text/html').end(PAGE);
    if (path.startsWith('/dist/')) {
      scripts.push(path);
      return void readFile(join(folder, path)).then(
        (bytes) => response.setHeader('content-type', 'text/javascript').end(bytes),
        () => response.writeHead(404).end(),
      );
    }
    const upstream = requestOf(passOn(request), (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    upstream.on('error', () => response.destroy());
    request.pipe(upstream);
  });
  server.on('upgrade', (request, socket, head) => {
    const upstream = connect(Number(port), hostname, () => {
      const lines = request.rawHeaders.flatMap((name, n, all) => (n % 2 === 0 ? [`${name}: ${all[n + 1]}`] : []));
      upstream.write(`GET ${request.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      upstream.write(head);
      socket.pipe(upstream).pipe(socket);
    });
    for (const end of [socket, upstream]) end.on('error', () => [socket, upstream].map((one) => one.destroy()));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, scripts };
}

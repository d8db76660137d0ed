// The doors' front door: rows → express routes and an upgrade listener, over one Gateway. What a door may do is in its
// row (http/route.ts); this only puts the rows on the wire and bounds the connections.

import type { IncomingMessage, RequestListener, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import express, { type Express, type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import { failure, GatewayError } from '../domain/failure.ts';
import type { Gateway } from '../engine/gateway.ts';
import type { System } from '../system/system.ts';
import { adminRoutes } from './http/admin.ts';
import { batchRoutes } from './http/batches.ts';
import { createCallers } from './http/callers.ts';
import { creditRoutes } from './http/credits.ts';
import { generationRoutes } from './http/generations.ts';
import { createLimits } from './http/limits.ts';
import { linger } from './http/linger.ts';
import { createMetrics } from './http/metrics.ts';
import { modelRoutes } from './http/models.ts';
import { nodeRoutes } from './http/nodes.ts';
import { operationRoutes } from './http/operations.ts';
import { outputRoutes } from './http/outputs.ts';
import type { Route } from './http/route.ts';
import { refusal, send } from './http/send.ts';
import { type Doors, requestIdOf, serve } from './http/serve.ts';
import { uploadRoutes } from './http/uploads.ts';
import { webhookRoutes } from './http/webhooks.ts';
import { createMcpDoor } from './mcp/door.ts';
import { createEventSockets, eventRoutes } from './ws/events.ts';

export interface ApiOptions {
  readonly gateway: Gateway;
  readonly system: System;
  /** Base of links without trailing slash; null: from each request's Host. */
  readonly publicUrl: string | null;
  /** The address it will be bound to: decides whether /metrics is open. */
  readonly host: string;
}

export interface Api {
  readonly handler: RequestListener;
  /** Takes WebSocket upgrades of this server and bounds its connections. */
  attach(server: Server): void;
  /**
   * Closes the sockets (1001) and answers whoever is held by `wait`. Call it before closing the server, which waits for
   * both; the server itself is its owner's to close.
   */
  close(): Promise<void>;
}

export function createApi({ gateway, system, publicUrl, host }: ApiOptions): Api {
  const metrics = createMetrics(gateway);
  const callers = createCallers(gateway, system.clock);
  const closing = new AbortController();
  const limits = createLimits();
  const doors: Doors = { gateway, system, callers, limits, metrics, publicUrl, closing: closing.signal };
  const routes: readonly Route[] = [
    ...generationRoutes(doors),
    ...batchRoutes(gateway),
    ...eventRoutes,
    ...modelRoutes(gateway),
    ...creditRoutes(gateway, system.clock),
    ...uploadRoutes(gateway),
    ...outputRoutes(gateway, system.clock),
    ...webhookRoutes(gateway),
    ...nodeRoutes(gateway),
    ...adminRoutes(gateway, callers, system.clock),
    ...operationRoutes(doors, { metricsOpen: isLoopback(host), all: () => routes }),
  ];
  const sockets = createEventSockets(doors);
  const mcp = createMcpDoor(doors, isLoopback(host));
  const app = appOf(routes, doors, mcp.handler);
  return {
    handler(request, response) {
      linger(request, response, system.clock);
      app(request, response);
    },
    attach(server) {
      bound(server);
      server.on('upgrade', sockets.upgrade);
      server.on('clientError', refuseGarbage);
    },
    async close() {
      closing.abort(new GatewayError('shutting_down'));
      await Promise.all([sockets.close(), mcp.close()]);
      metrics.close();
    },
  };
}

function appOf(routes: readonly Route[], doors: Doors, mcp: RequestHandler): Express {
  const app = express();
  app.set('etag', false).set('query parser', false).disable('x-powered-by');
  app.all('/mcp', mcp);
  for (const row of routes) app[row.method](row.path, serve(row, doors));
  for (const [path, allow] of allowedMethods(routes)) {
    const refused = refusal(failure('not_found', `This path answers ${allow} only.`), 405, { allow });
    app.all(path, (request, response) => send(response, refused, requestIdOf(request, doors.system)));
  }
  const unknown = refusal(failure('not_found', 'There is no such path.'));
  app.use((request, response) => send(response, unknown, requestIdOf(request, doors.system)));
  app.use((_error: unknown, request: Request, response: Response, _next: NextFunction) =>
    send(response, unknown, requestIdOf(request, doors.system)),
  );
  return app;
}

function allowedMethods(routes: readonly Route[]): ReadonlyMap<string, string> {
  const byPath = new Map<string, string[]>();
  for (const { path, method } of routes) {
    const own = method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()];
    byPath.set(path, [...(byPath.get(path) ?? []), ...own]);
  }
  return new Map([...byPath].map(([path, methods]) => [path, methods.sort().join(', ')]));
}

/** Slow senders are cut off by the request bounds, slow readers by the idle bound; long-polls and sockets fit inside. */
function bound(server: Server): void {
  Object.assign(server, { shouldUpgradeCallback: isWebSocket });
  server.headersTimeout = 15_000;
  server.requestTimeout = 300_000;
  server.timeout = 120_000;
  server.keepAliveTimeout = 65_000;
  server.maxHeadersCount = 100;
}

/** Clients that offer another protocol on the side (`Upgrade: h2c`) are answered in HTTP/1.1 like everyone. */
const isWebSocket = (request: IncomingMessage): boolean => request.headers.upgrade?.toLowerCase() === 'websocket';

/** What is not HTTP gets a bare status line: there is no request to take an id from. */
function refuseGarbage(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) return void socket.destroy();
  const status = GARBAGE[error.code ?? ''] ?? '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

const GARBAGE: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: '431 Request Header Fields Too Large',
  ERR_HTTP_REQUEST_TIMEOUT: '408 Request Timeout',
};

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host === '[::1]' || /^127(\.\d{1,3}){3}$/.test(host);
}

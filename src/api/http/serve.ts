// One request through one door: request id, key, scope, limits, parse, run, send. Everything that goes wrong ends here as
// the contract's JSON. Express only picks the row; there is no middleware, so that polling stays cheap.

import type { IncomingMessage } from 'node:http';
import type { Request, RequestHandler, Response } from 'express';
import type { Caller } from '../../domain/caller.ts';
import { GatewayError, toFailure } from '../../domain/failure.ts';
import type { Gateway } from '../../engine/gateway.ts';
import type { System } from '../../system/system.ts';
import { jsonReader, parsed, type ReadJson, readQuery } from './body.ts';
import type { Callers } from './callers.ts';
import type { RequestLimits } from './limits.ts';
import type { Metrics } from './metrics.ts';
import { type Answer, type Asked, MAX_ITEMS, type Route } from './route.ts';
import { refusal, send } from './send.ts';

/** What every door needs. */
export interface Doors {
  readonly gateway: Gateway;
  readonly system: System;
  readonly callers: Callers;
  readonly limits: RequestLimits;
  readonly metrics: Metrics;
  /** Base of links without trailing slash; null: from each request's Host. */
  readonly publicUrl: string | null;
  /** Aborted when the doors close: whoever is held by `wait` gets the state as it is. */
  readonly closing: AbortSignal;
}

const NOBODY = Object.freeze({}) as Caller;

export function serve(route: Route, doors: Doors): RequestHandler {
  const { clock, log } = doors.system;
  const observe = doors.metrics.http(route.method, route.path);
  const readBody = route.body === null ? noBody : jsonReader(route.maxItems ?? MAX_ITEMS);
  return async (request, response) => {
    const started = clock.monotonic();
    const requestId = requestIdOf(request, doors.system);
    try {
      const answer = await answerTo(route, doors, readBody, request, response);
      if (doors.closing.aborted) response.shouldKeepAlive = false;
      await send(response, answer, requestId);
    } catch (error) {
      await sendFailure(error, requestId, response, doors);
    }
    const ms = clock.monotonic() - started;
    observe(response.statusCode, ms);
    const level = route.method === 'get' ? 'debug' : 'info';
    log[level]({ request_id: requestId, method: request.method, route: route.path, status: response.statusCode, ms });
  };
}

const noBody: ReadJson = async () => ({ body: undefined });

async function sendFailure(error: unknown, requestId: string, response: Response, doors: Doors): Promise<void> {
  if (!(error instanceof GatewayError) && !response.destroyed) {
    doors.system.log.error({ err: error, request_id: requestId }, 'a request met an unexpected error');
  }
  if (response.headersSent) response.destroy();
  else await send(response, refusal(toFailure(error)), requestId);
}

async function answerTo(
  route: Route,
  doors: Doors,
  readBody: ReadJson,
  request: Request,
  response: Response,
): Promise<Answer> {
  const caller = route.scope === null ? NOBODY : await doors.callers.ofRequest(request.headers, route.scope);
  if (route.scope !== null) await doors.limits.take(caller);
  if (route.newWork && doors.gateway.draining) throw new GatewayError('shutting_down', 'The gateway is shutting down.');
  const query = queryOf(route, request.url);
  const read = await readBody(request, response);
  if ('unreadable' in read) return refusal(read.unreadable.failure, read.unreadable.status);
  const body = route.body === null ? undefined : parsed(route.body, read.body);
  return route.run(askedOf({ caller, query, body, request, response, baseUrl: baseUrlOf(request, doors.publicUrl) }));
}

function queryOf({ query, badQuery }: Route, url: string): unknown {
  try {
    return parsed(query, readQuery(url));
  } catch (error) {
    throw badQuery?.() ?? error;
  }
}

function askedOf({
  response,
  request,
  ...known
}: Pick<Asked, 'caller' | 'query' | 'body' | 'request' | 'baseUrl'> & { readonly response: Response }): Asked {
  let gone: AbortController | null = null;
  return {
    ...known,
    request,
    params: request.params as Record<string, string>,
    headers: request.headers,
    get signal() {
      if (gone === null) {
        const controller = new AbortController();
        gone = controller;
        response.once('close', () =>
          controller.abort(new GatewayError('cancelled_by_caller', 'The client went away.')),
        );
      }
      return gone.signal;
    },
  };
}

const SANE_ID = /^[A-Za-z0-9._:/=+-]{1,128}$/;

/** The caller's own X-Request-Id where it is sane, else a new one. */
export function requestIdOf(request: IncomingMessage, { random, clock }: Pick<System, 'random' | 'clock'>): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && SANE_ID.test(given) ? given : `req_${random.ulid(clock.now())}`;
}

const SANE_HOST = /^[A-Za-z0-9._-]{1,255}(:\d{1,5})?$|^\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?$/;

export function baseUrlOf(request: IncomingMessage, publicUrl: string | null): string {
  if (publicUrl !== null) return publicUrl;
  const { host } = request.headers;
  if (host !== undefined && SANE_HOST.test(host)) return `http://${host}`;
  throw new GatewayError('invalid_request', 'The Host header is not a host.');
}

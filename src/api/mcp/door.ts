// /mcp: Streamable HTTP without sessions. Before anything is read the door asks where the request comes from and whose it
// is, as the spec wants it; the body is read with the bounds every door has, then the SDK speaks the protocol.

import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, validateHostHeader, validateOriginHeader } from '@modelcontextprotocol/server';
import type { Request, RequestHandler, Response } from 'express';
import type { Caller } from '../../domain/caller.ts';
import { failure, GatewayError, toFailure } from '../../domain/failure.ts';
import { jsonReader } from '../http/body.ts';
import { MAX_ITEMS } from '../http/route.ts';
import { refusal, send } from '../http/send.ts';
import { baseUrlOf, type Doors, requestIdOf } from '../http/serve.ts';
import { gatewayStudio } from './gateway-studio.ts';
import { buildServer } from './server.ts';

export interface McpDoor {
  readonly handler: RequestHandler;
  /** Lets calls under way answer, which the `closing` signal of the doors has hastened, then ends the streams. */
  close(): Promise<void>;
}

/** How long calls under way may take to answer when the doors close. */
const FAREWELL_MS = 1_000;
const LOOPBACK = ['localhost', '127.0.0.1', '[::1]'];
const PARSE_ERROR = -32700;

/** What was settled before the protocol began. */
interface Visit {
  readonly caller: Caller;
  readonly baseUrl: string;
}

export function createMcpDoor(doors: Doors, loopback: boolean): McpDoor {
  const { gateway, system, callers, limits, closing, publicUrl } = doors;
  const { clock, log } = system;
  const observe = doors.metrics.http('post', '/mcp');
  const readBody = jsonReader(MAX_ITEMS);
  const comesFrom = gatekeeper(loopback, publicUrl);
  const fault = (error: unknown) => log.error({ err: error }, 'an MCP call met an unexpected error');
  const underWay = new Set<Promise<void>>();

  const protocol = createMcpHandler(
    ({ era, authInfo }) => {
      const visit = authInfo?.extra?.visit as Visit;
      return buildServer({ era, studio: gatewayStudio({ gateway, closing, ...visit }), clock, fault, closing });
    },
    { onerror: (error) => log.debug({ err: error }, 'MCP') },
  );
  const speak = toNodeHandler(protocol, { onerror: fault });

  const admit = async (request: Request): Promise<Visit> => {
    comesFrom(request);
    if (closing.aborted) throw new GatewayError('shutting_down', 'The gateway is shutting down.');
    const caller = await callers.ofRequest(request.headers, 'read');
    return { caller, baseUrl: baseUrlOf(request, publicUrl) };
  };
  const serve = async (request: Request, response: Response, requestId: string) => {
    const visit = await admit(request);
    if (request.method !== 'POST') {
      return send(response, refusal(failure('not_found', 'This path answers POST only.'), 405, ALLOW), requestId);
    }
    await limits.take(visit.caller);
    const read = await readBody(request, response).catch((error: unknown) => ({
      unreadable: { failure: toFailure(error), status: 400 },
    }));
    if ('unreadable' in read)
      return void response.status(read.unreadable.status).json(rpcError(read.unreadable.failure));
    for (let others = messagesIn(read.body) - 1; others > 0; others--) await limits.take(visit.caller);
    const { key } = visit.caller;
    const auth = { token: '', clientId: key.id, scopes: [...key.scopes], extra: { visit } };
    const spoken = speak(Object.assign(request, { auth }), response, read.body);
    if (!isListening(read.body)) track(underWay, spoken);
    await spoken;
  };

  return {
    async handler(request, response) {
      const started = clock.monotonic();
      const requestId = requestIdOf(request, system);
      response.setHeader('x-request-id', requestId);
      try {
        await serve(request, response, requestId);
      } catch (error) {
        if (!(error instanceof GatewayError)) fault(error);
        if (response.headersSent) response.destroy();
        else await send(response, refusal(toFailure(error)), requestId);
      }
      const ms = clock.monotonic() - started;
      observe(response.statusCode, ms);
      log.debug({ request_id: requestId, route: '/mcp', status: response.statusCode, ms });
    },
    async close() {
      const patience = new AbortController();
      const tired = clock.sleep(FAREWELL_MS, patience.signal).catch(() => undefined);
      await Promise.race([Promise.all(underWay), tired]);
      patience.abort();
      await protocol.close();
    },
  };
}

const ALLOW = { allow: 'POST' };

function track(underWay: Set<Promise<void>>, spoken: Promise<void>): void {
  const ended = spoken.catch(() => undefined).finally(() => underWay.delete(ended));
  underWay.add(ended);
}

/** A stream that has no end of its own. */
const isListening = (body: unknown): boolean =>
  (body as { readonly method?: unknown } | null)?.method === 'subscriptions/listen';

const rpcError = ({ message }: { readonly message: string }) => ({
  jsonrpc: '2.0',
  id: null,
  error: { code: PARSE_ERROR, message },
});

/** Older clients may send several in one list; each counts. */
const messagesIn = (body: unknown): number => (Array.isArray(body) ? body.length : 1);

/**
 * Keeps web pages out (DNS rebinding, cross-site posts). An address asked as such cannot be rebound, a name can: bound to
 * loopback, only names of this machine and of `public_url` are answered. Bound to the LAN every name is, for agents come
 * by container or mDNS name and need a key anyway; but browsers always say their Origin, and that may only be ours:
 * `public_url`, this machine, or the very address that was asked. A rebound name is none of these.
 */
function gatekeeper(loopback: boolean, publicUrl: string | null): (request: Request) => void {
  const names = publicUrl === null ? LOOPBACK : [...LOOPBACK, new URL(publicUrl).hostname];
  return ({ headers: { host, origin } }) => {
    const ours = [...names, ...addressIn(host)];
    if (loopback && !validateHostHeader(host, ours).ok) {
      throw new GatewayError(
        'forbidden',
        'This Host is not one of ours; set DARKROOM_PUBLIC_URL to the address in use.',
      );
    }
    if (!validateOriginHeader(origin, ours).ok) {
      throw new GatewayError('forbidden', 'This Origin is not one of ours.');
    }
  };
}

function addressIn(host: string | undefined): readonly string[] {
  const name = URL.parse(`http://${host}`)?.hostname ?? '';
  return /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-f:.]+\])$/.test(name) ? [name] : [];
}

// A receiver of webhooks that keeps what it was sent, byte for byte, and misbehaves on command. What it answers may
// depend on the call, so "every second one fails" is a function.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { listen, readBody, send } from './listener.ts';

export interface Call {
  /** 1 for the first. */
  readonly n: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** `webhook-id`. */
  readonly id: string;
  readonly body: string;
  json<T = Record<string, unknown>>(): T;
}

/** hang: no answer. drip: 200, and a body that never ends. close: the socket, without an answer. huge: 200 and 50 MB. */
export type Behaviour =
  | 'hang'
  | 'drip'
  | 'close'
  | 'huge'
  | number
  | { readonly status: number; readonly headers: Readonly<Record<string, string>> };

export interface HookReceiver extends AsyncDisposable {
  readonly url: string;
  readonly port: number;
  readonly calls: readonly Call[];
  /** Calls under way at most at a time, so far. */
  readonly most: number;
  /** Calls without an answer yet. */
  readonly open: number;
  /** Bytes of dripped bodies. */
  readonly dripped: number;
  behave(how: Behaviour | ((call: Call) => Behaviour)): void;
}

const DRIP_MS = 20;
const HUGE = Buffer.alloc(1024 * 1024);

export async function hookReceiver(first: Behaviour | ((call: Call) => Behaviour) = 204): Promise<HookReceiver> {
  const calls: Call[] = [];
  const open = new Set<ServerResponse>();
  let how = first;
  let most = 0;
  let dripped = 0;

  const listener = await listen({
    port: 0,
    async onRequest(request, response) {
      open.add(response);
      most = Math.max(most, open.size);
      response.on('close', () => open.delete(response));
      const call = callOf(request, (await readBody(request, 1_000_000)).toString(), calls.length + 1);
      calls.push(call);
      await answer(response, typeof how === 'function' ? how(call) : how, () => dripped++);
    },
  });
  return {
    url: `${listener.url}/hook`,
    port: listener.port,
    calls,
    get most() {
      return most;
    },
    get open() {
      return open.size;
    },
    get dripped() {
      return dripped;
    },
    behave(next) {
      how = next;
    },
    [Symbol.asyncDispose]: () => listener.down(),
  };
}

function callOf(request: IncomingMessage, body: string, n: number): Call {
  const headers = request.headers as Record<string, string>;
  const id = headers['webhook-id'] ?? '';
  return { n, path: request.url ?? '', headers, id, body, json: <T>() => JSON.parse(body) as T };
}

async function answer(response: ServerResponse, how: Behaviour, onDrip: () => void): Promise<void> {
  if (how === 'hang') return;
  if (how === 'close') return void response.destroy();
  if (how === 'drip') return drip(response, onDrip);
  if (how === 'huge') return send(response, 200, Array(50).fill(HUGE));
  if (typeof how === 'number') return send(response, how);
  send(response, how.status, '', how.headers);
}

function drip(response: ServerResponse, onDrip: () => void): void {
  response.writeHead(200, { 'content-type': 'text/plain' });
  const timer = setInterval(() => {
    response.write('.');
    onDrip();
  }, DRIP_MS);
  response.on('close', () => clearInterval(timer));
}

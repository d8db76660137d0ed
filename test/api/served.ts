// The doors on a real server over the fake gateway, torn down with the test.

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { createApi } from '../../src/api/api.ts';
import type { ErrorBody } from '../../src/contract/errors.ts';
import { type ManualClock, until } from '../harness/manual-clock.ts';
import { testSystem } from '../harness/system.ts';
import { ADMIN_KEY, type FakeGateway, fakeGateway } from './fake-gateway.ts';

export interface Served {
  readonly gateway: FakeGateway;
  readonly clock: ManualClock;
  readonly url: string;
  readonly port: number;
  /** With the admin key unless the headers say otherwise; a body that is no string or stream goes as JSON. */
  call(path: string, init?: Init): Promise<Reply>;
  close(): Promise<void>;
}

export interface Init {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly raw?: NonNullable<RequestInit['body']>;
  readonly signal?: AbortSignal;
}

export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed body, typed as whatever the test says it is. */
  json<T = Record<string, unknown>>(): T;
  readonly error: ErrorBody['error'];
}

export async function served(options: { readonly host?: string; readonly publicUrl?: string } = {}): Promise<Served> {
  const system = testSystem();
  const gateway = fakeGateway(system.clock);
  const { host = '127.0.0.1', publicUrl = null } = options;
  const api = createApi({ gateway, system, host, publicUrl });
  const server = http.createServer(api.handler);
  api.attach(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = `http://127.0.0.1:${port}`;
  let closed = false;
  const close = async () => {
    if (closed) return;
    closed = true;
    await api.close();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    await until(() => system.clock.pending === 0, 'no sleeper left behind');
  };
  onTestFinished(close);
  return { gateway, clock: system.clock, url, port, close, call: (path, init) => call(url + path, init) };
}

async function call(url: string, { method, headers = {}, body, raw, signal }: Init = {}): Promise<Reply> {
  const sent = raw ?? (body === undefined ? undefined : JSON.stringify(body));
  const response = await fetch(url, {
    method: method ?? (sent === undefined ? 'GET' : 'POST'),
    headers: { authorization: `Bearer ${ADMIN_KEY}`, ...headers },
    ...(sent === undefined ? {} : { body: sent, duplex: 'half' }),
    ...(signal ? { signal } : {}),
  } as RequestInit);
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: <T>() => JSON.parse(text) as T,
    get error() {
      return (JSON.parse(text) as ErrorBody).error;
    },
  };
}

// Events over real WebSockets: what arrives, what never gets in, what happens to the slow and the dead.

import net from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { WebSocket } from 'ws';
import { pump } from '../../src/api/ws/pump.ts';
import { Frame } from '../../src/contract/socket.ts';
import type { Caller } from '../../src/domain/caller.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import type { Watched } from '../../src/engine/gateway.ts';
import { ManualClock, settle, until } from '../harness/manual-clock.ts';
import { ADMIN_KEY, NOW, output, sha256 } from './fake-gateway.ts';
import { type Served, served } from './served.ts';

interface Watching {
  readonly socket: WebSocket;
  readonly frames: Record<string, unknown>[];
  /** Code of the close, once it came. */
  closed: { readonly code: number } | null;
}

function watch(s: Served, query = '', options: { key?: string | null; protocols?: string[] } = {}): Watching {
  const { key = ADMIN_KEY, protocols = [] } = options;
  const headers = key === null ? {} : { authorization: `Bearer ${key}` };
  const socket = new WebSocket(`ws://127.0.0.1:${s.port}/v1/events${query}`, protocols, { headers });
  const watching: Watching = { socket, frames: [], closed: null };
  socket.on('message', (data, isBinary) => {
    expect(isBinary).toBe(false);
    watching.frames.push(JSON.parse(String(data)));
  });
  socket.on('close', (code) => {
    watching.closed = { code };
  });
  socket.on('error', () => undefined);
  onTestFinished(() => socket.terminate());
  return watching;
}

const ready = async (w: Watching) => {
  await until(() => w.frames.some((f) => f.type === 'ready'), 'the ready frame');
  return w.frames.find((f) => f.type === 'ready')?.cursor as string;
};
const submit = async (s: Served, body: unknown = { prompt: 'a boat' }) =>
  (await s.call('/v1/generations', { body })).json<{ id: string }>().id;
const start = (s: Served, id: string) =>
  s.gateway.emit(id, { type: 'started', at: NOW, node: 'rack-1', backend: 'sdapi' });
const finish = (s: Served, id: string) =>
  s.gateway.emit(id, { type: 'succeeded', at: NOW, outputs: [output(0)], nodeMs: 1 });
const events = (w: Watching) => w.frames.filter((f) => f.type === 'event').map((f) => f.event);

it('says ready, then every event with its cursor and the GET body, and progress without one', async () => {
  const s = await served();
  const w = watch(s);
  await ready(w);
  const id = await submit(s);
  start(s, id);
  s.gateway.progress(id, 0.65, 'denoising step 32/50');
  finish(s, id);
  await until(() => w.frames.length === 5);
  expect(events(w)).toEqual(['generation.queued', 'generation.running', 'generation.succeeded']);
  expect(w.frames[3]).toEqual({ type: 'progress', id, progress: { fraction: 0.65, message: 'denoising step 32/50' } });
  const polled = (await s.call(`/v1/generations/${id}`)).json();
  expect(w.frames[4]).toMatchObject({ type: 'event', cursor: expect.any(String), generation: polled });
  for (const frame of w.frames) expect(Frame.safeParse(frame).error).toBeUndefined();
});

it('does not announce what is nobody’s business', async () => {
  const s = await served();
  const w = watch(s);
  await ready(w);
  const id = await submit(s);
  start(s, id);
  s.gateway.emit(id, { type: 'submitted_to_node', at: NOW, remote: { prompt: 'p' } });
  finish(s, id);
  await until(() => events(w).length === 3);
  expect(JSON.stringify(w.frames)).not.toContain('prompt":"p"');
});

it('replays from a cursor what was missed, once, and then goes on live', async () => {
  const s = await served();
  const first = watch(s);
  await ready(first);
  const id = await submit(s);
  await until(() => events(first).length === 1);
  const cursor = first.frames.at(-1)?.cursor;
  first.socket.close();
  start(s, id);
  const second = watch(s, `?cursor=${cursor}`);
  await ready(second);
  expect(second.frames.map((f) => f.type)).toEqual(['event', 'ready']);
  finish(s, id);
  await until(() => events(second).length === 2);
  expect(events(second)).toEqual(['generation.running', 'generation.succeeded']);
});

it('hands filters on', async () => {
  const s = await served();
  const ids = [await submit(s), await submit(s)];
  const w = watch(s, `?ids=${ids.join(',')}&progress=0`);
  await ready(w);
  expect(s.gateway.seen.watch).toEqual({ workspaceId: 'studio', generationIds: ids, progress: false });
  await ready(watch(s, '?batch_id=batch_1'));
  expect(s.gateway.seen.watch).toEqual({ workspaceId: 'studio', batchId: 'batch_1', progress: true });
});

it('keeps workspaces apart', async () => {
  const s = await served();
  s.gateway.addKey('dk_other', {}, { id: 'elsewhere' });
  const other = watch(s, '', { key: 'dk_other' });
  const own = watch(s);
  await Promise.all([ready(other), ready(own)]);
  await submit(s);
  await until(() => events(own).length === 1);
  expect(events(other)).toEqual([]);
});

it('takes the key as a subprotocol, and prefers to answer with one that is no key', async () => {
  const s = await served();
  const only = watch(s, '', { key: null, protocols: [`darkroom.key.${ADMIN_KEY}`] });
  await ready(only);
  expect(only.socket.protocol).toBe(`darkroom.key.${ADMIN_KEY}`);
  const two = watch(s, '', { key: null, protocols: [`darkroom.key.${ADMIN_KEY}`, 'darkroom'] });
  await ready(two);
  expect(two.socket.protocol).toBe('darkroom');
});

const refusedWith = (w: Watching) =>
  new Promise<{ status: number; body: string }>((resolve) =>
    w.socket.on('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', (chunk) => {
        body += chunk;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }));
    }),
  );

it('refuses the handshake in HTTP, as JSON', async () => {
  const s = await served();
  s.gateway.addKey('dk_hooks', { scopes: ['webhooks'] });
  s.gateway.addKey('dk_slow', { requestsPerMinute: 1 });
  const refused = async (query: string, options = {}) => {
    const { status, body } = await refusedWith(watch(s, query, options));
    return [status, JSON.parse(body).error.code];
  };
  expect(await refused('', { key: null })).toEqual([401, 'unauthenticated']);
  expect(await refused('', { key: 'dk_wrong' })).toEqual([401, 'unauthenticated']);
  expect(await refused('', { key: null, protocols: ['darkroom.key.dk_wrong'] })).toEqual([401, 'unauthenticated']);
  expect(await refused('', { key: 'dk_hooks' })).toEqual([403, 'forbidden']);
  expect(await refused('?colour=red')).toEqual([422, 'invalid_request']);
  expect(await refused('?ids=gen_nope')).toEqual([422, 'invalid_request']);
  expect(await refused('?progress=2')).toEqual([422, 'invalid_request']);
  expect(await refused('/deeper')).toEqual([404, 'not_found']);
  await ready(watch(s, '', { key: 'dk_slow' }));
  expect(await refused('', { key: 'dk_slow' })).toEqual([429, 'rate_limited']);
});

it('says 426 to a plain GET', async () => {
  const s = await served();
  const reply = await s.call('/v1/events');
  expect(reply.status).toBe(426);
  expect(reply.error.code).toBe('invalid_request');
});

it.each(['c999', 'nonsense', 'c9999999999999999'])(
  'answers the cursor %s with an error frame and 4400',
  async (cursor) => {
    const s = await served();
    const w = watch(s, `?cursor=${cursor}`);
    await until(() => w.closed);
    expect(w.closed?.code).toBe(4400);
    expect(w.frames).toMatchObject([{ type: 'error', error: { code: 'invalid_request' } }]);
  },
);

it('closes with 1011 and says nothing when watching itself fails', async () => {
  const s = await served();
  const w = watch(s);
  await ready(w);
  s.gateway.view = () => {
    throw new Error('bug with a secret');
  };
  await s.call('/v1/generations', { body: {} });
  await until(() => w.closed);
  expect(w.closed?.code).toBe(1011);
  expect(JSON.stringify(w.frames)).toContain('internal');
  expect(JSON.stringify(w.frames)).not.toContain('secret');
});

it('cuts off with 4408 who falls behind by the hub’s measure', async () => {
  const s = await served();
  const { watch: original } = s.gateway;
  s.gateway.watch = async function* (...args) {
    for await (const item of original(...args)) {
      if (item.type === 'event') throw new GatewayError('rate_limited', 'too far behind');
      yield item;
    }
  };
  const w = watch(s);
  await ready(w);
  await submit(s);
  await until(() => w.closed);
  expect(w.closed?.code).toBe(4408);
});

/** Events of about 100 kB each, straight into the gateway: more than the kernel's buffers hold. */
async function flood(s: Served, count: number) {
  const caller = (await s.gateway.authenticate(sha256(ADMIN_KEY))) as Caller;
  for (let i = 0; i < count; i++) {
    await s.gateway.submit(caller, { prompt: 'x'.repeat(100_000) });
    await settle(1);
  }
}

it('gives a client that does not read up with 4408, while others lose nothing', async () => {
  const s = await served();
  const slow = watch(s);
  const quick = watch(s);
  await Promise.all([ready(slow), ready(quick)]);
  slow.socket.pause();
  await flood(s, 250);
  await until(() => events(quick).length === 250);
  expect(s.gateway.watchers).toBe(2);
  await s.clock.advance(15_000);
  slow.socket.resume();
  await until(() => slow.closed);
  expect(slow.closed?.code).toBe(4408);
  expect(events(slow).length).toBeLessThan(250);
  expect(quick.closed).toBeNull();
  expect(s.gateway.watchers).toBe(1);
});

it('waits for a client that reads on, and loses no event', async () => {
  const s = await served();
  await flood(s, 100);
  const w = watch(s, '?cursor=c1');
  await ready(w);
  expect(events(w).length).toBe(99);
  expect(w.closed).toBeNull();
});

it('leaves progress out while a client lags, events never', async () => {
  const sent: string[] = [];
  const lagging = {
    bufferedAmount: 100_000,
    send: (bytes: Buffer) => sent.push(String(bytes)),
    close: () => undefined,
  };
  const progress = { type: 'progress', id: 'g', workspaceId: 'w', batchId: null, fraction: 0.5, message: '' } as const;
  const items = (async function* () {
    yield progress;
    yield { type: 'ready', cursor: 1 } as const;
    lagging.bufferedAmount = 0;
    yield progress;
  })();
  const frame = (item: Watched) => Buffer.from(item.type);
  const { signal } = new AbortController();
  await pump({ socket: lagging as unknown as WebSocket, items, frame, clock: new ManualClock(), signal });
  expect(sent).toEqual(['ready', 'progress']);
});

it('drops a peer that does not answer pings', async () => {
  const s = await served();
  const alive = watch(s);
  await ready(alive);
  const dead = net.connect(s.port, '127.0.0.1');
  onTestFinished(() => void dead.destroy());
  dead.write(
    `GET /v1/events HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${ADMIN_KEY}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEC==\r\n\r\n`,
  );
  dead.on('error', () => undefined).resume();
  await until(() => s.gateway.watchers === 2);
  let pings = 0;
  alive.socket.on('ping', () => pings++);
  await s.clock.advance(25_000);
  await until(() => pings === 1);
  expect(s.gateway.watchers).toBe(2);
  await s.call('/healthz');
  await s.clock.advance(25_000);
  await until(() => s.gateway.watchers === 1, 'the dead peer is dropped');
  await until(() => pings === 2);
  expect(alive.closed).toBeNull();
});

it('closes with 4401 when the key is deleted or expires', async () => {
  const s = await served();
  s.gateway.addKey('dk_brief', { expiresAt: NOW + 20_000 });
  const w = watch(s, '', { key: 'dk_brief' });
  await ready(w);
  await s.clock.advance(25_000);
  await until(() => w.closed);
  expect(w.closed?.code).toBe(4401);
});

it('does not read what clients say, and hangs up on the talkative', async () => {
  const s = await served();
  const w = watch(s);
  await ready(w);
  w.socket.send('{"subscribe": "everything"}');
  w.socket.send('x'.repeat(5_000));
  await until(() => w.closed);
  expect(w.closed?.code).toBe(1009);
  expect((await s.call('/healthz')).status).toBe(200);
});

it('stringifies an event once for all sockets', async () => {
  const s = await served();
  const all = Array.from({ length: 10 }, () => watch(s));
  await Promise.all(all.map(ready));
  const { view } = s.gateway;
  let rendered = 0;
  s.gateway.view = (...args) => {
    rendered++;
    return view(...args);
  };
  await submit(s);
  await until(() => all.every((w) => events(w).length === 1));
  expect(rendered).toBe(2);
});

it('closes everyone with 1001, and answers whoever waits, when the doors close', async () => {
  const s = await served();
  const w = watch(s);
  await ready(w);
  const held = s.call('/v1/generations', { body: { wait: 60 } });
  await until(() => s.gateway.seen.waitMs);
  await s.close();
  const answer = await held;
  expect(answer.status).toBe(202);
  expect(answer.headers.get('connection')).toBe('close');
  await until(() => w.closed);
  expect(w.closed?.code).toBe(1001);
  expect(s.gateway.watchers).toBe(0);
});

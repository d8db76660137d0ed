// Watching: no event missed and none twice, over a real gateway that restarts and over a server that misbehaves.

import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { WebSocket as NodeSocket } from 'ws';
import { createClient } from '../../src/client/client.ts';
import type { Frame } from '../../src/contract/socket.ts';
import { until } from '../harness/manual-clock.ts';
import { KEY, startGateway } from './darkroom.ts';
import { drop, failing, generation, page, type SocketBehaviour, startRough } from './rough.ts';
import { errorOf } from './thrown.ts';
import { recordedSleep } from './waits.ts';

const event = (cursor: string): object => ({
  type: 'event',
  event: 'generation.running',
  cursor,
  generation: generation({ id: `gen_${cursor}` }),
});
const sends =
  (frames: readonly (object | string)[], close?: number | 'terminate'): SocketBehaviour =>
  (socket) => {
    for (const frame of frames) socket.send(typeof frame === 'string' ? frame : JSON.stringify(frame));
    if (close === 'terminate') socket.terminate();
    else if (close !== undefined) socket.close(close);
  };
/** Consumes in the background until it ends. */
function following(frames: AsyncIterable<Frame>) {
  const seen: Frame[] = [];
  const end = (async () => {
    for await (const frame of frames) seen.push(frame);
  })();
  end.catch(() => undefined);
  return { seen, end, cursors: () => seen.flatMap((f) => (f.type === 'event' ? [f.cursor] : [])) };
}

describe('on a real gateway', () => {
  it('tells the story of a generation, in order, once', async () => {
    const { url } = await startGateway();
    const client = createClient({ url, key: KEY });
    const abort = new AbortController();
    const { seen, end } = following(client.watch({ signal: abort.signal }));
    await until(() => seen.length > 0, 'ready');
    const { id } = await client.submit({ prompt: 'watched' });
    const story = () =>
      seen.flatMap((f) => (f.type === 'event' && 'generation' in f ? [[f.event, f.generation.id]] : []));
    await until(() => story().some(([name]) => name === 'generation.succeeded'), 'the end of the story');
    expect(story()).toEqual([
      ['generation.queued', id],
      ['generation.running', id],
      ['generation.succeeded', id],
    ]);
    abort.abort();
    await end;
  });

  it('misses nothing and repeats nothing while the gateway restarts', async () => {
    const gateway = await startGateway();
    const client = createClient({ url: gateway.url, key: KEY });
    const sleep = async (): Promise<void> => void (await new Promise((resolve) => setImmediate(resolve)));
    const abort = new AbortController();
    const { seen, end, cursors } = following(
      createClient({ url: gateway.url, key: KEY, sleep }).watch({ signal: abort.signal, progress: false }),
    );
    await until(() => seen.length > 0, 'ready');
    const asked: string[] = [];
    for (let round = 0; round < 3; round++) {
      asked.push((await client.submit({ prompt: `before ${round}` })).id);
      await gateway.stop();
      await gateway.start();
      asked.push((await client.submit({ prompt: `after ${round}` })).id);
    }
    const ended = () =>
      seen.flatMap((f) => (f.type === 'event' && f.event === 'generation.succeeded' ? [f.generation.id] : []));
    await until(() => ended().length >= asked.length, 'all ends');
    expect(ended().sort()).toEqual(asked.sort());
    expect(new Set(cursors()).size).toBe(cursors().length);
    const queued = seen.filter((f) => f.type === 'event' && f.event === 'generation.queued');
    expect(queued).toHaveLength(asked.length);
    abort.abort();
    await end;
  });

  it('goes on from a cursor', async () => {
    const { url, whileBusy } = await startGateway();
    const client = createClient({ url, key: KEY });
    let cursor = '';
    for await (const frame of client.watch()) {
      if (frame.type !== 'ready') continue;
      cursor = frame.cursor;
      break;
    }
    await client.submit({ prompt: 'while away' });
    await whileBusy();
    const names: string[] = [];
    for await (const frame of client.watch({ cursor })) {
      if (frame.type === 'ready') break;
      if (frame.type === 'event') names.push(frame.event);
    }
    expect(names).toEqual(['generation.queued', 'generation.running', 'generation.succeeded']);
  });

  it.each([
    ['a key that is none', { key: 'dk_wrong' }, {}, 'unauthenticated'],
    ['ids that are none', {}, { ids: ['shoe'] }, 'invalid_request'],
    ['a cursor that is none', {}, { cursor: 'shoe' }, 'invalid_request'],
  ])('throws for %s', async (_, options, watched, code) => {
    const { url } = await startGateway();
    const { sleep, waits } = recordedSleep();
    const { end } = following(createClient({ url, key: KEY, sleep, ...options }).watch(watched));
    expect(await errorOf(end)).toMatchObject({ code, retryable: false });
    expect(waits).toEqual([]);
  });

  it('works over the ws package too', async () => {
    const { url } = await startGateway();
    const WebSocket = NodeSocket as unknown as typeof globalThis.WebSocket;
    for await (const frame of createClient({ url, key: KEY, WebSocket }).watch()) {
      expect(frame.type).toBe('ready');
      break;
    }
  });
});

describe('over a connection that breaks', () => {
  it('reconnects with the cursor of the last frame, and drops what comes twice', async () => {
    const { url, asked } = await startRough(
      [drop],
      [
        sends([{ type: 'ready', cursor: 'c1' }, event('c2'), event('c2'), event('c3')], 'terminate'),
        sends([event('c3'), event('c4'), { type: 'ready', cursor: 'c4' }], 1011),
        sends([event('c5')]),
      ],
    );
    const { sleep, waits } = recordedSleep();
    const abort = new AbortController();
    const { cursors, end } = following(createClient({ url, key: 'k', sleep }).watch({ signal: abort.signal }));
    await until(() => cursors().length === 4, 'all events');
    expect(cursors()).toEqual(['c2', 'c3', 'c4', 'c5']);
    expect(asked.map((a) => a.path)).toEqual([
      '/v1/events?progress=1',
      '/v1/events?cursor=c3&progress=1',
      '/v1/events?cursor=c4&progress=1',
    ]);
    expect(asked[0]?.headers['sec-websocket-protocol']).toBe('darkroom.key.k');
    expect(waits).toHaveLength(2);
    abort.abort();
    await end;
  });

  it('asks for what it watches again', async () => {
    const { url, asked } = await startRough([drop], [sends([], 1001), sends([event('c1')])]);
    const { sleep } = recordedSleep();
    const watched = createClient({ url, key: 'k', sleep }).watch({
      ids: ['gen_a', 'gen_b'],
      progress: false,
      cursor: 'c0',
    });
    for await (const _ of watched) break;
    expect(asked.map((a) => a.path)).toEqual(Array(2).fill('/v1/events?ids=gen_a%2Cgen_b&cursor=c0&progress=0'));
  });

  it('reconnects at once when it was too slow', async () => {
    const slow = { type: 'error', error: { code: 'rate_limited', message: 'x', retryable: true } };
    const { url, asked } = await startRough([drop], [sends([event('c1'), slow], 4408), sends([event('c2')])]);
    const { sleep, waits } = recordedSleep();
    const abort = new AbortController();
    const { cursors, end } = following(createClient({ url, key: 'k', sleep }).watch({ signal: abort.signal }));
    await until(() => cursors().length === 2, 'both events');
    expect([waits, asked[1]?.path]).toEqual([[], '/v1/events?cursor=c1&progress=1']);
    abort.abort();
    await end;
  });

  it.each([
    ["the platform's socket", globalThis.WebSocket],
    ['the one of ws', NodeSocket as unknown as typeof globalThis.WebSocket],
  ])('takes a broken frame for a broken connection, and one it does not know for nothing: %s', async (_, WebSocket) => {
    const odd = { type: 'weather', sunny: true };
    const { url } = await startRough(
      [drop],
      [sends([odd, event('c1'), '{"type":"ev', event('c3')]), sends([event('c2')])],
    );
    const { sleep } = recordedSleep();
    const abort = new AbortController();
    const client = createClient({ url, key: 'k', sleep, WebSocket });
    const { cursors, end, seen } = following(client.watch({ signal: abort.signal }));
    await until(() => cursors().includes('c2'), 'what was broken');
    expect(seen.map((f) => ('cursor' in f ? f.cursor : f.type))).toEqual(['c1', 'c2']);
    abort.abort();
    await end;
  });

  it.each([
    [4400, undefined, 'invalid_request'],
    [4401, undefined, 'unauthenticated'],
    [4400, { code: 'invalid_request', message: 'The cursor has expired.', retryable: false }, 'invalid_request'],
  ])('throws when it is closed with %s', async (close, error, code) => {
    const frames = error ? [{ type: 'error', error }] : [];
    const { url } = await startRough([drop], [sends(frames, close)]);
    const { end } = following(createClient({ url, key: 'k' }).watch());
    const thrown = await errorOf(end);
    expect(thrown).toMatchObject({ code, retryable: false });
    if (error) expect(thrown.message).toBe(error.message);
  });

  it('backs off, further each time and spread, and starts over once something came', async () => {
    const gone = sends([], 'terminate');
    const { url } = await startRough(
      [drop],
      [gone, gone, gone, sends([event('c1')], 'terminate'), gone, sends([event('c2')])],
    );
    const { sleep, waits } = recordedSleep();
    const abort = new AbortController();
    const { cursors, end } = following(createClient({ url, key: 'k', sleep }).watch({ signal: abort.signal }));
    await until(() => cursors().length === 2, 'both events');
    const base = [500, 1000, 2000, 500, 1000];
    expect(waits).toHaveLength(base.length);
    for (const [n, ms] of base.entries()) expect(Math.abs((waits[n] ?? 0) / ms - 1)).toBeLessThanOrEqual(0.15);
    abort.abort();
    await end;
  });
});

it('a consumer that falls far behind loses the connection, and no event', async () => {
  const events = 25_000;
  const replay: SocketBehaviour = (socket, { path }) => {
    const from = Number(new URL(path, 'http://x').searchParams.get('cursor')?.slice(1) ?? 0);
    for (let n = from + 1; n <= events; n++) socket.send(JSON.stringify(event(`c${n}`)));
  };
  const { url, asked, openSockets } = await startRough([drop], [replay]);
  const { sleep } = recordedSleep();
  let next = 1;
  for await (const frame of createClient({ url, key: 'k', sleep }).watch()) {
    expect(frame).toMatchObject({ cursor: `c${next}` });
    if (next === 1) await until(() => openSockets() === 0, 'the end of the connection');
    if (next++ === events) break;
  }
  expect(asked.length).toBeGreaterThan(1);
});

describe('when there is no connection at all', () => {
  it('throws after a few tries what plain HTTP says: nobody there', async () => {
    const { sleep, waits } = recordedSleep();
    const { end } = following(createClient({ url: 'http://127.0.0.1:1', key: 'k', sleep }).watch());
    expect(await errorOf(end)).toMatchObject({ code: 'unreachable', retryable: true });
    expect(waits).toHaveLength(5);
  });

  it('or that sockets do not get through', async () => {
    const { url } = await startRough([failing('invalid_request', 426, false)]);
    const { sleep } = recordedSleep();
    const error = await errorOf(following(createClient({ url, key: 'k', sleep }).watch()).end);
    expect(error.message).toMatch(/WebSockets do not get through/);
  });

  it('waits as long as it is told to', async () => {
    const limited = failing('rate_limited', 429, true, { 'retry-after': '17' });
    const { url } = await startRough([limited, page(404)]);
    const { sleep, waits } = recordedSleep();
    expect(await errorOf(following(createClient({ url, key: 'k', sleep }).watch()).end)).toMatchObject({
      code: 'bad_answer',
    });
    expect(waits).toEqual([17_000]);
  });
});

describe('where no socket can be opened', () => {
  it('says so of a runtime without one', async () => {
    vi.stubGlobal('WebSocket', undefined);
    onTestFinished(() => void vi.unstubAllGlobals());
    const error = await errorOf(following(createClient({ url: 'http://there', key: 'k' }).watch()).end);
    expect(error).toMatchObject({
      code: 'invalid_request',
      advice: expect.stringContaining('createClient as WebSocket'),
    });
  });

  it('says so of a key that no header can carry', async () => {
    const error = await errorOf(following(createClient({ url: 'http://there', key: 'two words' }).watch()).end);
    expect(error).toMatchObject({ code: 'invalid_request', message: expect.stringContaining('No socket') });
  });
});

describe('the end', () => {
  it('comes with the abort, and leaves no socket open', async () => {
    const { url, openSockets } = await startRough([drop], [sends([event('c1')])]);
    const abort = new AbortController();
    const { cursors, end } = following(createClient({ url, key: 'k' }).watch({ signal: abort.signal }));
    await until(() => cursors().length === 1, 'the event');
    abort.abort(new Error('enough'));
    await end;
    await until(() => openSockets() === 0, 'no open socket');
  });

  it('comes with a break, and leaves no socket open', async () => {
    const { url, openSockets } = await startRough([drop], [sends([event('c1'), event('c2')])]);
    for await (const _ of createClient({ url, key: 'k' }).watch()) break;
    await until(() => openSockets() === 0, 'no open socket');
  });

  it('comes in the middle of a handshake', async () => {
    const abort = new AbortController();
    const { url } = await startRough([drop], [() => abort.abort()]);
    await following(createClient({ url, key: 'k' }).watch({ signal: abort.signal })).end;
  });

  it('comes in the middle of a wait, and before the beginning', async () => {
    const abort = new AbortController();
    const sleep = (_: number, signal?: AbortSignal) => {
      abort.abort();
      return Promise.reject(signal?.reason);
    };
    const { url, asked } = await startRough([drop], [sends([], 1001)]);
    const client = createClient({ url, key: 'k', sleep });
    await following(client.watch({ signal: abort.signal })).end;
    await following(client.watch({ signal: abort.signal })).end;
    expect(asked).toHaveLength(1);
  });
});

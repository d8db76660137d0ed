// What a client hears while it waits: the first note at once, then only what matters, never twice in a second, a sign of
// life after 15 s, and nothing after the end. Driven by hand; once over the wire with each kind of client.

import { describe, expect, it } from 'vitest';
import { type ProgressValue, reportProgress } from '../../src/api/mcp/progress.ts';
import type { GenerationBody } from '../../src/contract/generations.ts';
import type { Frame } from '../../src/contract/socket.ts';
import { NOW, output } from '../api/fake-gateway.ts';
import { served } from '../api/served.ts';
import { ManualClock, settle, until } from '../harness/manual-clock.ts';
import { agent, KINDS } from './callers.ts';

const QUEUED = { id: 'gen_1', status: 'queued', queue_reason: 'waiting_for_slot' } as GenerationBody;

function reporting(notify: (value: ProgressValue) => Promise<void> = async () => {}) {
  const clock = new ManualClock();
  const heard: (ProgressValue & { readonly at: number })[] = [];
  const frames: Frame[] = [];
  let wake = () => {};
  async function* watch({ signal }: { readonly signal: AbortSignal }): AsyncIterable<Frame> {
    signal.addEventListener('abort', () => wake());
    for (; !signal.aborted; await new Promise<void>((resolve) => (wake = resolve))) yield* frames.splice(0);
  }
  const report = reportProgress(QUEUED, {
    studio: { watch },
    clock,
    notify(value) {
      heard.push({ ...value, at: clock.monotonic() });
      return notify(value);
    },
  });
  return {
    clock,
    heard,
    messages: () => heard.map((h) => h.message),
    async tell(fraction: number, message: string) {
      frames.push({ type: 'progress', id: QUEUED.id, progress: { fraction, message } });
      wake();
      await settle();
    },
    async begins() {
      await settle();
      const generation = { ...QUEUED, status: 'running' as const, queue_reason: undefined };
      frames.push({ type: 'event', event: 'generation.running', cursor: 'c1', generation } as Frame);
      wake();
      await settle();
    },
    stop: () => report[Symbol.dispose](),
  };
}

function risesStrictly(heard: readonly ProgressValue[]): void {
  for (const [i, { progress, total }] of heard.entries()) {
    expect(progress).toBeGreaterThan(heard[i - 1]?.progress ?? -1);
    expect(progress).toBeLessThan(1);
    expect(total).toBe(1);
  }
}

describe('a report', () => {
  it('says at once why it waits', () => {
    const { heard, stop } = reporting();
    expect(heard).toEqual([{ progress: 0, total: 1, message: 'waiting for slot', at: 0 }]);
    stop();
  });

  it('tells phases and tenths, at most one in a second, the newest of them', async () => {
    const r = reporting();
    await r.tell(0, 'loading model');
    await r.tell(0.02, 'denoising step 1/50');
    expect(r.messages()).toEqual(['waiting for slot']);
    await r.clock.advance(1000);
    expect(r.messages()).toEqual(['waiting for slot', 'denoising step 1/50']);
    await r.clock.advance(1000);
    for (const step of [3, 4, 5]) await r.tell(step / 50, `denoising step ${step}/50`);
    expect(r.heard).toHaveLength(2);
    await r.tell(6 / 50, 'denoising step 6/50');
    expect(r.heard.at(-1)).toMatchObject({ progress: 0.12, at: 2000 });
    await r.tell(0.95, 'decoding');
    await r.tell(0.97, 'post-processing');
    await r.clock.advance(999);
    expect(r.heard).toHaveLength(3);
    await r.clock.advance(1);
    expect(r.heard.at(-1)).toMatchObject({ message: 'post-processing', at: 3000 });
    risesStrictly(r.heard);
    r.stop();
  });

  it('counts a tenth as a tenth', async () => {
    const r = reporting();
    for (let tenth = 1; tenth <= 9; tenth++) {
      await r.clock.advance(1000);
      await r.tell(tenth / 10, `step ${tenth}`);
    }
    expect(r.messages().filter((m) => m.startsWith('step'))).toHaveLength(9);
    r.stop();
  });

  it('gives a sign of life after 15 s, a hair higher each time', async () => {
    const r = reporting();
    await r.clock.advance(14_999);
    expect(r.heard).toHaveLength(1);
    await r.clock.advance(45_001);
    expect(r.heard.map((h) => h.at)).toEqual([0, 15_000, 30_000, 45_000, 60_000]);
    risesStrictly(r.heard);
    expect(r.heard.at(-1)?.progress).toBeLessThan(0.01);
    r.stop();
  });

  it('says in a sign of life what has become of it, not what it waited for', async () => {
    const r = reporting();
    await r.begins();
    expect(r.messages()).toEqual(['waiting for slot']);
    await r.clock.advance(15_000);
    expect(r.messages()).toEqual(['waiting for slot', 'running']);
    r.stop();
  });

  it('rises even when the work starts anew elsewhere, or says it is done', async () => {
    const r = reporting();
    for (const [fraction, message] of [
      [0.8, 'denoising'],
      [0, 'loading model'],
      [1, 'saving'],
      [1, 'stamping'],
    ] as const) {
      await r.clock.advance(1000);
      await r.tell(fraction, message);
    }
    expect(r.heard).toHaveLength(5);
    risesStrictly(r.heard);
    r.stop();
  });

  it('sends nothing while a write is pending, then the newest', async () => {
    let written = () => {};
    const r = reporting(() => new Promise<void>((resolve) => (written = resolve)));
    for (const message of ['loading', 'denoising', 'decoding']) {
      await r.clock.advance(1000);
      await r.tell(0.5, message);
    }
    expect(r.heard).toHaveLength(1);
    written();
    await r.clock.advance(1000);
    expect(r.messages()).toEqual(['waiting for slot', 'decoding']);
    r.stop();
  });

  it('survives writes that fail', async () => {
    const r = reporting(() => Promise.reject(new Error('gone')));
    await r.clock.advance(15_000);
    expect(r.heard).toHaveLength(2);
    r.stop();
  });

  it('ends with the call', async () => {
    const r = reporting();
    r.stop();
    await r.tell(0.5, 'denoising');
    await r.clock.advance(60_000);
    expect(r.heard).toHaveLength(1);
    expect(r.clock.pending).toBe(0);
  });
});

describe.each(KINDS)('over the wire: %s', (kind) => {
  it.each(['generate_image', 'get_generation'])('%s tells who asks, and stops with the result', async (tool) => {
    const house = await served();
    const someone = await agent(kind, house.url);
    if (tool === 'get_generation') await someone.call('generate_image', { prompt: 'x' });
    const heard: { progress: number; message?: string | undefined }[] = [];
    const args = tool === 'get_generation' ? { id: 'gen_01HWX2K8Y4N5R7P9Q1B3T60000' } : { prompt: 'x' };
    const call = someone.call(tool, { ...args, wait: true }, { onprogress: (p) => void heard.push(p) });
    await until(() => heard.length === 1, 'the first note, before anything happens');
    await until(() => house.gateway.watchers === 1);
    const id = [...house.gateway.generations.keys()][0] as string;
    await house.clock.advance(2000);
    house.gateway.emit(id, { type: 'started', at: NOW, node: 'rack-1', backend: 'sdapi' });
    house.gateway.progress(id, 0.65, 'denoising step 32/50');
    await until(() => heard.length === 2);
    expect(heard[1]).toMatchObject({ progress: 0.65, total: 1, message: 'denoising step 32/50' });
    house.gateway.emit(id, { type: 'succeeded', at: NOW, outputs: [output(0)], nodeMs: 9 });
    expect((await call).structuredContent?.status).toBe('succeeded');
    await until(() => house.gateway.watchers === 0);
    expect(heard).toHaveLength(2);
  });
});

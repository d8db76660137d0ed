import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Watched, WatchFilter } from '../../src/engine/gateway.ts';
import { settle } from '../harness/manual-clock.ts';
import { type House, openHouse } from './house.ts';

let house: House;
beforeEach(async () => {
  house = await openHouse();
});
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});

function listen(cursor: number | null, filter: Partial<WatchFilter> = {}) {
  const seen: Watched[] = [];
  const controller = new AbortController();
  const ended = (async () => {
    for await (const watched of house.gateway.watch(
      { workspaceId: 'studio', progress: true, ...filter },
      cursor,
      controller.signal,
    ))
      seen.push(watched);
  })().catch((error: unknown) => error);
  const events = () =>
    seen.flatMap((w) => (w.type === 'event' ? [`${w.stored.event.type}:${w.generation.state.status}`] : []));
  const cursors = () => seen.flatMap((w) => (w.type === 'event' ? [w.stored.cursor] : []));
  return { seen, events, cursors, stop: () => controller.abort(new Error('stopped')), ended };
}

describe('watching', () => {
  it('tells each stored change in order, with the generation as it was then', async () => {
    const w = listen(null);
    await settle();
    await house.until((await house.ask()).id, 'succeeded');
    expect(w.events()).toEqual(['submitted:queued', 'started:running', 'succeeded:succeeded']);
    expect(w.seen.some((s) => s.type === 'progress' && s.fraction === 0.5)).toBe(true);
    w.stop();
    await w.ended;
  });
  it('replays from any cursor without a gap or a repeat, while work goes on', async () => {
    const whole = listen(null);
    await settle();
    for (let i = 0; i < 4; i++) await house.ask();
    await house.clock.advance(900);
    const later = [0, ...whole.cursors()].map((c) => listen(c));
    await house.clock.advance(30_000);
    const all = whole.cursors();
    expect(all).toHaveLength(12);
    [0, ...all].slice(0, later.length).forEach((from, i) => {
      expect(later[i]?.cursors()).toEqual(all.filter((c) => c > from));
    });
    for (const w of [whole, ...later]) w.stop();
    await Promise.all([whole, ...later].map((w) => w.ended));
  });
  it('refuses a cursor that nobody gave out', async () => {
    expect(await listen(999_999).ended).toMatchObject({ failure: { code: 'invalid_request' } });
  });
  it('keeps workspaces apart', async () => {
    const w = listen(null, { workspaceId: 'elsewhere' });
    await settle();
    await house.until((await house.ask()).id, 'succeeded');
    expect(w.events()).toEqual([]);
    w.stop();
    await w.ended;
  });
});

// Several streams as one: they are told as they come, and they end together.

import { describe, expect, it } from 'vitest';
import { merged } from '../../src/backends/hosted/merged.ts';
import { forever } from './hosted-account.ts';

/** Tells these, then waits to be stopped, which takes it a moment. */
const waiting = (told: readonly string[], ended: string[]) =>
  async function* (signal: AbortSignal): AsyncGenerator<string> {
    yield* told;
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => setImmediate(resolve)));
    if (!signal.aborted) await stopped;
    ended.push(told.join());
    throw signal.reason;
  };

describe('streams that go on at once', () => {
  it('are told as they come, each with its place', async () => {
    const late = async function* () {
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
      yield 'late';
    };
    const soon = async function* () {
      yield* ['soon', 'soon after'];
    };
    expect(await Array.fromAsync(merged([late, soon], forever))).toEqual([
      [1, 'soon'],
      [1, 'soon after'],
      [0, 'late'],
    ]);
  });

  it('are all stopped, and waited for, when nobody listens any more', async () => {
    const ended: string[] = [];
    for await (const [place] of merged([waiting(['a'], ended), waiting(['b'], ended)], forever)) if (place === 1) break;
    expect(ended).toEqual(['a']); // the other was not asked for more
  });

  it('are all stopped when one breaks down', async () => {
    const ended: string[] = [];
    const broken = async function* (): AsyncGenerator<string> {
      yield 'fine';
      throw new Error('broken');
    };
    const all = merged([waiting(['a'], ended), broken, waiting(['b'], ended)], forever);
    await expect(Array.fromAsync(all)).rejects.toThrow('broken');
    expect(ended.toSorted()).toEqual(['a', 'b']);
  });

  it('are all stopped by the signal, for its reason', async () => {
    const ended: string[] = [];
    const stop = new AbortController();
    const all = Array.fromAsync(merged([waiting([], ended), waiting([], ended)], stop.signal));
    stop.abort(new Error('time is up'));
    await expect(all).rejects.toThrow('time is up');
    expect(ended).toHaveLength(2);
  });
});

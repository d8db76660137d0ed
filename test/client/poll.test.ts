// The reference cadence, number by number.

import { describe, expect, it } from 'vitest';
import { createClient, DarkroomError, pollGeneration } from '../../src/client/client.ts';
import type { GenerationBody } from '../../src/contract/generations.ts';
import { done, failing, generation, json, startRough } from './rough.ts';
import { errorOf } from './thrown.ts';
import { recordedSleep } from './waits.ts';

/** Answers with each in turn, the last one for ever; what is an error is thrown. */
function getter(...answers: readonly (GenerationBody | Error)[]) {
  let n = 0;
  return async (): Promise<GenerationBody> => {
    const answer = answers[Math.min(n++, answers.length - 1)] as GenerationBody | Error;
    if (answer instanceof Error) throw answer;
    return answer;
  };
}
const busy = generation({ status: 'running', estimated_seconds: 100 });
const seconds = (waits: readonly number[]) => waits.map((ms) => ms / 1000);
const away = (retryAfterSeconds?: number) =>
  new DarkroomError({
    code: 'unreachable',
    message: 'x',
    advice: 'x',
    retryable: true,
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
  });

describe('the waits', () => {
  it('begin with two seconds for an id alone, then grow by half up to eight', async () => {
    const { sleep, waits } = recordedSleep();
    await pollGeneration('gen_1', getter(busy, busy, busy, busy, busy, busy, done()), { sleep });
    expect(seconds(waits)).toEqual([2, 3, 4.5, 6.75, 8, 8, 8]);
  });

  it.each([
    [1, [2, 3, 4.5]],
    [2.5, [2.5, 3.75, 5.625]],
    [9, [9, 8, 8]],
    [120, [120, 8, 8]],
    [undefined, [2, 3, 4.5]],
  ])('begin with the given estimate of %s s, uncapped', async (estimate, expected) => {
    const { sleep, waits } = recordedSleep();
    const given = generation(estimate === undefined ? {} : { estimated_seconds: estimate });
    await pollGeneration(given, getter(busy, busy, done()), { sleep });
    expect(seconds(waits)).toEqual(expected);
  });

  it('are thirty at most; what is left is an error to poll again, with the last state', async () => {
    const { sleep, waits } = recordedSleep();
    const error = await errorOf(pollGeneration('gen_1', getter(busy), { sleep }));
    expect(error).toMatchObject({ code: 'polling_exhausted', retryable: true, generation: { status: 'running' } });
    expect(waits).toHaveLength(30);
  });

  it('are spread by 0.85–1.15 when asked, the first one too, and by a factor of the caller', async () => {
    const many = recordedSleep();
    await expect(pollGeneration('gen_1', getter(busy), { sleep: many.sleep, jitter: true })).rejects.toThrow();
    const factors = many.waits.map((ms, n) => ms / 1000 / Math.min(8, 2 * 1.5 ** n));
    expect(Math.min(...factors)).toBeGreaterThanOrEqual(0.85);
    expect(Math.max(...factors)).toBeLessThanOrEqual(1.15);
    expect(new Set(factors).size).toBeGreaterThan(20);
    const own = recordedSleep();
    await pollGeneration('gen_1', getter(busy, done()), { sleep: own.sleep, jitter: () => 1.1 });
    expect(own.waits.map(Math.round)).toEqual([2200, 3300]);
  });
});

describe('what comes back', () => {
  it.each(['succeeded', 'failed', 'timeout', 'cancelled'] as const)(
    'is at once a given one that is %s',
    async (status) => {
      const { sleep, waits } = recordedSleep();
      const given = generation({ status });
      expect(await pollGeneration(given, getter(new Error('must not be asked')), { sleep })).toBe(given);
      expect(waits).toEqual([]);
    },
  );

  it('is the final generation, however it ended, and each state before it was told', async () => {
    const { sleep } = recordedSleep();
    const seen: string[] = [];
    const end = generation({ status: 'failed' });
    const onUpdate = (g: GenerationBody) => seen.push(g.status);
    expect(await pollGeneration('gen_1', getter(generation(), busy, end), { sleep, onUpdate })).toBe(end);
    expect(seen).toEqual(['queued', 'running', 'failed']);
  });

  it('takes a status it does not know for one that goes on', async () => {
    const { sleep } = recordedSleep();
    const odd = generation({ status: 'developing' as 'running' });
    expect(await pollGeneration('gen_1', getter(odd, done()), { sleep })).toMatchObject({ status: 'succeeded' });
  });
});

describe('trouble on the way', () => {
  it('costs an attempt each time, and no more', async () => {
    const { sleep, waits } = recordedSleep();
    await pollGeneration('gen_1', getter(away(), away(), done()), { sleep });
    expect(seconds(waits)).toEqual([2, 3, 4.5]);
  });

  it('is waited out for as long as the gateway asks, a minute at most', async () => {
    const { sleep, waits } = recordedSleep();
    await pollGeneration('gen_1', getter(away(20), away(1), away(9999), done()), { sleep });
    expect(seconds(waits)).toEqual([2, 20, 4.5, 60]);
  });

  it('that does not end is exhausted too, with its cause', async () => {
    const { sleep, waits } = recordedSleep();
    const error = await errorOf(pollGeneration(busy, getter(away()), { sleep }));
    expect(error).toMatchObject({ code: 'polling_exhausted', generation: busy, cause: { code: 'unreachable' } });
    expect(waits).toHaveLength(30);
  });

  it("is known in another's errors by code or status", async () => {
    const { sleep } = recordedSleep();
    const others = [{ code: 'unreachable' }, { status: 429 }, { status: 503 }].map((e) =>
      Object.assign(new Error('x'), e),
    );
    expect((await pollGeneration('gen_1', getter(...others, done()), { sleep })).status).toBe('succeeded');
    const final = Object.assign(new Error('x'), { status: 503, retryable: false });
    await expect(pollGeneration('gen_1', getter(final, done()), { sleep })).rejects.toBe(final);
  });

  it('that waiting cannot mend is thrown at once', async () => {
    const { sleep, waits } = recordedSleep();
    const broken = new Error('a mistake of the program');
    await expect(pollGeneration('gen_1', getter(broken), { sleep })).rejects.toBe(broken);
    expect(waits).toHaveLength(1);
  });

  it('is the same through client.get: 429 with Retry-After survives, 404 does not', async () => {
    const limited = failing('rate_limited', 429, true, { 'retry-after': '11' });
    const { url } = await startRough([limited, json(done()), failing('not_found', 404, false)]);
    const { sleep, waits } = recordedSleep();
    const client = createClient({ url, key: 'k' });
    expect((await pollGeneration('gen_1', client.get, { sleep })).status).toBe('succeeded');
    expect(seconds(waits)).toEqual([2, 11]);
    expect(await errorOf(pollGeneration('gen_1', client.get, { sleep }))).toMatchObject({ code: 'not_found' });
  });
});

describe('an abort', () => {
  it('ends the wait with its reason', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const waiting = pollGeneration(busy, getter(busy), { signal: abort.signal });
    abort.abort(reason);
    await expect(waiting).rejects.toBe(reason);
  });

  it('ends the request under way with its reason', async () => {
    const abort = new AbortController();
    const reason = new Error('enough');
    const { url } = await startRough([() => abort.abort(reason)]);
    const { sleep } = recordedSleep();
    const client = createClient({ url, key: 'k' });
    await expect(pollGeneration('gen_1', client.get, { sleep, signal: abort.signal })).rejects.toBe(reason);
  });
});

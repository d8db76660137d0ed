// Several streams as one, for work that goes on at once and is told as it comes. No stream waits for another, nor is it
// asked for more before its last value was taken. They end together: when one breaks down, or nobody listens any more, the
// others are stopped and waited for, so that nothing goes on behind the listener's back and no rejection is left over.

/**
 * Values in the order they come, each with the place of its stream. A stream must heed the signal it is given. What the
 * listener adds to the list at a value joins in.
 */
export async function* merged<T>(
  streams: readonly ((signal: AbortSignal) => AsyncIterator<T>)[],
  signal: AbortSignal,
): AsyncGenerator<readonly [place: number, value: T]> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  const open: AsyncIterator<T>[] = [];
  const next = async (place: number) => ({ place, told: await open[place]?.next() });
  const awaited = new Map<number, ReturnType<typeof next>>();
  const join = () => {
    for (const start of streams.slice(open.length)) awaited.set(open.push(start(until)) - 1, next(open.length - 1));
  };
  try {
    join();
    while (awaited.size > 0) {
      const { place, told } = await Promise.race(awaited.values());
      awaited.delete(place);
      if (told === undefined || told.done) continue;
      yield [place, told.value];
      awaited.set(place, next(place));
      join();
    }
  } finally {
    stop.abort();
    await Promise.allSettled(awaited.values());
  }
}

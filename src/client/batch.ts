// A batch from its request to its report. It is polled, so that a gateway that restarts meanwhile costs nothing but time;
// which items have ended is read from the pages where there is news, and from all of them once it is over.

import type { BatchBody } from '../contract/batches.ts';
import { isFinal } from './answers.ts';
import { DarkroomError } from './errors.ts';
import type { BatchCalls, Client, ItemBody, RunBatchOptions } from './interface.ts';
import { newKey } from './key.ts';
import { type Patience, patiently } from './patience.ts';
import type { Sleep } from './sleep.ts';

/** In a row, some eight seconds apart: longer than a gateway takes to restart. */
const TRIES = 40;
const PAGE = 100;
const LEAST_MS = 1_000;
const MOST_MS = 8_000;
/** Polls in the time that is left. */
const POLLS_PER_ETA = 10;

export function createRunBatch(batches: BatchCalls, sleep: Sleep): Client['runBatch'] {
  return async (request, { signal, onUpdate, onItem } = {}) => {
    if (!('id' in request) && !request.items?.length) throw nothingToRun();
    const options = signal ? { signal } : {};
    const patience = { tries: TRIES, sleep, signal };
    let batch = await patiently(start(batches, request, options), patience);
    const told = onItem === undefined ? null : createTeller(batches, batch.id, { ...options, onItem }, patience);
    onUpdate?.(batch);
    for (;;) {
      await told?.news(batch);
      if (batch.finished_at !== null) break;
      await sleep(pauseMs(batch), signal);
      const before = batch;
      batch = await patiently(() => batches.get(before.id, options), patience);
      if (differs(before, batch)) onUpdate?.(batch);
    }
    await told?.rest();
    return patiently(() => batches.report(batch.id, options), patience);
  };
}

/** Nothing would ever end in it. */
const nothingToRun = () =>
  new DarkroomError({
    code: 'invalid_request',
    message: 'A batch without items never ends.',
    advice: 'Give it items, or make it with batches.create and append them.',
    retryable: false,
  });

function start(
  batches: BatchCalls,
  request: Parameters<Client['runBatch']>[0],
  options: { readonly signal?: AbortSignal },
): () => Promise<BatchBody> {
  if ('id' in request) return () => batches.get(request.id, options);
  const keyed = { ...request, idempotency_key: request.idempotency_key ?? newKey() };
  return () => batches.create(keyed, options);
}

/** A tenth of what is left, within bounds; while it stands still, the longest. */
function pauseMs({ status, breaker, eta_seconds: eta }: BatchBody): number {
  if (status === 'paused' || breaker.state === 'paused') return MOST_MS;
  return eta === null ? 2 * LEAST_MS : Math.min(MOST_MS, Math.max(LEAST_MS, (eta * 1000) / POLLS_PER_ETA));
}

/** The estimate moves by itself and is no news. */
const differs = (a: BatchBody, b: BatchBody): boolean =>
  JSON.stringify({ ...a, eta_seconds: null }) !== JSON.stringify({ ...b, eta_seconds: null });

const endedOf = ({ counts: c }: BatchBody): number => c.succeeded + c.failed + c.timeout + c.cancelled;

/** Tells each item that has ended, once; one that was put back and ended again has another generation, and is told anew. */
function createTeller(
  batches: BatchCalls,
  id: string,
  { signal, onItem }: Pick<RunBatchOptions, 'signal'> & { readonly onItem: (item: ItemBody) => void },
  patience: Patience,
) {
  /** Index → generation that was told. */
  const told = new Map<number, string>();
  /** Of the first page that is not told completely. */
  let front: string | undefined;
  let lastEnded = 0;

  const page = (cursor: string | undefined) =>
    patiently(
      () => batches.items(id, { limit: PAGE, ...(cursor ? { cursor } : {}) }, signal ? { signal } : {}),
      patience,
    );
  const tell = (item: ItemBody): void => {
    if (!isFinal(item.generation)) told.delete(item.index);
    if (!isFinal(item.generation) || told.get(item.index) === item.generation.id) return;
    told.set(item.index, item.generation.id);
    onItem(item);
  };
  const scan = async (from: string | undefined, enough: () => boolean): Promise<void> => {
    let complete = true;
    for (let cursor = from; ; ) {
      const { data, next_cursor: next } = await page(cursor);
      for (const item of data) tell(item);
      complete &&= data.length === PAGE && data.every((item) => isFinal(item.generation));
      if (complete && next !== null) front = next;
      if (next === null || enough()) return;
      cursor = next;
    }
  };

  return {
    /** Reads on from the first page with open items until it has met as many as have ended; from the start when some were put back. */
    async news(batch: BatchBody): Promise<void> {
      const ended = endedOf(batch);
      const putBack = ended < lastEnded;
      lastEnded = ended;
      if (putBack) front = undefined;
      if (putBack || told.size < ended) await scan(front, () => !putBack && told.size >= ended);
    },
    /** All of it: some may have been put back and ended again behind the front, unnoticed. */
    rest: () => scan(undefined, () => false),
  };
}

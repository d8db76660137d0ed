// As much of the batch doors as a client sees: a batch whose items end as the test says, pages and cursors included.

import type { BatchBody } from '../../src/contract/batches.ts';
import { type Behaviour, generation, json } from './rough.ts';

type Status = keyof BatchBody['counts'];

export interface BatchDouble {
  /** Null: the item is put back, as another generation. */
  end(index: number, status: Status | null): void;
  set(more: Partial<BatchBody>): void;
  finish(status?: BatchBody['status']): void;
  readonly answer: Behaviour;
}

export function batchDouble(total: number): BatchDouble {
  const items = Array.from({ length: total }, (_, index) => ({ index, status: 'queued' as Status, run: 1 }));
  let more: Partial<BatchBody> = {};
  const body = (): BatchBody => {
    const counts = { queued: 0, running: 0, succeeded: 0, failed: 0, timeout: 0, cancelled: 0 };
    for (const item of items) counts[item.status]++;
    const breaker = { state: 'closed' as const, trips: 0, resumes_at: null };
    const base = { id: 'batch_1', status: 'running', total, counts, breaker, eta_seconds: null, finished_at: null };
    return { ...base, ...more } as BatchBody;
  };
  const page = (query: URLSearchParams) => {
    const from = Number(query.get('cursor') ?? 0);
    const to = from + Number(query.get('limit') ?? 20);
    const data = items.slice(from, to).map(({ index, status, run }) => ({
      index,
      key: `k${index}`,
      generation: generation({ id: `gen_${index}_${run}`, status }),
    }));
    return { data, next_cursor: to < total ? String(to) : null };
  };

  return {
    end(index, status) {
      const item = items[index];
      if (item === undefined) throw new Error(`there is no item ${index}`);
      item.status = status ?? 'queued';
      if (status === null) item.run++;
    },
    set(changes) {
      more = { ...more, ...changes };
    },
    finish(status = 'finished') {
      more = { ...more, status, finished_at: '2026-04-30T09:17:42Z' };
    },
    answer(response, asked) {
      const { pathname, searchParams } = new URL(asked.path, 'http://x');
      const doors: Readonly<Record<string, () => unknown>> = {
        'POST /v1/batches': body,
        'GET /v1/batches/batch_1': body,
        'GET /v1/batches/batch_1/items': () => page(searchParams),
        'GET /v1/batches/batch_1/report': () => ({ ...body(), failures: [], outputs: '/v1/generations' }),
      };
      const reply = doors[`${asked.method} ${pathname}`];
      if (reply) json(reply())(response, asked);
      else json({ error: { code: 'not_found', message: 'x', retryable: false } }, 404)(response, asked);
    },
  };
}

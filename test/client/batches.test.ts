// Batches of the real house through the client: made, followed over a restart, taken up, stopped.

import { expect, it } from 'vitest';
import { createClient } from '../../src/client/client.ts';
import { KEY, startGateway } from './darkroom.ts';
import { errorOf } from './thrown.ts';

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const shots = (count: number) => Array.from({ length: count }, (_, n) => ({ prompt: `shot ${n}`, seed: n }));

it('makes every item once while the gateway restarts, tells each once, and reports', async () => {
  const gateway = await startGateway();
  let polls = 0;
  const sleep = async (): Promise<void> => {
    polls++;
    if (polls === 1) await gateway.stop();
    else if (polls === 3) await gateway.start();
    else await turn();
  };
  const client = createClient({ url: gateway.url, key: KEY, sleep });
  const told: number[] = [];
  const items = [...shots(110), { prompt: '[[fail:model_error]]' }];
  const report = await client.runBatch(
    { name: 'night', items, breaker: false },
    { onItem: (item) => told.push(item.index) },
  );
  expect(report).toMatchObject({ name: 'night', status: 'finished', total: 111, credits: { charged: 55 } });
  expect(report.counts).toMatchObject({ succeeded: 110, failed: 1, queued: 0, running: 0 });
  expect(report.failures.map((f) => [f.index, f.error.code])).toEqual([[110, 'model_error']]);
  expect(told.sort((a, b) => a - b)).toEqual(items.map((_, index) => index));
  expect((await client.credits()).balance).toBe(945);
  expect(polls).toBeGreaterThan(3);
});

it('says what a batch would cost, takes one up, and cancels it', async () => {
  const { url } = await startGateway();
  const client = createClient({ url, key: KEY, sleep: turn });
  expect(await client.batches.dryRun({ items: shots(4) })).toMatchObject({
    items: 4,
    projected_credits: 2,
    fits: true,
  });
  const { id } = await client.batches.create({ items: [{ prompt: 'x' }, { prompt: '[[slow:30]]' }] });
  const told: string[] = [];
  const report = await client.runBatch(
    { id },
    {
      onItem: ({ generation }) => told.push(generation.status),
      onUpdate: ({ counts, status }) => {
        if (counts.succeeded === 1 && status === 'running') void client.batches.cancel(id);
      },
    },
  );
  expect([report.status, told]).toEqual(['cancelled', ['succeeded', 'cancelled']]);
  expect((await client.batches.items(id, { status: 'succeeded' })).data).toHaveLength(1);
  expect((await client.batches.list()).data.map((b) => b.id)).toEqual([id]);
});

it('names the item that does not parse', async () => {
  const { url } = await startGateway();
  const client = createClient({ url, key: KEY });
  const error = await errorOf(client.runBatch({ items: [{ prompt: 'x' }, { prompt: 'x', steps: -1 }] }));
  expect(error).toMatchObject({ code: 'invalid_request', status: 422 });
  expect(error.details?.[0]?.path).toBe('items.1.steps');
});

// The client against the real house: what it promises, over real HTTP and a real socket.

import { describe, expect, it } from 'vitest';
import { createClient, pollGeneration } from '../../src/client/client.ts';
import { KEY, startGateway } from './darkroom.ts';
import { errorOf } from './thrown.ts';

describe('single calls', () => {
  it('submits, gets, lists, cancels and downloads', async () => {
    const { url } = await startGateway();
    const client = createClient({ url: `${url}/`, key: ` ${KEY}\n` });
    const asked = await client.submit({ prompt: 'a lighthouse', seed: 5, metadata: { ticket: 'MKT-1' } });
    expect(asked).toMatchObject({ status: 'queued', model: 'sketch', replayed: false });
    const done = await client.get(asked.id, { wait: 20 });
    expect(done).toMatchObject({ id: asked.id, status: 'succeeded', seed: 5, credits_charged: 0.5 });
    const picture = await client.download(done.url as string);
    expect((await picture.arrayBuffer()).byteLength).toBe(done.outputs[0]?.bytes);
    expect((await client.cancel(asked.id)).status).toBe('succeeded');

    await client.submit({ prompt: 'another', metadata: { ticket: 'MKT-2' } });
    const page = await client.list({ metadata: { ticket: 'MKT-1' }, status: 'succeeded', limit: 5 });
    expect(page).toMatchObject({ data: [{ id: asked.id }], next_cursor: null });
  });

  it('says that an idempotency key was replayed', async () => {
    const { url } = await startGateway();
    const client = createClient({ url, key: KEY });
    const first = await client.submit({ prompt: 'x', idempotency_key: 'one' });
    const again = await client.submit({ prompt: 'x', idempotency_key: 'one' });
    expect([first.replayed, again.replayed, again.id]).toEqual([false, true, first.id]);
  });

  it('tells credits, models and usage', async () => {
    const { url } = await startGateway();
    const client = createClient({ url, key: KEY });
    const { id } = await client.submit({ prompt: 'x', metadata: { ticket: 'T' } });
    await client.get(id, { wait: 20 });
    expect(await client.credits()).toMatchObject({ balance: 999.5, unit: 'credits' });
    expect((await client.models()).map((m) => [m.id, m.usable])).toEqual([
      ['sketch', true],
      ['gone', false],
    ]);
    const usage = await client.usage({ group_by: 'metadata.ticket' });
    expect(usage).toMatchObject({ data: [{ key: 'T', jobs: 1, credits: 0.5 }], total: { credits: 0.5 } });
  });

  it('throws the contract as an error: code, status, advice, details, request id', async () => {
    const { url } = await startGateway();
    const client = createClient({ url, key: KEY });
    const error = await errorOf(client.submit({ prompt: 'x', steps: 0, colour: 'red' } as object));
    expect(error).toMatchObject({ name: 'DarkroomError', code: 'invalid_request', status: 422, retryable: false });
    expect(error.details?.map((d) => d.path).sort()).toEqual(['colour', 'steps']);
    expect(error.requestId).toMatch(/./);
    expect(error.advice).toMatch(/\.$/);
    expect(await errorOf(createClient({ url, key: 'dk_wrong' }).credits())).toMatchObject({
      code: 'unauthenticated',
      status: 401,
    });
    expect(await errorOf(client.call('GET', '/v1/nowhere'))).toMatchObject({ code: 'not_found', status: 404 });
  });
});

describe('generate', () => {
  it('answers with a URL and a model', async () => {
    const { url, whileBusy: sleep } = await startGateway();
    const seen: string[] = [];
    const g = await createClient({ url, key: KEY, sleep }).generate(
      { prompt: 'a lighthouse' },
      { onUpdate: ({ status }) => seen.push(status) },
    );
    expect(g).toMatchObject({ status: 'succeeded', model: 'sketch', url: expect.stringMatching(/^http/) });
    expect([seen[0], seen.at(-1)]).toEqual(['queued', 'succeeded']);
  });

  it('throws a refusal once, with the generation and what to do', async () => {
    const { url, whileBusy: sleep } = await startGateway();
    const client = createClient({ url, key: KEY, sleep });
    const error = await errorOf(client.generate({ prompt: '[[fail:safety_filter]]' }));
    expect(error).toMatchObject({ code: 'safety_filter', retryable: false, generation: { status: 'failed' } });
    expect(error.advice).toBe('Soften the prompt and retry once with the same seed.');
    expect((await client.list()).data).toHaveLength(1);
  });

  it('has the softened prompt used within the same generation', async () => {
    const { url, whileBusy: sleep } = await startGateway();
    const client = createClient({ url, key: KEY, sleep });
    const g = await client.generate({ prompt: '[[fail:safety_filter]]', softened_prompt: 'a calm sea' });
    expect([g.status, g.attempts.length]).toEqual(['succeeded', 2]);
    expect((await client.list()).data).toHaveLength(1);
  });

  it('asks once more for one that timed out, then throws', async () => {
    const { url, whileBusy: sleep } = await startGateway();
    const client = createClient({ url, key: KEY, sleep });
    const request = { prompt: '[[slow:30]]', run_within_seconds: 0.05, metadata: { shot: 1 } };
    const error = await errorOf(client.generate(request));
    expect(error).toMatchObject({ code: 'run_timeout', retryable: true, generation: { status: 'timeout' } });
    const { data } = await client.list();
    expect(data.map((g) => g.status)).toEqual(['timeout', 'timeout']);
    expect(data[0]?.previous_id).toBe(data[1]?.id);
  });

  it('never asks again for one that was cancelled', async () => {
    const { url, whileBusy: sleep } = await startGateway();
    const client = createClient({ url, key: KEY, sleep });
    const error = await errorOf(
      client.generate(
        { prompt: '[[slow:30]]' },
        { onUpdate: ({ id, status }) => void (status === 'queued' && client.cancel(id)) },
      ),
    );
    expect(error).toMatchObject({ code: 'cancelled_by_caller', retryable: false });
    expect((await client.list()).data).toHaveLength(1);
  });

  it('lives through a restart of the gateway', async () => {
    const gateway = await startGateway();
    let naps = 0;
    const sleep = async (): Promise<void> => {
      naps++;
      if (naps === 1) await gateway.stop();
      if (naps === 2) await gateway.start();
      if (naps > 2) await gateway.whileBusy();
    };
    const client = createClient({ url: gateway.url, key: KEY, sleep });
    const g = await client.generate({ prompt: 'kept' });
    expect([g.status, naps >= 2]).toEqual(['succeeded', true]);
    expect((await client.list()).data).toHaveLength(1);
  });

  it('stops waiting when aborted, and leaves the generation to the gateway', async () => {
    const { url } = await startGateway();
    const client = createClient({ url, key: KEY });
    const abort = new AbortController();
    const reason = new Error('enough');
    const waiting = client.generate(
      { prompt: '[[slow:30]]' },
      { signal: abort.signal, onUpdate: () => abort.abort(reason) },
    );
    await expect(waiting).rejects.toBe(reason);
    const left = (await client.list()).data[0];
    expect(left?.status).toMatch(/queued|running/);
    await client.cancel(left?.id as string);
  });
});

it('pollGeneration follows an id with client.get', async () => {
  const { url, whileBusy: sleep } = await startGateway();
  const client = createClient({ url, key: KEY });
  const { id } = await client.submit({ prompt: 'x' });
  expect((await pollGeneration(id, client.get, { sleep })).status).toBe('succeeded');
});

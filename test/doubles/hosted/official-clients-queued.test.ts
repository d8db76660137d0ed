// The stand-ins with jobs that are asked after, as the clients of Replicate and fal see them: begun, followed, fetched,
// cancelled, refused. Neither client can be told not to send again; what that costs is written down here as well.

import { ApiError, type CompletedQueueStatus, type QueueStatus, ValidationError } from '@fal-ai/client';
import type { Prediction } from 'replicate';
import { describe, expect, it } from 'vitest';
import { startHosted } from './hosted.ts';
import { errorOf, falOf, fetched, PNG_URL, replicateOf, requestsTo } from './official-clients.ts';

const prompt = 'a red bicycle';

describe("Replicate's client", () => {
  const model = 'black-forest-labs/flux-schnell';
  const input = { prompt, num_outputs: 2, aspect_ratio: '1:1', output_format: 'png' };
  const poll = { wait: { mode: 'poll', interval: 1 } } as const;

  it('runs a model and fetches what it made', async () => {
    await using double = await startHosted('replicate');
    const seen: string[] = [];
    const output = await replicateOf(double).run(model, { input, ...poll }, ({ status }) => seen.push(status));
    expect(await Promise.all((output as string[]).map(fetched))).toEqual(['png 1024x1024', 'png 1024x1024']);
    expect([...new Set(seen)]).toEqual(['starting', 'processing', 'succeeded']);
    expect(double.paid).toMatchObject([{ model, prompt }]);
  });

  it('creates a prediction by version, waits for it, and finds it in the list', async () => {
    await using double = await startHosted('replicate');
    const client = replicateOf(double);
    const version = 'f'.repeat(64);
    const created = await client.predictions.create({ version, input, webhook: 'https://gw.example/hook' });
    const made = await client.wait(created, { interval: 1 });
    expect(made).toMatchObject({ id: created.id, status: 'succeeded', version, error: null, data_removed: false });
    expect(made.metrics?.predict_time).toEqual(expect.any(Number));
    expect([created.urls.get, created.urls.cancel]).toEqual([
      `${double.url}/predictions/${created.id}`,
      `${double.url}/predictions/${created.id}/cancel`,
    ]);
    const pages: Prediction[][] = [];
    for await (const page of client.paginate(client.predictions.list)) pages.push(page);
    expect(pages.map((page) => page.map(({ id }) => id))).toEqual([[created.id]]);
  });

  it('uses a deployment, and answers at once where it is asked to wait', async () => {
    await using double = await startHosted('replicate', { pace: { queuedMs: 0, runningMs: 1 } });
    const { deployments } = replicateOf(double);
    const made = await deployments.predictions.create('studio', 'ours', { input, wait: 5 });
    expect(made.status).toBe('succeeded');
    expect(requestsTo(double, 'POST')[0]?.headers.prefer).toBe('wait=5');
  });

  it('changes a picture that is handed to it', async () => {
    await using double = await startHosted('replicate');
    const input = { prompt, image: PNG_URL, prompt_strength: 0.5 };
    const output = await replicateOf(double).run('black-forest-labs/flux-dev', { input, ...poll });
    expect(await fetched((output as string[])[0])).toBe('webp 1024x1024');
    expect(requestsTo(double, 'POST')[0]?.body).toEqual({ input });
  });

  it.each([
    ['at once', 'aborted', 0],
    ['while it runs', 'canceled', 2],
  ])('cancels %s', async (_, status, polls) => {
    await using double = await startHosted('replicate');
    const { predictions } = replicateOf(double);
    const { id } = await predictions.create({ model, input });
    for (let i = 0; i < polls; i++) await predictions.get(id);
    expect(await predictions.cancel(id)).toMatchObject({ id, status });
  });

  it.each([
    ['balance', 402, 'Insufficient credit'],
    ['auth', 401, 'Unauthenticated'],
    ['invalid_params', 422, 'invalid_fields'],
    ['model_gone', 404, 'Not found'],
    ['submit_500', 500, 'Internal server error'],
  ] as const)('knows %s as its error', async (fault, status, words) => {
    await using double = await startHosted('replicate');
    double.faults.next(fault);
    const error = await errorOf(replicateOf(double).predictions.create({ model, input }));
    expect(error).toMatchObject({ name: 'ApiError', response: { status }, message: expect.stringContaining(words) });
    expect(requestsTo(double, 'POST')).toHaveLength(1);
  });

  it('reads why a prediction failed', async () => {
    await using double = await startHosted('replicate');
    double.faults.next('moderation_input');
    expect((await errorOf(replicateOf(double).run(model, { input, ...poll }))).message).toContain('(E005)');
    double.faults.next('moderation_output');
    expect((await errorOf(replicateOf(double).run(model, { input, ...poll }))).message).toContain('NSFW');
  });

  it('asks six times where the account is limited, and begins six predictions where answers are lost', async () => {
    await using double = await startHosted('replicate');
    double.faults.on('rate_limited', { ms: 30_000 });
    const error = await errorOf(replicateOf(double).predictions.create({ model, input }));
    expect(error).toMatchObject({ name: 'ApiError', response: { status: 429 } });
    expect([requestsTo(double, 'POST').length, double.paid.length]).toEqual([6, 0]);
    double.faults.off();
    double.faults.on('accept_then_drop');
    await errorOf(replicateOf(double).predictions.create({ model, input }));
    expect(double.paid).toHaveLength(6);
  });
});

describe("fal's client", () => {
  const app = 'fal-ai/flux/dev';
  const input = { prompt, num_images: 2, image_size: 'square' } as const;

  it('subscribes to a request and fetches what it made', async () => {
    await using double = await startHosted('fal');
    const seen: QueueStatus[] = [];
    const { data, requestId } = await falOf(double).subscribe(app, {
      input,
      logs: true,
      pollInterval: 1,
      onQueueUpdate: (status) => seen.push(status),
    });
    const files = data.images.map(({ url }: { url: string }) => fetched(url));
    expect(await Promise.all(files)).toEqual(['jpeg 512x512', 'jpeg 512x512']);
    expect(requestId).toBe(double.paid[0]?.jobId);
    expect(seen.map(({ status }) => status)).toEqual(['IN_QUEUE', 'IN_PROGRESS', 'COMPLETED']);
    const last = seen.at(-1) as CompletedQueueStatus;
    expect(last.logs[0]).toEqual({
      message: expect.any(String),
      level: 'INFO',
      source: 'USER',
      timestamp: expect.any(String),
    });
    expect(last.metrics?.inference_time).toBe(1.25);
  });

  it('submits, asks and reads by number, below the app whatever the endpoint', async () => {
    await using double = await startHosted('fal');
    const { queue } = falOf(double);
    const endpoint = 'fal-ai/flux/dev/image-to-image';
    const webhookUrl = 'https://gw.example/hook';
    const begun = await queue.submit(endpoint, { input: { prompt, image_url: PNG_URL }, webhookUrl });
    const { request_id: requestId } = begun;
    expect(begun).toMatchObject({ status: 'IN_QUEUE', queue_position: 0 });
    expect(begun.response_url).toBe(`${double.url}/fal-ai/flux/requests/${requestId}`);
    await queue.subscribeToStatus(endpoint, { requestId, pollInterval: 1 });
    const { data } = await queue.result(endpoint, { requestId });
    expect(await fetched(data.images[0]?.url)).toBe('jpeg 1024x768');
    expect(double.paid).toMatchObject([{ model: endpoint, webhook: webhookUrl }]);
  });

  it('cancels a request, once', async () => {
    await using double = await startHosted('fal');
    const { queue } = falOf(double);
    const { request_id: requestId } = await queue.submit(app, { input });
    await queue.cancel(app, { requestId });
    expect(await queue.status(app, { requestId })).toMatchObject({
      status: 'COMPLETED',
      error_type: 'client_cancelled',
    });
    expect(await errorOf(queue.result(app, { requestId }))).toMatchObject({ name: 'ApiError', status: 499 });
    const done = await queue.submit(app, { input });
    await queue.subscribeToStatus(app, { requestId: done.request_id, pollInterval: 1 });
    const late = await errorOf(queue.cancel(app, { requestId: done.request_id }));
    expect(late).toMatchObject({ status: 400, body: { status: 'ALREADY_COMPLETED' } });
  });

  it.each([
    ['balance', 403, /^User is locked/],
    ['auth', 401, /Authentication/],
    ['model_gone', 404, /not found/],
    ['submit_500', 500, /Internal/],
  ] as const)('knows %s as its error', async (fault, status, words) => {
    await using double = await startHosted('fal');
    double.faults.next(fault);
    const error = await errorOf(falOf(double).queue.submit(app, { input }));
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status, body: { detail: expect.stringMatching(words) } });
    expect(requestsTo(double, 'POST')).toHaveLength(1);
  });

  it.each([
    ['moderation_input', 'content_policy_violation', 'prompt'],
    ['invalid_params', 'less_than_equal', 'num_images'],
  ] as const)('reads %s from the result, field by field', async (fault, type, field) => {
    await using double = await startHosted('fal');
    double.faults.next(fault);
    const error = await errorOf(falOf(double).subscribe(app, { input, pollInterval: 1 }));
    expect(error).toBeInstanceOf(ValidationError);
    expect((error as ValidationError).getFieldErrors(field)).toMatchObject([{ type, msg: expect.any(String) }]);
  });

  it('reads which picture was blanked', async () => {
    await using double = await startHosted('fal');
    double.faults.next('moderation_partial');
    const { data } = await falOf(double).subscribe(app, { input, pollInterval: 1 });
    expect(data.has_nsfw_concepts).toEqual([false, true]);
  });

  it('asks four times where the account is limited, and begins four requests where answers are lost', async () => {
    const limited = async () => {
      await using double = await startHosted('fal');
      double.faults.on('rate_limited', { ms: 30_000 });
      const error = await errorOf(falOf(double).queue.submit(app, { input }));
      expect(error).toMatchObject({ name: 'ApiError', status: 429 });
      expect([requestsTo(double, 'POST').length, double.paid.length]).toEqual([4, 0]);
    };
    const lost = async () => {
      await using double = await startHosted('fal');
      double.faults.on('accept_then_drop');
      await errorOf(falOf(double).queue.submit(app, { input }));
      expect(double.paid).toHaveLength(4);
    };
    await Promise.all([limited(), lost()]);
  });
});

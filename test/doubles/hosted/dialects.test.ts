// What is peculiar to single providers: what they refuse to read, how they list, cancel, wait, and forget.

import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock, until } from '../../harness/manual-clock.ts';
import { at, caller, form, inline, type Json, links, PROMPT, TONGUES } from './caller.ts';
import { type HostedDouble, type HostedKind, type HostedOptions, startHosted } from './hosted.ts';

const started: HostedDouble[] = [];
const start = async (kind: HostedKind, options: HostedOptions = {}) => {
  const double = await startHosted(kind, options);
  started.push(double);
  return { double, ...caller(kind, double) };
};
afterEach(async () => {
  for (const double of started.splice(0)) await double.close();
});

describe('what the real one refuses is refused, and nothing is begun', () => {
  it.each([
    ['replicate', { steps: 4 }, 422, /Additional property steps/],
    ['replicate', { input: { prompt: PROMPT, num_outputs: 5 } }, 422, /"invalid_fields"/],
    ['replicate', { webhook: 'http://127.0.0.1/hook' }, 422, /https/],
    ['bfl', { width: 1000 }, 422, /"type":"multiple_of","loc":\["body","width"\]/],
    ['bfl', { height: 2048 }, 422, /less_than_equal/],
    ['bfl', { safety_tolerance: 9 }, 422, /safety_tolerance/],
    ['openai', { n: 11 }, 400, /integer_above_max_value/],
    ['openai', { seed: 1 }, 400, /Unknown parameter: 'seed'/],
    ['openai', { response_format: 'url' }, 400, /unknown_parameter/],
    ['openai', { size: '1000x1000' }, 400, /"param":"size"/],
    ['openai', { prompt: '' }, 400, /missing_required_parameter/],
    ['gemini', { negative_prompt: 'x' }, 400, /INVALID_ARGUMENT/],
    ['gemini', { generationConfig: { imageConfig: { aspectRatio: '7:3' } } }, 400, /aspect_ratio/],
    ['ideogram', { num_images: 9 }, 400, /num_images/],
    ['ideogram', { aspect_ratio: '16x9', resolution: '1024x1024' }, 400, /exclude/],
    ['stability', { aspect_ratio: '7:3', seed: -1 }, 400, /"errors":\["aspect_ratio[^\]]*seed/],
    ['together', { width: 1001 }, 422, /multiple of 16/],
    ['together', { output_format: 'webp' }, 422, /output_format/],
    ['luma', { model: 'ray-1' }, 400, /"detail"/],
    ['luma', { aspect_ratio: '2:1' }, 400, /aspect_ratio/],
    ['runway', { duration: 30 }, 400, /"issues":\[\{"code":"invalid_value","path":\["duration"\]/],
    ['runway', { ratio: '16x9' }, 400, /ratio/],
  ] as const)('%s %j → %i', async (kind, change, status, words) => {
    const { double, submit } = await start(kind);
    const reply = await submit(change as Json);
    expect(reply.status).toBe(status);
    expect(reply.text).toMatch(words);
    expect(double.paid).toEqual([]);
  });

  it.each([
    ['replicate', 422],
    ['bfl', 422],
    ['openai', 400],
    ['gemini', 400],
    ['ideogram', 400],
    ['stability', 400],
    ['together', 422],
    ['luma', 400],
    ['runway', 400],
  ] as const)('%s refuses parameters on command', async (kind, status) => {
    const { double, submit, follow } = await start(kind);
    double.faults.next('invalid_params');
    expect((await submit()).status).toBe(status);
    expect((await follow(await submit())).status).toBe(200);
  });

  it('fal takes any body, and its model refuses it with the result', async () => {
    const { run, double } = await start('fal');
    expect(await run({ num_images: 9 })).toMatchObject({
      status: 422,
      body: { detail: [{ type: 'less_than_equal', loc: ['body', 'num_images'] }] },
    });
    expect(await run({ prompt: undefined })).toMatchObject({ status: 422, body: { detail: [{ type: 'missing' }] } });
    double.faults.next('invalid_params');
    expect((await run()).status).toBe(422);
  });

  it('stability wants a form, runway its version', async () => {
    const { double, post } = await start('stability');
    expect((await post('/v2beta/stable-image/generate/core', { prompt: PROMPT })).text).toContain(
      'multipart/form-data',
    );
    const large = caller('stability', double).submit({ image: new Blob([Buffer.alloc(11_000_000)]) });
    expect((await large).status).toBe(413);
    const { submit } = await start('runway');
    expect((await submit({}, { 'x-runway-version': '2024-01-01' })).text).toContain('X-Runway-Version');
  });
});

describe('replicate', () => {
  it('lists predictions by time, newest first, so that a lost one is found by its input', async () => {
    const clock = new ManualClock();
    const { double, submit, ask } = await start('replicate', { clock });
    await submit();
    await clock.advance(60_000);
    const since = new Date(clock.now()).toISOString();
    double.faults.next('accept_then_drop');
    await expect(submit({ input: { prompt: 'lost' } })).rejects.toThrow();
    await clock.advance(1000);
    await submit({ input: { prompt: 'later' } });
    const { body } = await ask(`/predictions?created_after=${since}`);
    expect((body.results as Json[]).map((one) => at(one, 'input', 'prompt'))).toEqual(['later', 'lost']);
    expect((body.results as Json[])[1]?.id).toBe(double.paid[1]?.jobId);
    expect(body).toMatchObject({ next: null, previous: null });
  });

  it('pages its list by a hundred', async () => {
    const { submit, ask } = await start('replicate');
    for (let i = 0; i < 101; i++) await submit();
    const { body } = await ask('/predictions');
    expect(body.results).toHaveLength(100);
    expect((await ask(String(body.next))).body.results).toHaveLength(1);
  });

  it('keeps in the log where it was to call back', async () => {
    const { double, submit } = await start('replicate');
    await submit();
    expect(double.paid[0]?.webhook).toBe('https://gw.example/hook?generation=gen_1');
  });

  it('cancels what waits as aborted and what runs as canceled, and can refuse to', async () => {
    const { double, submit, ask, question } = await start('replicate');
    const cancel = async (submitted: Awaited<ReturnType<typeof submit>>) =>
      ask(String(at(submitted.body, 'urls', 'cancel')), { method: 'POST' });
    expect((await cancel(await submit())).body.status).toBe('aborted');
    const running = await submit();
    await ask(question(running));
    await ask(question(running));
    double.faults.next('cancel_refused');
    expect((await cancel(running)).status).toBe(400);
    expect((await cancel(running)).body.status).toBe('canceled');
    expect((await ask(question(running))).body.status).toBe('canceled');
    double.faults.next('aborted');
    const { follow } = caller('replicate', double);
    expect((await follow(await submit())).body.status).toBe('aborted');
  });

  it('holds the line as long as asked, and ends at the deadline it was given', async () => {
    const clock = new ManualClock();
    const { double, post, ask } = await start('replicate', { clock, pace: { queuedMs: 0, runningMs: 10_000 } });
    const { path, body } = TONGUES.replicate;
    const waiting = post(path, body, { prefer: 'wait=5', 'cancel-after': '8s' });
    await until(() => clock.pending > 0, 'the wait');
    await clock.advance(5000);
    const { body: held } = await waiting;
    expect(held).toMatchObject({ status: 'processing', output: null });
    await clock.advance(3000);
    expect((await ask(String(at(held, 'urls', 'get')))).body.status).toBe('canceled');
    expect((await post(path, body, { 'cancel-after': '2s' })).status).toBe(400);
    expect(double.paid).toHaveLength(1);
  });

  it('makes any version by the same words', async () => {
    const { post, double } = await start('replicate');
    const version = 'a'.repeat(64);
    expect((await post('/predictions', { version, input: { prompt: PROMPT } })).body.version).toBe(version);
    expect((await post('/predictions', { input: { prompt: PROMPT } })).status).toBe(422);
    expect(double.paid).toHaveLength(1);
  });
});

describe('fal', () => {
  it('answers below owner and app only', async () => {
    const { submit, ask } = await start('fal');
    const { body } = await submit();
    expect(body.status_url).toMatch(/\/fal-ai\/flux\/requests\/[^/]+\/status$/);
    expect((await ask(`/fal-ai/flux/dev/requests/${body.request_id}/status`)).status).toBe(405);
    expect((await ask(String(body.response_url))).status).toBe(400);
  });

  it('cancels, and says so by a completed status and a 499', async () => {
    const { double, submit, ask, question } = await start('fal');
    const submitted = await submit();
    const cancel = () => ask(String(submitted.body.cancel_url), { method: 'PUT' });
    double.faults.next('cancel_refused');
    expect(await cancel()).toMatchObject({ status: 400, body: { status: 'ALREADY_COMPLETED' } });
    expect(await cancel()).toMatchObject({ status: 202, body: { status: 'CANCELLATION_REQUESTED' } });
    expect((await ask(question(submitted))).body).toMatchObject({
      status: 'COMPLETED',
      error_type: 'client_cancelled',
    });
    expect((await ask(String(submitted.body.response_url))).status).toBe(499);
  });
});

describe('deleting', () => {
  it.each(['luma', 'runway'] as const)('%s: stops what runs, and destroys what is done', async (kind) => {
    const { double, submit, follow, ask, question } = await start(kind);
    const running = await submit();
    double.faults.next('cancel_refused');
    expect((await ask(question(running), { method: 'DELETE' })).status).toBeGreaterThanOrEqual(400);
    expect((await ask(question(running), { method: 'DELETE' })).status).toBe(204);
    expect(double.jobs[0]?.state).toBe('cancelled');
    const done = await submit();
    await follow(done);
    await ask(question(done), { method: 'DELETE' });
    expect((await ask(question(done))).status).toBe(404);
    expect(double.log.at(-2)?.what).toBe('deleted');
  });
});

describe('synchronous forms', () => {
  it('openai edits take a form with a picture, and generations stream partial ones', async () => {
    const { double, ask, post } = await start('openai');
    const image = new Blob(
      [
        await sharp({ create: { width: 8, height: 8, channels: 3, background: 'red' } })
          .png()
          .toBuffer(),
      ],
      { type: 'image/png' },
    );
    const edited = await ask('/images/edits', {
      method: 'POST',
      body: form({ model: 'gpt-image-1.5', prompt: PROMPT, 'image[]': image }),
    });
    expect(inline(edited)).toHaveLength(1);
    const [entry] = double.log.filter((one) => one.what === 'request');
    expect(at(entry?.body, 'image')).toMatchObject({ mime: 'image/png', bytes: expect.any(Buffer) });
    expect((await post('/images/edits', { prompt: PROMPT })).status).toBe(400);
    const { text } = await post('/images/generations', { prompt: PROMPT, stream: true, partial_images: 2 });
    expect(text.match(/^event: .*/gm)).toEqual([
      'event: image_generation.partial_image',
      'event: image_generation.partial_image',
      'event: image_generation.completed',
    ]);
  });

  it('stability gives bytes to those who ask for them', async () => {
    const { double } = await start('stability');
    const headers = { authorization: `Bearer ${double.key}`, accept: 'image/*' };
    const response = await fetch(`${double.url}/v2beta/stable-image/generate/sd3`, {
      method: 'POST',
      headers,
      body: form({ prompt: PROMPT, seed: 5, output_format: 'jpeg' }),
    });
    expect([response.headers.get('seed'), response.headers.get('finish-reason')]).toEqual(['5', 'SUCCESS']);
    expect((await sharp(Buffer.from(await response.arrayBuffer())).metadata()).format).toBe('jpeg');
  });

  it('ideogram quotes without billing, and still speaks its older forms', async () => {
    const { double, post, ask, submit } = await start('ideogram');
    expect((await submit({ dry_run: true })).body.usage_cost_usd_micros).toBe(120_000);
    expect(double.paid).toEqual([]);
    expect(links(double, await submit({ async: false }))).toHaveLength(2);
    const old = await post('/generate', {
      image_request: { prompt: PROMPT, model: 'V_2', aspect_ratio: 'ASPECT_16_9' },
    });
    expect(links(double, old)).toHaveLength(1);
    const v3 = await ask('/v1/ideogram-v3/generate', {
      method: 'POST',
      body: form({ prompt: PROMPT, aspect_ratio: '16x9' }),
    });
    expect(links(double, v3)).toHaveLength(1);
    expect((await post('/generate', { image_request: { prompt: PROMPT, model: 'V_9' } })).status).toBe(400);
  });

  it('together gives base64 where it is asked for', async () => {
    const { submit } = await start('together');
    expect(inline(await submit({ response_format: 'base64' }))).toHaveLength(2);
  });

  it('gemini draws nothing for those who ask for text', async () => {
    const { submit } = await start('gemini');
    expect(at((await submit({ generationConfig: {} })).body, 'candidates', 0, 'finishReason')).toBe('STOP');
  });

  it('keeps the line open as long as the work takes, and goes on when the caller leaves', async () => {
    const clock = new ManualClock();
    const { double, submit } = await start('together', { clock, pace: { queuedMs: 0, runningMs: 30_000 } });
    const answer = submit();
    await until(() => clock.pending > 0, 'the work');
    expect(double.paid).toHaveLength(1);
    await clock.advance(30_000);
    expect((await answer).status).toBe(200);
  });
});

it('can be out of reach and come back with its jobs', async () => {
  const { double, submit, follow } = await start('bfl');
  const submitted = await submit();
  await double.down();
  await expect(follow(submitted)).rejects.toThrow();
  await double.up();
  expect((await follow(submitted)).body.status).toBe('Ready');
});

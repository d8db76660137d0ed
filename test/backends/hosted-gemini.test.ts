// Gemini's picture models, against a stand-in.

import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { gemini } from '../../src/backends/gemini/provider.ts';
import { pngSize } from '../doubles/pictures.ts';
import { openAccount } from './hosted-account.ts';
import { answersAtOnce } from './hosted-at-once.ts';

const REMOTE = 'gemini-3.1-flash-image';
const reply = (status: number, body: unknown, headers: Readonly<Record<string, string>> = {}) => ({
  status,
  header: (name: string) => headers[name] ?? null,
  body,
});

answersAtOnce({ provider: gemini, remote: REMOTE });

test('a picture is asked for by its shape and class of size', async () => {
  const stage = await openAccount(gemini, REMOTE);
  const { failure, files, warnings } = await stage.run(stage.job({ width: 1920, height: 1080 }));
  expect(failure).toBeNull();
  expect(warnings).toEqual([]);
  expect(stage.requests()).toMatchObject([{ method: 'POST', path: `/v1beta/models/${REMOTE}:generateContent` }]);
  expect(stage.body()).toEqual({
    contents: [{ role: 'user', parts: [{ text: 'a red bicycle' }] }],
    generationConfig: {
      responseModalities: ['IMAGE'],
      seed: 7,
      imageConfig: { aspectRatio: '16:9', imageSize: '2K' },
    },
  });
  expect((await files()).map(pngSize)).toEqual([expect.objectContaining({ width: expect.any(Number) })]);
});

test.each([
  [REMOTE, 1024, 1024, { aspectRatio: '1:1', imageSize: '1K' }],
  [REMOTE, 4096, 3072, { aspectRatio: '4:3', imageSize: '4K' }],
  ['models/gemini-2.5-flash-image', 2048, 2048, { aspectRatio: '1:1' }],
])('%s asked for %ix%i is told %o', async (remote, width, height, imageConfig) => {
  const stage = await openAccount(gemini, remote);
  expect((await stage.run(stage.job({ width, height }))).failure).toBeNull();
  expect(stage.body()).toMatchObject({ generationConfig: { imageConfig } });
});

test('what it does not take is left out with a warning', async () => {
  const stage = await openAccount(gemini, REMOTE);
  const { failure, warnings } = await stage.run(
    stage.job({ width: 1000, height: 520, seed: 2 ** 31 + 5, negativePrompt: 'rain', steps: 4, guidance: 2 }),
  );
  expect(failure).toBeNull();
  expect(stage.body()).toMatchObject({ generationConfig: { seed: 5, imageConfig: { aspectRatio: '16:9' } } });
  expect(warnings).toEqual([
    'The provider does not make 1000x520; it was asked for 16:9.',
    ...['negative_prompt', 'steps', 'guidance'].map((name) => `The provider does not take ${name}; it was left out.`),
  ]);
});

test('an input picture goes before the words, and a mask is refused', async () => {
  const stage = await openAccount(gemini, REMOTE);
  const image = await stage.file('init_image', 90);
  expect((await stage.run(stage.job({}, { files: [image] }))).failure).toBeNull();
  const { contents } = stage.body() as { contents: [{ parts: [{ inlineData: { data: string } }, unknown] }] };
  const [{ inlineData }, words] = contents[0].parts;
  expect(inlineData).toEqual({ mimeType: 'image/png', data: expect.any(String) });
  expect((await sharp(Buffer.from(inlineData.data, 'base64')).stats()).channels[0]?.mean).toBe(90);
  expect(words).toEqual({ text: 'a red bicycle' });

  const { failure, refused } = await stage.run(stage.job({}, { files: [image, await stage.file('mask', 0, 255)] }));
  expect(failure).toMatchObject({ code: 'unsupported_input' });
  expect([refused, stage.double.paid.length]).toEqual([true, 1]);
});

describe('several pictures', () => {
  test('are several calls with a seed each, every one stored before it is sent', async () => {
    const stage = await openAccount(gemini, REMOTE);
    const { failure, files, events } = await stage.run(stage.job({ n: 3 }));
    expect(failure).toBeNull();
    expect(new Set((await files()).map((file) => file.toString('base64'))).size).toBe(3);
    const seeds = stage
      .requests('POST')
      .map(({ body }) => (body as { generationConfig: { seed: number } }).generationConfig.seed);
    expect(seeds).toEqual([7, 8, 9]);
    expect(events.filter(({ type }) => type === 'intent')).toHaveLength(3);
    expect(stage.double.paid).toHaveLength(3);
  });

  test.each([
    ['withheld', 'moderation_output'],
    ['refused', 'moderation_input'],
    ['lost', 'accept_then_drop'],
  ] as const)('one %s: the others are delivered, with a warning', async (_, fault) => {
    const stage = await openAccount(gemini, REMOTE);
    let sent = 0;
    const run = stage.connection.run(stage.job({ n: 2 }), new AbortController().signal);
    const warnings: string[] = [];
    let files = 0;
    for await (const event of run) {
      if (event.type === 'intent' && ++sent === 2) stage.double.faults.next(fault);
      if (event.type === 'warning') warnings.push(event.message);
      if (event.type === 'file') files++;
    }
    expect(files).toBe(1);
    expect(warnings).toEqual([expect.stringMatching(/^1 of the pictures asked for is missing/)]);
    expect(stage.requests('POST')).toHaveLength(2);
  });

  test('killed before the second was sent, nothing is sent again', async () => {
    const stage = await openAccount(gemini, REMOTE);
    const job = stage.job({ n: 2 });
    const stored = await stage.killedAfter(job, 'intent', 2);
    const { failure } = await stage.resume(job, stored);
    expect(failure).toMatchObject({ code: 'node_lost', retryable: false, possiblyBilled: true });
    expect(stage.double.paid).toHaveLength(1);
  });
});

describe('what an answer means', () => {
  const outcome = (body: unknown) => gemini.begun(reply(200, body), {} as never);
  const withheld = { outcome: { state: 'done', results: [], withheld: 1 } };

  test.each(['IMAGE_SAFETY', 'PROHIBITED_CONTENT', 'RECITATION', 'SPII'])('%s is a withheld picture', (finishReason) =>
    expect(outcome({ candidates: [{ finishReason }] })).toEqual(withheld),
  );

  test('words instead of a picture are no picture', () =>
    expect(outcome({ candidates: [{ finishReason: 'STOP', content: { parts: [{ text: 'I cannot' }] } }] })).toEqual({
      outcome: { state: 'done', results: [], withheld: 0 },
    }));

  test('a picture of its thoughts is not the result', () => {
    const picture = (data: string) => ({ inlineData: { mimeType: 'image/png', data } });
    const parts = [{ ...picture('AAAA'), thought: true }, { text: 'here' }, picture('BBBB')];
    expect(outcome({ candidates: [{ finishReason: 'STOP', content: { parts } }] })).toEqual({
      outcome: { state: 'done', results: [{ base64: 'BBBB' }] },
    });
  });
});

describe('what a refusal means', () => {
  const refused = (status: number, error: object, headers = {}) =>
    gemini.refused(reply(status, { error }, headers), 'submit');
  const QUOTA = 'You exceeded your current quota, please check your plan and billing details.';
  const busy = { retryDelay: '12.5s' };
  const none = { violations: [{ quotaValue: '0' }] };
  const some = { violations: [{ quotaValue: '100' }] };

  test.each([
    [429, { message: QUOTA }, 'provider_balance'],
    [429, { message: QUOTA, details: [none, busy] }, 'provider_balance'],
    [429, { message: QUOTA, details: [some, busy] }, 'rate_limited'],
    [429, { message: 'Resource has been exhausted (e.g. check quota).' }, 'rate_limited'],
    [403, { status: 'PERMISSION_DENIED', details: [{ reason: 'BILLING_DISABLED' }] }, 'provider_balance'],
    [403, { status: 'PERMISSION_DENIED' }, 'provider_auth'],
    [400, { status: 'INVALID_ARGUMENT', details: [{ reason: 'API_KEY_INVALID' }] }, 'provider_auth'],
    [400, { status: 'INVALID_ARGUMENT', message: 'API key expired. Please renew the API key.' }, 'provider_auth'],
    [400, { status: 'FAILED_PRECONDITION', message: 'Please enable billing' }, 'provider_balance'],
    [400, { status: 'FAILED_PRECONDITION', message: 'User location is not supported' }, 'provider_auth'],
    [503, { status: 'UNAVAILABLE', message: 'The model is overloaded.' }, 'node_lost'],
    [504, { status: 'DEADLINE_EXCEEDED' }, 'node_lost'],
  ] as const)('%i %o is %s', (status, error, code) => expect(refused(status, error).code).toBe(code));

  test('a busy minute says when to come back', () =>
    expect(refused(429, { message: QUOTA, details: [busy] })).toMatchObject({ retryAfterSeconds: 13 }));

  test('whoever says when to come back is not out of money', () =>
    expect(refused(429, { message: QUOTA }, { 'retry-after': '20' }).code).toBe('rate_limited'));
});

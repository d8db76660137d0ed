// The stand-ins whose answer is the result, as the providers' own clients see them: OpenAI's, Together's and Google's. What
// a published client cannot read, or reads as another error than it is, the stand-in has wrong.

import { ApiError, GoogleGenAI } from '@google/genai';
import OpenAI, { toFile } from 'openai';
import Together from 'together-ai';
import { describe, expect, it } from 'vitest';
import { startHosted } from './hosted.ts';
import {
  errorOf,
  fetched,
  geminiOf,
  inBase64,
  openaiOf,
  PNG,
  PNG_URL,
  requestsTo,
  togetherOf,
} from './official-clients.ts';

const prompt = 'a red bicycle';

describe("OpenAI's client", () => {
  const asked = { model: 'gpt-image-1.5', prompt, size: '1536x1024' } as const;

  it('makes pictures and reads them, with what they cost', async () => {
    await using double = await startHosted('openai');
    const made = await openaiOf(double).images.generate({ ...asked, n: 2, output_format: 'webp' });
    const pictures = made.data?.map(({ b64_json }) => inBase64(b64_json)) ?? [];
    expect(await Promise.all(pictures)).toEqual(['webp 1536x1024', 'webp 1536x1024']);
    expect(made).toMatchObject({ size: '1536x1024', output_format: 'webp', background: 'opaque' });
    expect(made.usage?.total_tokens).toBe(50 + 2 * 1056);
    expect(double.paid).toHaveLength(1);
  });

  it.each([
    ['one picture', 1],
    ['several', 2],
  ])('changes %s under a mask, as a form', async (_, count) => {
    await using double = await startHosted('openai');
    const files = await Promise.all(Array.from({ length: count }, () => toFile(PNG, 'a.png', { type: 'image/png' })));
    const image = count === 1 && files[0] ? files[0] : files;
    const mask = await toFile(PNG, 'mask.png', { type: 'image/png' });
    const made = await openaiOf(double).images.edit({ ...asked, image, mask, input_fidelity: 'high' });
    expect(await inBase64(made.data?.[0]?.b64_json)).toBe('png 1536x1024');
    const body = requestsTo(double, 'POST')[0]?.body as { image: unknown; mask: unknown };
    expect([body.image].flat()).toEqual(files.map(() => ({ filename: 'a.png', mime: 'image/png', bytes: PNG })));
    expect(body.mask).toMatchObject({ filename: 'mask.png' });
  });

  it('sees a picture come, event by event', async () => {
    await using double = await startHosted('openai');
    const client = openaiOf(double);
    const events: string[] = [];
    for await (const event of await client.images.generate({ ...asked, stream: true, partial_images: 2 })) {
      events.push(event.type);
      expect(await inBase64(event.b64_json)).toBe('png 1536x1024');
      if (event.type === 'image_generation.completed') expect(event.usage.output_tokens).toBe(1056);
    }
    const image = await toFile(PNG, 'a.png', { type: 'image/png' });
    for await (const event of await client.images.edit({ ...asked, image, stream: true })) events.push(event.type);
    const partial = 'image_generation.partial_image';
    expect(events).toEqual([partial, partial, 'image_generation.completed', 'image_edit.completed']);
  });

  it.each([
    ['rate_limited', OpenAI.RateLimitError, 429, 'rate_limit_exceeded'],
    ['balance', OpenAI.RateLimitError, 429, 'insufficient_quota'],
    ['auth', OpenAI.AuthenticationError, 401, 'invalid_api_key'],
    ['moderation_input', OpenAI.BadRequestError, 400, 'moderation_blocked'],
    ['moderation_output', OpenAI.BadRequestError, 400, 'moderation_blocked'],
    ['invalid_params', OpenAI.BadRequestError, 400, 'invalid_value'],
    ['model_gone', OpenAI.NotFoundError, 404, 'model_not_found'],
    ['submit_500', OpenAI.InternalServerError, 500, null],
  ] as const)('knows %s as its own error', async (fault, kind, status, code) => {
    await using double = await startHosted('openai');
    double.faults.next(fault);
    const error = await errorOf(openaiOf(double).images.generate(asked));
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ status, code, requestID: expect.stringMatching(/^req_/) });
    expect(requestsTo(double, 'POST')).toHaveLength(1);
  });

  it('reads where a prompt was stopped', async () => {
    await using double = await startHosted('openai');
    double.faults.next('moderation_input');
    const error = await errorOf(openaiOf(double).images.generate(asked));
    expect(error).toMatchObject({ error: { moderation_details: { moderation_stage: 'input' } } });
  });

  it('is told which parameter is not known, by route', async () => {
    await using double = await startHosted('openai');
    const client = openaiOf(double);
    const image = await toFile(PNG, 'a.png', { type: 'image/png' });
    const foreign = { ...asked, image, moderation: 'low' };
    expect(await errorOf(client.images.edit(foreign))).toMatchObject({
      code: 'unknown_parameter',
      param: 'moderation',
    });
    await client.images.generate({ ...asked, moderation: 'low', safety_identifier: 'hashed' });
    expect(double.paid).toHaveLength(1);
  });
});

describe("Together's client", () => {
  const asked = { model: 'black-forest-labs/FLUX.1-schnell', prompt, width: 512, height: 256, steps: 4 } as const;

  it('makes pictures and fetches them', async () => {
    await using double = await startHosted('together');
    const { data, object, id } = await togetherOf(double).images.generate({ ...asked, n: 2 });
    expect(await Promise.all(data.map(({ url }) => fetched(url)))).toEqual(['jpeg 512x256', 'jpeg 512x256']);
    expect([object, data.map(({ index, type }) => `${index} ${type}`)]).toEqual(['list', ['0 url', '1 url']]);
    expect(id).toBe(double.paid[0]?.jobId);
  });

  it('changes a picture and reads it from the answer', async () => {
    await using double = await startHosted('together');
    const { data } = await togetherOf(double).images.generate({
      model: 'black-forest-labs/FLUX.1-kontext-pro',
      prompt,
      width: 512,
      height: 512,
      image_url: PNG_URL,
      response_format: 'base64',
      output_format: 'png',
    });
    expect(await inBase64(data[0]?.b64_json)).toBe('png 512x512');
  });

  it.each([
    ['rate_limited', Together.RateLimitError, 429],
    ['balance', Together.APIError, 402],
    ['auth', Together.AuthenticationError, 401],
    ['moderation_input', Together.UnprocessableEntityError, 422],
    ['model_gone', Together.NotFoundError, 404],
    ['submit_500', Together.InternalServerError, 500],
  ] as const)('knows %s as its own error', async (fault, kind, status) => {
    await using double = await startHosted('together');
    double.faults.next(fault);
    const error = await errorOf(togetherOf(double).images.generate(asked));
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({
      status,
      error: { error: { message: expect.any(String), type: expect.any(String) } },
    });
    expect(requestsTo(double, 'POST')).toHaveLength(1);
  });
});

describe("Google's client", () => {
  const model = 'gemini-3-pro-image';
  const config = { responseModalities: ['IMAGE'], imageConfig: { aspectRatio: '1:1' } };

  it('makes a picture and reads it', async () => {
    await using double = await startHosted('gemini');
    const made = await geminiOf(double).models.generateContent({ model, contents: prompt, config });
    expect(await inBase64(made.data)).toBe('png 1024x1024');
    expect(made.candidates?.[0]?.finishReason).toBe('STOP');
    expect(made.usageMetadata?.totalTokenCount).toBe(1302);
    expect(double.paid).toMatchObject([{ model, prompt }]);
  });

  it('changes a picture', async () => {
    await using double = await startHosted('gemini');
    const inlineData = { mimeType: 'image/png', data: PNG.toString('base64') };
    const made = await geminiOf(double).models.generateContent({
      model,
      contents: [{ text: prompt }, { inlineData }],
      config: { ...config, seed: 7, safetySettings: [] },
    });
    expect(await inBase64(made.data)).toBe('png 1024x1024');
  });

  it.each([
    ['rate_limited', 429],
    ['balance', 429],
    ['auth', 400],
    ['invalid_params', 400],
    ['model_gone', 404],
    ['submit_500', 500],
  ] as const)('knows %s as its error', async (fault, status) => {
    await using double = await startHosted('gemini');
    double.faults.next(fault);
    const error = await errorOf(geminiOf(double).models.generateContent({ model, contents: prompt, config }));
    expect(error).toBeInstanceOf(ApiError);
    expect(error).toMatchObject({ status });
    expect(JSON.parse(error.message)).toMatchObject({ error: { code: status } });
    expect(requestsTo(double, 'POST')).toHaveLength(1);
  });

  it('reads the ways of giving no picture', async () => {
    await using double = await startHosted('gemini');
    const ask = () => geminiOf(double).models.generateContent({ model, contents: prompt, config });
    double.faults.next('moderation_input');
    expect((await ask()).promptFeedback).toEqual({ blockReason: 'PROHIBITED_CONTENT' });
    double.faults.next('moderation_output');
    expect((await ask()).candidates).toMatchObject([{ finishReason: 'IMAGE_SAFETY' }]);
    double.faults.next('zero_images');
    expect((await ask()).text).toMatch(/cannot draw/);
  });

  it('pays twice for nothing, unless it is told to try again', async () => {
    await using double = await startHosted('gemini');
    double.faults.on('failed_opaque');
    await errorOf(geminiOf(double).models.generateContent({ model, contents: prompt, config }));
    expect(double.paid).toHaveLength(1);
    const retryOptions = { attempts: 3, initialDelay: 0.001, maxDelay: 0.001 };
    const eager = new GoogleGenAI({ apiKey: double.key, httpOptions: { baseUrl: double.url, retryOptions } });
    await errorOf(eager.models.generateContent({ model, contents: prompt, config }));
    expect(double.paid).toHaveLength(1 + 3);
  });
});

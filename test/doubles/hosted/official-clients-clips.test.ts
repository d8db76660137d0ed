// The stand-ins of Runway and Luma as their own clients see them, and what it costs to leave sending again to the clients
// that their makers generate: as many jobs as attempts.

import RunwayML, { TaskFailedError } from '@runwayml/sdk';
import LumaAI from 'lumaai';
import { describe, expect, it } from 'vitest';
import { type HostedKind, startHosted } from './hosted.ts';
import { errorOf, fetched, lumaOf, openaiOf, PNG_URL, requestsTo, runwayOf, togetherOf } from './official-clients.ts';

const prompt = 'a red bicycle';
/** Done when it is first asked after: Runway's client pauses for six seconds between questions. */
const AT_ONCE = { pace: { queuedPolls: 0, runningPolls: 0 } } as const;

describe("Runway's client", () => {
  const asked = { model: 'gen4.5', promptText: prompt, ratio: '1280:720', duration: 5 } as const;

  it('makes a clip, follows its task and fetches it', async () => {
    await using double = await startHosted('runway');
    const { textToVideo, tasks } = runwayOf(double);
    const { id, estimatedCost } = await textToVideo.create(asked);
    expect([(await tasks.retrieve(id)).status, await tasks.retrieve(id)]).toMatchObject([
      'PENDING',
      { status: 'RUNNING', progress: 0.5, estimatedCost },
    ]);
    const task = await tasks.retrieve(id).waitForTaskOutput();
    expect(task).toMatchObject({ id, cost: { credits: 25 } });
    expect(await fetched(task.output[0])).toBe('mp4');
    expect(requestsTo(double, 'POST')[0]?.headers['x-runway-version']).toBe('2024-11-06');
  });

  it('makes a clip from a picture, and a picture from a picture', async () => {
    await using double = await startHosted('runway', AT_ONCE);
    const { imageToVideo, textToImage, tasks } = runwayOf(double);
    const clip = await imageToVideo.create({ ...asked, promptImage: [{ uri: PNG_URL, position: 'first' }] });
    expect(await fetched((await tasks.retrieve(clip.id).waitForTaskOutput()).output[0])).toBe('mp4');
    const picture = await textToImage.create({
      model: 'gen4_image',
      promptText: prompt,
      ratio: '1280:720',
      referenceImages: [{ uri: PNG_URL }],
    });
    expect(await fetched((await tasks.retrieve(picture.id).waitForTaskOutput()).output[0])).toBe('png 1280x720');
  });

  it.each([
    ['moderation_input', 'SAFETY.INPUT.TEXT'],
    ['moderation_output', 'SAFETY.OUTPUT.THIRD_PARTY'],
    ['failed_opaque', 'INTERNAL.BAD_OUTPUT.CODE01'],
  ] as const)('reads %s as a failed task', async (fault, failureCode) => {
    await using double = await startHosted('runway', AT_ONCE);
    double.faults.next(fault);
    const { id } = await runwayOf(double).textToVideo.create(asked);
    const error = await errorOf(runwayOf(double).tasks.retrieve(id).waitForTaskOutput());
    expect(error).toBeInstanceOf(TaskFailedError);
    expect(error).toMatchObject({ taskDetails: { status: 'FAILED', failureCode } });
  });

  it('cancels a task that runs, and destroys one that is done', async () => {
    await using double = await startHosted('runway');
    const { textToVideo, tasks } = runwayOf(double);
    const { id } = await textToVideo.create(asked);
    await tasks.delete(id);
    expect(await errorOf(tasks.retrieve(id).waitForTaskOutput())).toMatchObject({ message: 'Task cancelled' });
    const done = await textToVideo.create(asked);
    for (let i = 0; i < 3; i++) await tasks.retrieve(done.id);
    await tasks.delete(done.id);
    expect(await errorOf(tasks.retrieve(done.id))).toBeInstanceOf(RunwayML.NotFoundError);
  });

  it.each([
    ['rate_limited', RunwayML.RateLimitError, 429],
    ['balance', RunwayML.BadRequestError, 400],
    ['auth', RunwayML.AuthenticationError, 401],
    ['invalid_params', RunwayML.BadRequestError, 400],
    ['submit_500', RunwayML.InternalServerError, 500],
  ] as const)('knows %s as its own error', async (fault, kind, status) => {
    await using double = await startHosted('runway');
    double.faults.next(fault);
    const error = await errorOf(runwayOf(double).textToVideo.create(asked));
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ status, error: { error: expect.any(String) } });
    expect(requestsTo(double, 'POST')).toHaveLength(1);
  });
});

describe("what Runway's types demand is demanded", () => {
  const lacking = { model: 'gen4.5', promptText: prompt, ratio: '1280:720' } as const;

  it.each([
    ['textToVideo', lacking, 'duration'],
    ['textToVideo', { ...lacking, ratio: '960:960', duration: 5 }, 'ratio'],
    ['imageToVideo', { ...lacking, promptText: undefined, duration: 5, promptImage: PNG_URL }, 'promptText'],
    ['textToImage', { ...lacking, model: 'gen4_image_turbo' }, 'referenceImages'],
  ] as const)('%s without %j', async (kind, body, field) => {
    await using double = await startHosted('runway');
    const error = await errorOf(runwayOf(double)[kind].create(body as never));
    expect(error).toMatchObject({ status: 400, error: { issues: [{ path: [field] }] } });
  });
});

describe("Luma's client", () => {
  const asked = { model: 'ray-2', prompt, duration: '5s', aspect_ratio: '16:9', resolution: '720p' } as const;
  const ended = async ({ generations }: LumaAI, id: string | undefined) => {
    for (let i = 0; i < 9; i++) {
      const generation = await generations.get(id ?? '');
      if (generation.state === 'completed' || generation.state === 'failed') return generation;
    }
    throw new Error('it did not end');
  };

  it('makes a clip, follows it and fetches it', async () => {
    await using double = await startHosted('luma');
    const client = lumaOf(double);
    const begun = await client.generations.create(asked);
    expect(begun).toMatchObject({ state: 'queued', generation_type: 'video', request: asked });
    const made = await ended(client, begun.id);
    expect([made.id, await fetched(made.assets?.video)]).toEqual([begun.id, 'mp4']);
  });

  it('makes a clip from a picture, and a picture from a picture', async () => {
    await using double = await startHosted('luma');
    const client = lumaOf(double);
    const url = 'https://example.com/a.png';
    const clip = await client.generations.video.create({ ...asked, keyframes: { frame0: { type: 'image', url } } });
    expect(await fetched((await ended(client, clip.id)).assets?.video)).toBe('mp4');
    const modify_image_ref = { url, weight: 0.5 };
    const picture = await client.generations.image.create({
      model: 'photon-1',
      prompt,
      format: 'png',
      modify_image_ref,
    });
    expect(await fetched((await ended(client, picture.id)).assets?.image)).toBe('png 1360x768');
  });

  it('deletes a generation, and knows what it has to spend', async () => {
    await using double = await startHosted('luma');
    const client = lumaOf(double);
    const { id = '' } = await client.generations.video.create(asked);
    await client.generations.delete(id);
    expect(await errorOf(client.generations.get(id))).toBeInstanceOf(LumaAI.NotFoundError);
    expect((await client.credits.get()).credit_balance).toBe(10_000);
  });

  it('reads why a generation failed', async () => {
    await using double = await startHosted('luma');
    double.faults.next('moderation_output');
    const client = lumaOf(double);
    const { id } = await client.generations.video.create(asked);
    expect(await ended(client, id)).toMatchObject({
      state: 'failed',
      failure_reason: expect.stringMatching(/moderation/),
    });
  });

  it.each([
    ['rate_limited', LumaAI.RateLimitError, 429],
    ['balance', LumaAI.BadRequestError, 400],
    ['auth', LumaAI.AuthenticationError, 401],
    ['moderation_input', LumaAI.BadRequestError, 400],
    ['submit_500', LumaAI.InternalServerError, 500],
  ] as const)('knows %s as its own error', async (fault, kind, status) => {
    await using double = await startHosted('luma');
    double.faults.next(fault);
    const error = await errorOf(lumaOf(double).generations.video.create(asked));
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ status, error: { detail: expect.any(String) } });
    expect(requestsTo(double, 'POST')).toHaveLength(1);
  });
});

describe('generated clients that may send again', () => {
  const RETRIES = 2;
  type Asking = (double: { url: string; key: string }) => PromiseLike<unknown>;
  const ASKING = {
    openai: (it) => openaiOf(it, RETRIES).images.generate({ model: 'gpt-image-1.5', prompt }),
    together: (it) => togetherOf(it, RETRIES).images.generate({ model: 'black-forest-labs/FLUX.1-schnell', prompt }),
    runway: (it) =>
      runwayOf(it, RETRIES).textToVideo.create({ model: 'gen4.5', promptText: prompt, ratio: '1280:720', duration: 5 }),
    luma: (it) => lumaOf(it, RETRIES).generations.video.create({ model: 'ray-2', prompt }),
  } satisfies Partial<Record<HostedKind, Asking>>;
  const KINDS = Object.keys(ASKING) as (keyof typeof ASKING)[];

  it('begin a job with each attempt, and name none of them the same', async () => {
    const paid = KINDS.map(async (kind) => {
      await using double = await startHosted(kind);
      double.faults.on('accept_then_drop');
      await errorOf(ASKING[kind](double));
      const keys = requestsTo(double, 'POST').filter(({ headers }) => 'idempotency-key' in headers);
      return [kind, double.paid.length, keys.length];
    });
    expect(await Promise.all(paid)).toEqual(KINDS.map((kind) => [kind, 1 + RETRIES, 0]));
  });

  it.each(KINDS)('%s: wait as long as a limit says, and are paid for once', async (kind) => {
    await using double = await startHosted(kind);
    double.faults.next('rate_limited', { ms: 0 });
    await ASKING[kind](double);
    expect([requestsTo(double, 'POST').length, double.paid.length]).toEqual([2, 1]);
  });
});

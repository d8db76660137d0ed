import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import sharp from 'sharp';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type InputFile, type Job, Refusal, type RunEvent } from '../../src/backends/backend.ts';
import { connectSketch } from '../../src/backends/sketch/client.ts';
import { label } from '../../src/backends/sketch/picture.ts';
import { parseRehearsal } from '../../src/backends/sketch/rehearsal.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import type { Params } from '../../src/domain/params.ts';
import { settle } from '../harness/manual-clock.ts';
import { paramsOf } from '../harness/params.ts';
import { testSystem } from '../harness/system.ts';

const params = paramsOf({ prompt: 'a lighthouse over a calm sea', width: 128, height: 96, steps: 8 });
const route = { backend: 'sketch', labels: [], checkpoint: null, workflow: null, remote: null, account: null } as const;
const job = (over: Partial<Params> = {}, more: Partial<Job> = {}): Job => ({
  id: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0',
  attempt: 1,
  kind: 'image',
  route,
  recipe: null,
  params: { ...params, ...over },
  files: [],
  previews: false,
  ...more,
});

const system = testSystem();
const renderer = connectSketch({
  spec: { id: 'sketch', kind: 'sketch', url: '', labels: [], auth: null, slots: 2 },
  system,
  scratch: tmpdir(),
});
const forever = new AbortController().signal;

async function run(work: Job, signal = forever): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of renderer.run(work, signal)) events.push(event);
  return events;
}

async function draw(work: Job): Promise<Buffer[]> {
  const files = (await run(work)).filter((event) => event.type === 'file');
  return Promise.all(files.map(async ({ file }) => buffer(await file.open(forever))));
}

async function one(work: Job): Promise<Buffer> {
  const [picture] = await draw(work);
  if (!picture) throw new Error('no picture came');
  return picture;
}

/** Mean difference of two pictures per channel, 0…255; optionally of one region only. */
async function distance(a: Buffer, b: Buffer, region?: { left: number; top: number; width: number; height: number }) {
  const pixels = (bytes: Buffer) => {
    const picture = sharp(bytes).removeAlpha();
    return (region ? picture.extract(region) : picture).raw().toBuffer();
  };
  const [x, y] = await Promise.all([pixels(a), pixels(b)]);
  return x.reduce((sum, value, i) => sum + Math.abs(value - (y[i] ?? 0)), 0) / x.length;
}

const failureOf = async (work: Promise<unknown>) => {
  const thrown = await work.then(
    () => undefined,
    (error: unknown) => error,
  );
  if (!(thrown instanceof GatewayError)) throw new Error(`expected a GatewayError, got ${String(thrown)}`);
  return thrown;
};

describe('a sketch', () => {
  it('repeats to the byte for equal prompt, seed and size', async () => {
    expect((await one(job())).equals(await one(job()))).toBe(true);
  });

  it('looks different for another seed, and for another prompt', async () => {
    const first = await one(job());
    expect(await distance(first, await one(job({ seed: 8 })))).toBeGreaterThan(10);
    expect(await distance(first, await one(job({ prompt: 'a fox' })))).toBeGreaterThan(10);
  });

  it('has the size asked for, also very small and very wide', async () => {
    for (const [width, height] of [
      [128, 96],
      [16, 16],
      [1536, 64],
    ] as const) {
      const { format, ...size } = await sharp(await one(job({ width, height }))).metadata();
      expect([format, size.width, size.height]).toEqual(['png', width, height]);
    }
  });

  it('draws output k of n with seed + k', async () => {
    const three = await draw(job({ n: 3 }));
    expect(three).toHaveLength(3);
    expect(three[2]?.equals(await one(job({ seed: 9 })))).toBe(true);
  });

  it('carries its label, cut to the width, in letters that need no font', () => {
    const subject = { prompt: 'a fox', seed: 1, width: 800, height: 600, steps: 1 };
    const lengthOf = (over: Partial<typeof subject>) => label({ ...subject, ...over }).length;
    expect(label(subject)).toContain('<path d="M');
    expect(label(subject)).not.toContain('<text');
    expect(lengthOf({ prompt: 'a fox in the snow' })).toBeGreaterThan(lengthOf({}));
    expect(lengthOf({ prompt: '雪の中の狐' })).toBe(lengthOf({ prompt: '' }));
    expect(lengthOf({ prompt: 'fox '.repeat(50) })).toBeLessThan(lengthOf({ prompt: 'fox '.repeat(50), width: 1600 }));
  });

  it('tells every step in order, then that it rendered, then hands over the files', async () => {
    const events = await run(job({ steps: 3, n: 2 }));
    expect(events.map((event) => (event.type === 'progress' ? event.message : event.type))).toEqual([
      'drawing step 1/3 of picture 1/2',
      'drawing step 2/3 of picture 1/2',
      'drawing step 3/3 of picture 1/2',
      'drawing step 1/3 of picture 2/2',
      'drawing step 2/3 of picture 2/2',
      'drawing step 3/3 of picture 2/2',
      'rendered',
      'file',
      'file',
    ]);
    const fractions = events.flatMap((event) => (event.type === 'progress' ? [event.fraction] : []));
    expect(fractions).toEqual([...fractions].sort((a, b) => a - b));
    expect(fractions.at(-1)).toBeLessThan(1);
  });

  it('can be opened again after a broken download', async () => {
    const event = (await run(job())).find((candidate) => candidate.type === 'file');
    if (event?.type !== 'file') throw new Error('no file came');
    const [first, second] = [
      await buffer(await event.file.open(forever)),
      await buffer(await event.file.open(forever)),
    ];
    expect(first.equals(second)).toBe(true);
  });

  it('sends previews only to those who ask', async () => {
    expect((await run(job())).some((event) => event.type === 'preview')).toBe(false);
    const previews = (await run(job({}, { previews: true }))).filter((event) => event.type === 'preview');
    expect(previews).toHaveLength(3);
    expect((await sharp(previews[0]?.bytes).metadata()).format).toBe('jpeg');
  });

  it('refuses to make anything but pictures', async () => {
    const error = await failureOf(run(job({}, { kind: 'video' })));
    expect(error).toBeInstanceOf(Refusal);
    expect(error.failure.code).toBe('unsupported_input');
  });
});

describe('a sketch over a picture', () => {
  let scratch: string;
  const grey = { r: 128, g: 128, b: 128 };
  const file = async (role: InputFile['role'], left: string, right: string): Promise<InputFile> => {
    const path = join(scratch, `${role}.png`);
    const half = await sharp({ create: { width: 50, height: 80, channels: 3, background: left } })
      .png()
      .toBuffer();
    await sharp({ create: { width: 100, height: 80, channels: 3, background: right } })
      .composite([{ input: half, left: 0, top: 0 }])
      .png()
      .toFile(path);
    return { role, path, mediaType: 'image/png', sha256: '', bytes: 0 };
  };
  beforeEach(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'sketch-'));
  });
  afterEach(() => rm(scratch, { recursive: true }));

  it('shows the picture through, the more the lower the strength', async () => {
    const files = [await file('init_image', '#808080', '#808080')];
    const base = await sharp({ create: { width: 128, height: 96, channels: 3, background: grey } })
      .png()
      .toBuffer();
    const region = { left: 0, top: 0, width: 128, height: 70 };
    const faint = await distance(base, await one(job({ strength: 0.1 }, { files })), region);
    const strong = await distance(base, await one(job({ strength: 1 }, { files })), region);
    expect(faint).toBeGreaterThan(0);
    expect(strong).toBeGreaterThan(faint * 4);
  });

  it('repaints only where the mask is white', async () => {
    const files = [await file('init_image', '#808080', '#808080'), await file('mask', '#000000', '#ffffff')];
    const base = await sharp({ create: { width: 128, height: 96, channels: 3, background: grey } })
      .png()
      .toBuffer();
    const painted = await one(job({ strength: 1 }, { files }));
    expect(await distance(base, painted, { left: 0, top: 0, width: 60, height: 70 })).toBeLessThan(1);
    expect(await distance(base, painted, { left: 70, top: 0, width: 58, height: 70 })).toBeGreaterThan(5);
  });
});

describe('a rehearsal', () => {
  it('fails with the code named in the prompt', async () => {
    for (const code of ['safety_filter', 'out_of_memory', 'node_lost', 'run_timeout', 'start_timeout'] as const) {
      const error = await failureOf(run(job({ prompt: `a fox [[fail:${code}]] in snow` })));
      expect(error.failure.code).toBe(code);
    }
  });

  it('fails only once where it says once', async () => {
    const prompt = 'a fox [[fail:node_lost once]]';
    expect((await failureOf(run(job({ prompt })))).failure.code).toBe('node_lost');
    expect(await draw(job({ prompt }, { attempt: 2 }))).toHaveLength(1);
  });

  it('draws as if the tags were not there', async () => {
    const tagged = await one(job({ prompt: 'a [[fail:node_lost once]] fox' }, { attempt: 2 }));
    expect(tagged.equals(await one(job({ prompt: 'a fox' })))).toBe(true);
  });

  it('refuses tags it cannot obey instead of succeeding by a typing error', async () => {
    for (const prompt of ['[[fail:no_such_code]]', '[[fail:node_lost twice]]', '[[slow:ages]]', '[[slow:-1]]']) {
      expect((await failureOf(run(job({ prompt })))).failure.code).toBe('invalid_request');
    }
  });

  it.each([
    'shutting_down',
    'cancelled_by_caller',
    'cancelled_by_admin',
    'batch_halted',
    'insufficient_credits',
    'budget_exceeded',
    'queue_full',
    'idempotency_conflict',
    'unauthenticated',
    'forbidden',
    'not_found',
    'conflict',
    'too_large',
    'unknown_model',
  ])('refuses %s, with which no attempt ends by itself', async (code) => {
    const error = await failureOf(run(job({ prompt: `a fox [[fail:${code}]]` })));
    expect(error).toBeInstanceOf(Refusal);
    expect(error.failure.code).toBe('invalid_request');
  });

  it.each([
    ['a tag of spaces that is never closed', `[[fail:${' '.repeat(9_900)}x`],
    ['brackets that are only opened', '['.repeat(10_000)],
    ['tags that are only begun', '[[fail:'.repeat(1_400)],
    ['tags of spaces, each cut short', `[[slow:${' '.repeat(90)}`.repeat(100)],
  ])('reads every letter of a hostile prompt once: %s', (_, prompt) => {
    expect(parseRehearsal(prompt, 1)).toEqual({ prompt: prompt.replace(/\s+/g, ' ').trim(), fail: null, slowMs: 0 });
  });

  it('takes tags however they are spaced, and leaves other brackets alone', () => {
    const rehearsed = parseRehearsal('a [[cat]] [[ Fail :  node_lost   once ]] in [[[slow: 2 ]]] [[snow:white]]', 1);
    expect(rehearsed).toEqual({ prompt: 'a [[cat]] in [ ] [[snow:white]]', fail: 'node_lost', slowMs: 2_000 });
    expect(() => parseRehearsal(`[[fail:${'x'.repeat(9_000)}]]`, 1)).toThrow(/^.{1,300}$/);
  });

  it('takes the seconds asked for, spread over the steps', async () => {
    const seen: RunEvent[] = [];
    const done = (async () => {
      for await (const event of renderer.run(job({ prompt: 'a fox [[slow:8]]', steps: 4 }), forever)) seen.push(event);
    })();
    const drawn = () => seen.filter((event) => event.type === 'progress').length;
    await settle();
    expect(drawn()).toBe(0);
    await system.clock.advance(2000);
    expect(drawn()).toBe(1);
    await system.clock.advance(5999);
    expect(drawn()).toBe(3);
    await system.clock.advance(1);
    await done;
    expect(seen.at(-1)?.type).toBe('file');
  });

  it('draws not one step more after an abort', async () => {
    const abort = new AbortController();
    const events = renderer.run(job(), abort.signal)[Symbol.asyncIterator]();
    const next = async () => (await events.next()).value as RunEvent;
    expect((await next()).type).toBe('progress');
    abort.abort(new GatewayError('cancelled_by_caller'));
    await expect(next()).rejects.toBe(abort.signal.reason);
  });

  it('stops with the reason of an abort, leaving no sleeper behind', async () => {
    const abort = new AbortController();
    const reason = new GatewayError('cancelled_by_caller');
    const done = failureOf(run(job({ prompt: '[[slow:60]]' }), abort.signal));
    await settle();
    abort.abort(reason);
    expect(await done).toBe(reason);
    expect(system.clock.pending).toBe(0);
  });
});

it('a probe finds the renderer ready, with nothing installed', async () => {
  const report = await renderer.probe(forever);
  expect(report).toMatchObject({ flavour: 'sketch', memory: null, loras: [], foreignQueue: 0 });
  expect(report.version).toMatch(/^\d+\.\d+/);
});

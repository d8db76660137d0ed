import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Connection, type InputFile, type Job, Refusal, type RunEvent } from '../../src/backends/backend.ts';
import { connectSdapi } from '../../src/backends/sdapi/client.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { hasCheckpoint } from '../../src/domain/node.ts';
import type { Params } from '../../src/domain/params.ts';
import { until } from '../harness/manual-clock.ts';
import { type TestSystem, testSystem } from '../harness/system.ts';
import { type Call, type Flavour, idle, running, startNode, type TestNode } from './sdapi-node.ts';

const params: Params = {
  prompt: 'a fox',
  negativePrompt: 'blurry',
  width: 640,
  height: 512,
  seed: 7,
  steps: 20,
  guidance: 5,
  sampler: 'k_dpmpp_2m',
  scheduler: 'karras',
  n: 1,
  loras: [],
  initImage: null,
  mask: null,
  strength: null,
  inputs: {},
  output: {},
};
const route = {
  backend: 'sdapi',
  labels: [],
  checkpoint: 'sub\\dream.safetensors',
  workflow: null,
  remote: null,
  account: null,
} as const;
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
const TASK = 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0-1';
const TXT2IMG = '/sdapi/v1/txt2img';
const forever = new AbortController().signal;
const info = (over: object = {}) =>
  JSON.stringify({
    sd_model_name: 'dream',
    sd_model_hash: '0123abcdef',
    sampler_name: 'DPM++ 2M',
    index_of_first_image: 0,
    ...over,
  });
const base64 = (text: string) => Buffer.from(text).toString('base64');
const done = (call: Call, over: object = {}, images = ['picture one']) =>
  call.answer(200, { images: images.map(base64), parameters: {}, info: info(over) });

let node: TestNode;
let system: TestSystem;
let scratch: string;
let connection: Connection;

async function start(flavour: Flavour, auth?: { username: string; password: string }, expected?: string) {
  scratch = await mkdtemp(join(tmpdir(), 'sdapi-'));
  system = testSystem();
  node = await startNode(flavour, expected);
  const spec = { id: 'rack-2', kind: 'sdapi', url: node.url, labels: [], auth: auth ?? null, slots: 1 } as const;
  connection = connectSdapi({ spec, system, scratch });
}
afterEach(async () => {
  await connection.close();
  await node.close();
  expect(await readdir(scratch)).toEqual([]);
  await rm(scratch, { recursive: true });
});

interface Running {
  readonly events: RunEvent[];
  readonly end: Promise<unknown>;
  messages(): string[];
  texts(): Promise<string[]>;
}

/** Iterates in the background; `end` resolves with what was thrown, or undefined. */
function begin(
  work: Job,
  signal = forever,
  from: (work: Job, signal: AbortSignal) => AsyncIterable<RunEvent> = connection.run,
): Running {
  const events: RunEvent[] = [];
  const iterate = async () => {
    for await (const event of from(work, signal)) events.push(event);
  };
  return {
    events,
    end: iterate().then(
      () => undefined,
      (error: unknown) => error,
    ),
    messages: () => events.flatMap((event) => (event.type === 'progress' ? [event.message] : [])),
    texts: () =>
      Promise.all(events.flatMap((e) => (e.type === 'file' ? [e.file.open(forever).then(buffer).then(String)] : []))),
  };
}

/** Moves time on, second by second, until `work` ends. */
async function ended<T>(work: Promise<T>): Promise<T> {
  let over = false;
  void work.finally(() => {
    over = true;
  });
  await until(async () => {
    await system.clock.advance(over ? 0 : 1000);
    return over;
  }, 'the end');
  return work;
}
const failed = async (run: Running): Promise<GatewayError> => {
  const error = await ended(run.end);
  if (!(error instanceof GatewayError)) throw new Error(`expected a GatewayError, got ${String(error)}`);
  return error;
};
const codeOf = async (run: Running) => (await failed(run)).failure.code;
const posted = (path = TXT2IMG, count = 1) => until(() => node.posts(path)[count - 1], `POST ${path}`);
const ticks = async (count: number) => {
  for (let i = 0; i < count; i++) {
    const before = node.calls.length;
    await system.clock.advance(1000);
    await until(() => node.calls.length > before, 'a look at the node');
    await system.clock.advance(0);
  }
};

describe('a probe', () => {
  it.each(['a1111', 'forge', 'sdnext', 'sdcpp'] as const)('knows %s by its own routes', async (flavour) => {
    await start(flavour);
    const report = await connection.probe(forever);
    expect(report.flavour).toBe(flavour);
    expect(report.samplers).toEqual(['Euler', 'DPM++ 2M']);
    expect(report.loras).toEqual(['ink']);
    expect(report.version).toBe(flavour === 'sdnext' ? '2026-07-23' : null);
    expect(report.memory).toEqual(flavour === 'sdcpp' ? null : { totalBytes: 24, freeBytes: 10 });
    expect(connection.resumable).toBe(flavour === 'sdcpp');
  });

  it('lists every name a checkpoint may be asked for by, and the upscalers', async () => {
    await start('a1111');
    const report = await connection.probe(forever);
    const names = [
      'sub/dream.safetensors',
      'sub\\dream.safetensors',
      'dream',
      '0123abcdef',
      'f'.repeat(64),
      'real.safetensors',
      'R-ESRGAN 4x+',
    ];
    expect(names.filter((name) => !hasCheckpoint(report, name))).toEqual([]);
    expect(hasCheckpoint(report, 'other')).toBe(false);
  });

  it('says what to do when the password is missing or wrong', async () => {
    await start('a1111', undefined, 'a:b');
    await expect(connection.probe(forever)).rejects.toThrow('asks for a user name and password');
  });

  it('sends the password', async () => {
    await start('a1111', { username: 'a', password: 'b' }, 'a:b');
    expect((await connection.probe(forever)).flavour).toBe('a1111');
  });

  it('tells a ComfyUI and a server without --api from a node that is down', async () => {
    await start('a1111');
    node.has.clear();
    await expect(connection.probe(forever)).rejects.toThrow('--api');
    node.has.set('/system_stats', { system: { comfyui_version: '0.3.64' } });
    await expect(connection.probe(forever)).rejects.toThrow('comfyui');
    await node.close();
    const error = await connection.probe(forever).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ failure: { code: 'node_lost' }, cause: { kind: 'unsent' } });
  });

  it('sees work that is not ours', async () => {
    await start('sdnext');
    expect((await connection.probe(forever)).foreignQueue).toBe(0);
    node.has.set('/sdapi/v1/progress', running(0.3));
    expect((await connection.probe(forever)).foreignQueue).toBe(1);
    node.does.set(TXT2IMG, () => undefined);
    const run = begin(job());
    await posted();
    expect((await connection.probe(forever)).foreignQueue).toBe(0);
    (await posted()).cut();
    await ended(run.end);
  });
});

describe('a job', () => {
  beforeEach(() => start('a1111'));

  it('says every parameter explicitly, in the names of the server', async () => {
    node.does.set(TXT2IMG, (call) => done(call));
    expect(await ended(begin(job({ n: 1 })).end)).toBeUndefined();
    const { body, headers } = await posted();
    expect(body).toMatchObject({
      prompt: 'a fox',
      negative_prompt: 'blurry',
      seed: 7,
      steps: 20,
      cfg_scale: 5,
      width: 640,
      height: 512,
      sampler_name: 'DPM++ 2M',
      scheduler: 'Karras',
      n_iter: 1,
      batch_size: 1,
      override_settings: { sd_model_checkpoint: 'dream' },
      override_settings_restore_afterwards: false,
      force_task_id: TASK,
    });
    expect(headers['accept-encoding']).toBe('identity');
  });

  it('names its reference before it sends, and frees the node before it hands over files', async () => {
    node.does.set(TXT2IMG, (call) => done(call, { index_of_first_image: 1 }, ['grid', 'one', 'two', 'detect map']));
    const run = begin(job({ n: 2 }));
    expect(await ended(run.end)).toBeUndefined();
    expect(run.events.map((event) => event.type)).toEqual(['intent', 'accepted', 'rendered', 'file', 'file']);
    expect(await run.texts()).toEqual(['one', 'two']);
    expect(await run.texts()).toEqual(['one', 'two']);
  });

  it('does nothing costly before its reference is stored', async () => {
    const events = connection.run(job(), forever)[Symbol.asyncIterator]();
    expect((await events.next()).value).toMatchObject({ type: 'intent', remote: { task: TASK } });
    await system.clock.advance(5000);
    expect(node.posts(TXT2IMG)).toHaveLength(0);
    await events.return?.();
    expect(system.clock.pending).toBe(0);
  });

  it('tells the progress of its own task, never falling', async () => {
    const progress = [
      { active: false, queued: true, completed: false, progress: 0.9 },
      { active: true, queued: false, completed: false, progress: 0.01 },
      { active: true, queued: false, completed: false, progress: 0.5 },
      { active: true, queued: false, completed: false, progress: 0.4 },
      { active: true, queued: false, completed: false, progress: 0.75 },
    ];
    node.does.set('/internal/progress', (call) => call.answer(200, progress.shift()));
    node.does.set(TXT2IMG, () => undefined);
    const run = begin(job());
    const call = await posted();
    await ticks(5);
    await until(() => run.messages().length === 3, 'three reports');
    done(call);
    await ended(run.end);
    expect(run.messages()).toEqual(['loading model', 'denoising step 10/20', 'denoising step 15/20']);
    expect(node.posts('/internal/progress').every((look) => look.body.id_task === TASK)).toBe(true);
  });

  it('sends live previews to those who ask', async () => {
    node.does.set('/internal/progress', (call) =>
      call.answer(200, {
        active: true,
        queued: false,
        completed: false,
        progress: 0.5,
        live_preview: `data:image/jpeg;base64,${base64('pre')}`,
        id_live_preview: 3,
      }),
    );
    node.does.set(TXT2IMG, () => undefined);
    const run = begin(job({}, { previews: true }));
    const call = await posted();
    await ticks(2);
    await until(() => run.events.filter((event) => event.type === 'preview').length === 2, 'previews');
    done(call);
    await ended(run.end);
    expect(run.events.find((event) => event.type === 'preview')).toEqual({
      type: 'preview',
      mediaType: 'image/jpeg',
      bytes: Buffer.from('pre'),
    });
    expect(node.posts('/internal/progress')[1]?.body.id_live_preview).toBe(3);
  });

  it('is refused before anything is sent when the node lacks a name', async () => {
    const lora = { name: 'nope', strength: 1 };
    const wrong: [Job, string][] = [
      [job({ sampler: 'Warp' }), 'unsupported_input'],
      [job({ scheduler: 'warp' }), 'unsupported_input'],
      [job({ loras: [lora] }), 'unsupported_input'],
      [job({}, { route: { ...route, checkpoint: 'gone' } }), 'no_capable_node'],
      [job({}, { kind: 'video' }), 'unsupported_input'],
    ];
    for (const [work, code] of wrong) {
      const error = await failed(begin(work));
      expect(error).toBeInstanceOf(Refusal);
      expect(error.failure.code).toBe(code);
    }
    expect(node.posts(TXT2IMG)).toHaveLength(0);
  });

  it('finds what was installed since the last look', async () => {
    await connection.probe(forever);
    node.has.set('/sdapi/v1/sd-models', [{ title: 'new.safetensors', model_name: 'new' }]);
    node.does.set(TXT2IMG, (call) => done(call, { sd_model_name: 'new', sd_model_hash: null }));
    expect(await ended(begin(job({}, { route: { ...route, checkpoint: 'new' } })).end)).toBeUndefined();
  });

  it('fails when the server quietly took another model or sampler', async () => {
    for (const over of [{ sd_model_name: 'real', sd_model_hash: 'aaaaaaaaaa' }, { sampler_name: 'Euler' }]) {
      node.does.set(TXT2IMG, (call) => done(call, over));
      expect(await codeOf(begin(job()))).toBe('model_error');
    }
  });

  it('writes LoRAs into the prompt by the names the server has', async () => {
    node.does.set(TXT2IMG, (call) => done(call));
    await ended(begin(job({ loras: [{ name: 'styles\\ink.safetensors', strength: 0.8 }] })).end);
    expect((await posted()).body.prompt).toBe('a fox <lora:ink:0.8>');
  });

  it('fails without a picture, and with too few', async () => {
    node.does.set(TXT2IMG, (call) => done(call, {}, []));
    expect(await codeOf(begin(job()))).toBe('model_error');
    node.does.set(TXT2IMG, (call) => done(call));
    expect(await codeOf(begin(job({ n: 2 })))).toBe('node_lost');
  });

  it('is lost when somebody interrupted it on the box', async () => {
    node.does.set(TXT2IMG, (call) => {
      node.has.set('/sdapi/v1/progress', { ...idle, state: { ...idle.state, interrupted: true } });
      done(call, {}, ['half a picture']);
    });
    const run = begin(job());
    expect(await codeOf(run)).toBe('node_lost');
    expect(run.events.some((event) => event.type === 'file')).toBe(false);
  });

  it('understands what went wrong there', async () => {
    const cases: [number, object, string][] = [
      [
        500,
        { error: 'OutOfMemoryError', detail: '', errors: 'CUDA out of memory. Tried to allocate' },
        'out_of_memory',
      ],
      [500, { error: 'RuntimeError', message: 'CUDA out of memory' }, 'out_of_memory'],
      [500, { error: 'NansException', errors: 'A tensor with all NaNs was produced in VAE.' }, 'model_error'],
      [500, { error: 'KeyError', errors: "'x'" }, 'model_error'],
      [422, { detail: [{ loc: ['body', 'steps'], msg: 'bad', type: 't' }] }, 'unsupported_input'],
      [429, { detail: 'slow down' }, 'rate_limited'],
      [404, { detail: 'Not Found' }, 'node_lost'],
    ];
    for (const [status, body, code] of cases) {
      node.does.set(TXT2IMG, (call) => call.answer(status, body));
      const error = await failed(begin(job()));
      expect([status, error.failure.code]).toEqual([status, code]);
      expect(error.message).not.toContain('CUDA');
    }
  });

  it('marks a node that a failed load has poisoned, until another checkpoint is selected there', async () => {
    node.does.set(TXT2IMG, (call) =>
      call.answer(500, { error: 'AttributeError', message: "'NoneType' object has no attribute 'sd_checkpoint_info'" }),
    );
    expect(await codeOf(begin(job()))).toBe('node_lost');
    expect(connection.wedged).toContain('select another checkpoint');
    await connection.probe(forever);
    expect(connection.wedged).not.toBeNull();
    node.has.set('/sdapi/v1/options', { sd_model_checkpoint: 'real' });
    await connection.probe(forever);
    expect(connection.wedged).toBeNull();
  });
});

describe('pictures that go in', () => {
  const file = async (role: InputFile['role'], content: Buffer): Promise<InputFile> => {
    const path = join(scratch, role);
    await writeFile(path, content);
    return { role, path, mediaType: 'image/png', sha256: '', bytes: content.length };
  };
  const ref = { kind: 'url', url: 'https://example.com' } as const;
  afterEach(async () => {
    for (const role of ['init_image', 'mask']) await rm(join(scratch, role), { force: true });
  });

  it.each([1, 3 * 64 * 1024 - 1, 3 * 64 * 1024, 500_000])(
    'arrive whole (%i bytes) with the length known',
    async (size) => {
      await start('a1111');
      const files = [await file('init_image', Buffer.alloc(size, 'xyz')), await file('mask', Buffer.from('mask'))];
      node.does.set('/sdapi/v1/img2img', (call) => done(call));
      expect(await ended(begin(job({ strength: 0.4, initImage: ref, mask: ref }, { files })).end)).toBeUndefined();
      const { body, headers } = await posted('/sdapi/v1/img2img');
      expect(headers['content-length']).toMatch(/^\d+$/);
      expect(Buffer.from(body.init_images[0], 'base64').equals(await readFile(join(scratch, 'init_image')))).toBe(true);
      expect(body).toMatchObject({
        mask: base64('mask'),
        denoising_strength: 0.4,
        inpainting_fill: 1,
        include_init_images: false,
      });
    },
  );

  it('are enlarged when the route names an upscaler', async () => {
    await start('a1111');
    const files = [await file('init_image', Buffer.from('small'))];
    node.does.set('/sdapi/v1/extra-single-image', (call) =>
      call.answer(200, { html_info: '', image: base64('large') }),
    );
    const size = { width: null, height: null, initImage: ref };
    const run = begin(job(size, { files, route: { ...route, checkpoint: 'R-ESRGAN 4x+' } }));
    expect(await ended(run.end)).toBeUndefined();
    expect(await run.texts()).toEqual(['large']);
    const { body } = await posted('/sdapi/v1/extra-single-image');
    expect(body).toMatchObject({ image: base64('small'), upscaler_1: 'R-ESRGAN 4x+', upscaling_resize: 2 });
  });
});

describe('one node', () => {
  it('gets one request at a time, and a waiting job can be taken back', async () => {
    await start('a1111');
    node.does.set(TXT2IMG, () => undefined);
    const first = begin(job());
    const call = await posted();
    const abort = new AbortController();
    const second = begin(job({}, { attempt: 2 }), abort.signal);
    const third = begin(job({}, { attempt: 3 }));
    await ticks(3);
    expect(node.posts(TXT2IMG)).toHaveLength(1);
    abort.abort(new GatewayError('cancelled_by_caller'));
    expect(await codeOf(second)).toBe('cancelled_by_caller');
    done(call);
    expect(await ended(first.end)).toBeUndefined();
    done(await posted(TXT2IMG, 2));
    expect(await ended(third.end)).toBeUndefined();
    expect(node.posts(TXT2IMG)[1]?.body.force_task_id).toMatch(/-3$/);
  });

  it('is interrupted only while our own job runs, and its picture is thrown away', async () => {
    await start('a1111');
    let active = false;
    node.does.set('/internal/progress', (call) =>
      call.answer(200, { active, queued: !active, completed: false, progress: 0 }),
    );
    node.does.set(TXT2IMG, () => undefined);
    const abort = new AbortController();
    const reason = new GatewayError('cancelled_by_caller');
    const run = begin(job(), abort.signal);
    const call = await posted();
    await until(() => run.events.length === 2, 'accepted');
    abort.abort(reason);
    expect(await ended(run.end)).toBe(reason);

    const [intent] = run.events;
    if (intent?.type !== 'intent') throw new Error('no intent');
    const cancelled = connection.cancel(intent.remote, forever);
    await ticks(3);
    expect(node.posts('/sdapi/v1/interrupt')).toHaveLength(0);
    active = true;
    await ticks(2);
    expect(node.posts('/sdapi/v1/interrupt').length).toBeGreaterThan(0);

    const next = begin(job({}, { attempt: 2 }));
    await ticks(2);
    expect(node.posts(TXT2IMG)).toHaveLength(1);
    done(call, {}, ['half a picture']);
    await ended(cancelled);
    done(await posted(TXT2IMG, 2), {}, ['whole']);
    expect(await ended(next.end)).toBeUndefined();
    expect(await next.texts()).toEqual(['whole']);
    expect(system.clock.pending).toBe(0);
  });

  it('is left alone by the cancel of a job that was never sent', async () => {
    await start('sdnext');
    const events = connection.run(job(), forever)[Symbol.asyncIterator]();
    const { value } = await events.next();
    await events.return?.();
    node.has.set('/sdapi/v1/progress', running(0.5));
    await connection.cancel(value.remote, forever);
    expect(node.posts('/sdapi/v1/interrupt')).toHaveLength(0);
  });

  it('is not used again after a broken connection until it has come to rest', async () => {
    await start('sdnext');
    node.does.set(TXT2IMG, (call) => call.cut());
    expect(await codeOf(begin(job()))).toBe('node_lost');
    node.has.set('/sdapi/v1/progress', running(0.6));
    node.does.set(TXT2IMG, (call) => done(call));
    const next = begin(job({}, { attempt: 2 }));
    await ticks(4);
    expect(node.posts(TXT2IMG)).toHaveLength(1);
    expect(new Set(next.messages())).toEqual(new Set(['waiting for the node to come to rest']));
    node.has.set('/sdapi/v1/progress', idle);
    expect(await ended(next.end)).toBeUndefined();
  });

  it('is given up on, for now, when it does not come to rest', async () => {
    await start('sdnext');
    node.does.set(TXT2IMG, (call) => call.cut());
    await ended(begin(job()).end);
    node.has.set('/sdapi/v1/progress', running(0.6));
    expect(await codeOf(begin(job({}, { attempt: 2 })))).toBe('node_lost');
    expect(node.posts(TXT2IMG)).toHaveLength(1);
  });

  it('is stopped by task id where the request is gone', async () => {
    await start('a1111');
    let active = true;
    node.has.set('/sdapi/v1/progress', () => (active ? running(0.5) : idle));
    node.does.set('/internal/progress', (call) =>
      call.answer(200, { active, queued: false, completed: !active, progress: 0.5 }),
    );
    node.does.set('/sdapi/v1/interrupt', (call) => {
      active = false;
      call.answer(200, {});
    });
    await ended(connection.cancel({ task: TASK, session: 'of an earlier process' }, forever));
    expect(node.posts('/sdapi/v1/interrupt')).toHaveLength(1);
    expect(node.posts('/internal/progress')[0]?.body.id_task).toBe(TASK);
  });

  it("never passes another's progress off as ours", async () => {
    await start('sdnext');
    node.has.set('/sdapi/v1/progress', running(0.9, { job_timestamp: 'theirs' }));
    node.does.set(TXT2IMG, () => undefined);
    const run = begin(job());
    const call = await posted();
    await ticks(2);
    node.has.set('/sdapi/v1/progress', running(0.2, { job_timestamp: 'next', job: 'task(abc)' }));
    await ticks(2);
    node.has.set('/sdapi/v1/progress', running(0.8, { job_timestamp: 'other', sampling_steps: 50 }));
    await ticks(2);
    expect(run.messages()).toEqual([]);
    node.has.set('/sdapi/v1/progress', running(0.25, { job_timestamp: 'ours' }));
    await ticks(2);
    await until(() => run.messages().length > 0, 'progress');
    done(call);
    await ended(run.end);
    expect(run.messages()[0]).toBe('denoising step 5/20');
  });

  it('is not taken for busy by what it shows of a job that failed', async () => {
    await start('a1111');
    node.does.set(TXT2IMG, (call) => {
      node.has.set('/sdapi/v1/progress', running(0.96));
      call.answer(500, { error: 'OutOfMemoryError' });
    });
    expect(await codeOf(begin(job()))).toBe('out_of_memory');
    expect((await connection.probe(forever)).foreignQueue).toBe(0);
  });
});

describe('Forge', () => {
  it('is given further modules by name, and never one it lacks', async () => {
    await start('forge');
    node.does.set(TXT2IMG, (call) => done(call));
    await ended(begin(job({ inputs: { modules: 'ae.safetensors', distilled_guidance: 3.5 } })).end);
    const { body } = await posted();
    expect(body.override_settings).toEqual({
      sd_model_checkpoint: 'dream',
      forge_additional_modules: ['ae.safetensors'],
    });
    expect(body.distilled_cfg_scale).toBe(3.5);
    expect(await codeOf(begin(job({ inputs: { modules: 'ae.safetensors, t5' } })))).toBe('no_capable_node');
  });
});

describe('stable-diffusion.cpp', () => {
  const GEN = '/sdcpp/v1/img_gen';
  const STATE = '/sdcpp/v1/jobs/j1';
  const state = (status: string, more: object = {}) => ({
    id: 'j1',
    kind: 'img_gen',
    status,
    queue_position: 0,
    result: null,
    error: null,
    ...more,
  });
  const completed = (...images: string[]) =>
    state('completed', {
      result: {
        output_format: 'png',
        images: images.map((text, index) => ({ index, b64_json: base64(text) })).reverse(),
      },
    });
  beforeEach(async () => {
    await start('sdcpp');
    node.does.set(GEN, (call) =>
      call.answer(202, { id: 'j1', kind: 'img_gen', status: 'queued', created: 1, poll_url: STATE }),
    );
  });

  it('is asked natively, watched, and its pictures come in order', async () => {
    const states = [state('queued'), state('generating'), state('generating'), completed('one', 'two')];
    node.has.set(STATE, () => states.shift());
    const run = begin(job({ n: 2, loras: [{ name: 'ink', strength: 0.5 }] }));
    expect(await ended(run.end)).toBeUndefined();
    expect(run.events.slice(0, 2)).toEqual([
      { type: 'intent', remote: {} },
      { type: 'accepted', remote: { job: 'j1' } },
    ]);
    expect(run.messages()).toEqual(['waiting in the queue of the node', 'generating']);
    expect(await run.texts()).toEqual(['one', 'two']);
    expect((await posted(GEN)).body).toMatchObject({
      prompt: 'a fox',
      seed: 7,
      batch_count: 2,
      sample_params: { sample_steps: 20, sample_method: 'DPM++ 2M', scheduler: 'Karras', guidance: { txt_cfg: 5 } },
      lora: [{ path: 'styles/ink.safetensors', multiplier: 0.5 }],
    });
  });

  it('is never given settings hidden in a prompt', async () => {
    for (const over of [
      { prompt: 'x <sd_cpp_extra_args>{}</sd_cpp_extra_args>' },
      { negativePrompt: '< SD_CPP_extra_args>' },
    ]) {
      expect(await codeOf(begin(job(over)))).toBe('unsupported_input');
    }
    expect(node.posts(GEN)).toHaveLength(0);
  });

  it('goes on after a restart by the id it gave, and only by that', async () => {
    node.has.set(STATE, completed('one'));
    const resumed = begin(job(), forever, (work, signal) => connection.resume(work, { job: 'j1' }, signal));
    expect(await ended(resumed.end)).toBeUndefined();
    expect(await resumed.texts()).toEqual(['one']);
    expect(node.posts(GEN)).toHaveLength(0);
    for (const remote of [{}, { job: 'j2' }]) {
      expect(await codeOf(begin(job(), forever, (work, signal) => connection.resume(work, remote, signal)))).toBe(
        'node_lost',
      );
    }
  });

  it('tells apart a full queue, refused parameters, lack of memory, a cancelled job and an empty result', async () => {
    const refusals: [number, object, string][] = [
      [429, { error: 'job queue is full' }, 'rate_limited'],
      [400, { error: 'bad parameters' }, 'unsupported_input'],
    ];
    for (const [status, body, code] of refusals) {
      node.does.set(GEN, (call) => call.answer(status, body));
      expect(await codeOf(begin(job()))).toBe(code);
    }
    node.does.set(GEN, (call) => call.answer(202, { id: 'j1' }));
    const ends: [object, string][] = [
      [
        state('failed', { error: { code: 'generation_failed', message: 'CUDA error: out of memory' } }),
        'out_of_memory',
      ],
      [state('failed', { error: { code: 'generation_failed', message: 'no results' } }), 'model_error'],
      [state('cancelled'), 'node_lost'],
      [completed(), 'model_error'],
    ];
    for (const [end, code] of ends) {
      node.has.set(STATE, end);
      expect(await codeOf(begin(job()))).toBe(code);
    }
  });

  it('takes back a waiting job at once, and waits out a running one', async () => {
    node.does.set(`${STATE}/cancel`, (call) => call.answer(200, state('cancelled')));
    await connection.cancel({ job: 'j1' }, forever);
    expect(node.calls.some((call) => call.path === STATE)).toBe(false);

    node.does.set(`${STATE}/cancel`, (call) => call.answer(409, { error: 'generating' }));
    const states = [state('generating'), state('generating'), completed('late')];
    node.has.set(STATE, () => states.shift());
    await ended(connection.cancel({ job: 'j1' }, forever));
    expect(states).toEqual([]);
  });

  it('survives a few looks that fail', async () => {
    let looks = 0;
    node.has.set(STATE, () => (++looks < 4 ? 'not a state' : completed('one')));
    const run = begin(job());
    expect(await ended(run.end)).toBeUndefined();
    expect(await run.texts()).toEqual(['one']);
  });

  it('is asked by /sdapi where it is too old for more', async () => {
    node.has.delete('/sdcpp/v1/capabilities');
    node.does.set(TXT2IMG, (call) => call.answer(200, { images: [base64('one')], parameters: {}, info: '' }));
    const run = begin(job({ loras: [{ name: 'ink', strength: 1 }] }));
    expect(await ended(run.end)).toBeUndefined();
    expect(await run.texts()).toEqual(['one']);
    const { body } = await posted();
    expect(body).toMatchObject({
      prompt: 'a fox',
      batch_size: 1,
      lora: [{ path: 'styles/ink.safetensors', multiplier: 1 }],
    });
    expect(body.override_settings).toBeUndefined();
  });
});

import { beforeEach, describe, expect, it } from 'vitest';
import { type Job, Refusal } from '../../src/backends/backend.ts';
import { hasCheckpoint } from '../../src/domain/node.ts';
import { until } from '../harness/manual-clock.ts';
import { forever, job, route } from './sdapi-jobs.ts';
import { idle, running } from './sdapi-node.ts';
import {
  base64,
  begin,
  codeOf,
  connection,
  done,
  ended,
  failed,
  node,
  posted,
  start,
  system,
  TASK,
  TXT2IMG,
  ticks,
} from './sdapi-stage.ts';

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

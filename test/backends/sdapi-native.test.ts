import { beforeEach, describe, expect, it } from 'vitest';
import { forever, job } from './sdapi-jobs.ts';
import { base64, begin, codeOf, connection, ended, node, posted, start, TXT2IMG } from './sdapi-stage.ts';

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

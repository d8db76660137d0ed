// Each switch of the ComfyUI double does what its name says, and its setting decides when.

import { afterEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { ManualClock, settle, until } from '../../harness/manual-clock.ts';
import { type ComfyUiDouble, type ComfyUiOptions, startComfyUi } from './server.ts';

const started: ComfyUiDouble[] = [];
const start = async (options: ComfyUiOptions = {}) => {
  const box = await startComfyUi({ historyMs: 0, ...options });
  started.push(box);
  return box;
};
afterEach(async () => {
  for (const box of started.splice(0)) await box.stop();
});

const graph = {
  '1': { class_type: 'CheckpointLoaderSimple', inputs: { ckpt_name: 'sd_xl_base_1.0.safetensors' } },
  '2': { class_type: 'CLIPTextEncode', inputs: { text: 'a cat', clip: ['1', 1] } },
  '3': { class_type: 'EmptyLatentImage', inputs: { width: 64, height: 64, batch_size: 1 } },
  '4': {
    class_type: 'KSampler',
    inputs: {
      seed: 1,
      steps: 4,
      cfg: 7,
      sampler_name: 'euler',
      scheduler: 'normal',
      denoise: 1,
      model: ['1', 0],
      positive: ['2', 0],
      negative: ['2', 0],
      latent_image: ['3', 0],
    },
  },
  '5': { class_type: 'VAEDecode', inputs: { samples: ['4', 0], vae: ['1', 2] } },
  '6': { class_type: 'SaveImage', inputs: { images: ['5', 0], filename_prefix: 'gw/job' } },
};

const send = (box: ComfyUiDouble, more: Record<string, unknown> = {}) =>
  fetch(`${box.url}/prompt`, {
    method: 'POST',
    body: JSON.stringify({ prompt: graph, prompt_id: 'job', client_id: 'me', ...more }),
  });
const get = async (box: ComfyUiDouble, path: string) => (await fetch(`${box.url}${path}`)).text();
const done = (box: ComfyUiDouble) => until(() => box.box.history.get('job'), 'the prompt to end');
const failure = async (box: ComfyUiDouble) => (await done(box)).outcome.messages.at(-1)?.[1].exception_type;
const whats = (box: ComfyUiDouble) => box.log.map(({ what }) => what);
const view = (box: ComfyUiDouble) => fetch(`${box.url}/view?filename=job_00001_.png&subfolder=gw`);

async function ear(box: ComfyUiDouble) {
  const socket = new WebSocket(`${box.url.replace('http', 'ws')}/ws?clientId=me`);
  const types: string[] = [];
  let closed = false;
  socket.on('message', (data, binary) => binary || types.push((JSON.parse(String(data)) as { type: string }).type));
  socket.on('error', () => undefined);
  socket.on('close', () => {
    closed = true;
  });
  await until(() => box.sockets > 0, 'the socket');
  return { types, closed: () => closed };
}

describe('faults of a prompt', () => {
  it('dead_worker: the prompt is accepted and never runs, nor does any after it, until a restart', async () => {
    const box = await start();
    box.faults.next('dead_worker');
    expect((await send(box)).status).toBe(200);
    await until(() => whats(box).includes('worker_dead'), 'the worker to die');
    await send(box, { prompt_id: 'next' });
    await settle();
    expect(JSON.parse(await get(box, '/prompt'))).toEqual({ exec_info: { queue_remaining: 2 } });
    expect(whats(box)).not.toContain('render_begin');
  });

  it('null extra_data kills the worker of profile A, and is a 500 on profile B', async () => {
    const box = await start();
    expect((await send(box, { extra_data: null })).status).toBe(200);
    await until(() => whats(box).includes('worker_dead'), 'the worker to die');
    expect((await send(await start({ profile: 'B' }), { prompt_id: undefined, extra_data: null })).status).toBe(500);
  });

  it('the same id and number twice answers 500, is queued, and kills the worker when popped', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 4 });
    await send(box, { prompt_id: 'running' });
    await until(() => clock.pending > 0, 'the first to run');
    expect((await send(box, { number: 5 })).status).toBe(200);
    expect((await send(box, { number: 5 })).status).toBe(500);
    expect(box.box.pending.size).toBe(2);
    await clock.advance(4);
    await until(() => whats(box).includes('worker_dead'), 'the worker to die');
  });

  it('silent_load: no word while the model loads', async () => {
    const clock = new ManualClock();
    const box = await start({ clock });
    box.faults.next('silent_load', { ms: 90_000 });
    const { types } = await ear(box);
    await send(box);
    await until(() => whats(box).includes('load'), 'the load');
    const before = types.length;
    await clock.advance(89_999);
    expect(types.slice(before).filter((type) => type !== 'executing' && type !== 'progress_state')).toEqual([]);
    await clock.advance(1);
    await done(box);
  });

  it('oom: an OutOfMemoryError, the models unloaded, the next prompt fine', async () => {
    const box = await start();
    box.faults.next('oom');
    await send(box);
    expect(await failure(box)).toBe('torch.OutOfMemoryError');
    expect(whats(box)).toContain('unload');
    await send(box, { prompt_id: 'next' });
    const next = await until(() => box.box.history.get('next'), 'the next');
    expect(next.outcome.ended).toBe('success');
  });

  it('corrupt_model: the loader fails', async () => {
    const box = await start();
    box.faults.next('corrupt_model');
    await send(box);
    expect(await failure(box)).toBe('safetensors._safetensors_rust.SafetensorError');
  });

  it('blocked and no_output: success without outputs; blocked says an error that is not the end', async () => {
    for (const name of ['blocked', 'no_output'] as const) {
      const box = await start();
      const { types } = await ear(box);
      box.faults.next(name);
      await send(box);
      const { outcome } = await done(box);
      expect([outcome.ended, outcome.outputs]).toEqual(['success', {}]);
      await until(() => types.includes('execution_success'), 'the success message');
      expect(types.includes('execution_error')).toBe(name === 'blocked');
    }
  });

  it('drop_socket: the socket is cut mid-run and the run goes on', async () => {
    const box = await start();
    const { closed, types } = await ear(box);
    box.faults.next('drop_socket', { step: 2 });
    await send(box);
    expect((await done(box)).outcome.ended).toBe('success');
    await until(closed, 'the socket to be cut');
    expect(types).not.toContain('execution_success');
  });

  it('interrupted: someone at the box presses cancel', async () => {
    const box = await start();
    box.faults.next('interrupted');
    await send(box);
    expect((await done(box)).outcome.ended).toBe('interrupted');
  });

  it('stuck: hangs in a step, and an interrupt does nothing', async () => {
    const box = await start();
    box.faults.next('stuck');
    await send(box);
    await until(() => whats(box).includes('render_begin'), 'the begin');
    await settle(40);
    await fetch(`${box.url}/interrupt`, { method: 'POST' });
    await settle(40);
    expect(box.box.running?.id).toBe('job');
  });

  it('crash: the port closes mid-run, and opens again on an empty box', async () => {
    const clock = new ManualClock();
    const box = await start({ clock });
    box.faults.next('crash', { ms: 5_000 });
    await send(box);
    await until(() => clock.pending > 0, 'the crash');
    await until(
      () =>
        get(box, '/prompt').then(
          () => false,
          () => true,
        ),
      'the port to close',
    );
    await clock.advance(5_000);
    const text = await until(() => get(box, '/queue').catch(() => null), 'the port to open');
    expect(JSON.parse(text)).toEqual({ queue_running: [], queue_pending: [] });
    expect(whats(box).at(-1)).toBe('restart');
    expect(whats(box)).not.toContain('render_end');
  });

  it('strikes as many prompts as it was told to', async () => {
    const box = await start();
    box.faults.on('oom', { times: 2 });
    const ends = [];
    for (const prompt_id of ['a', 'b', 'c']) {
      await send(box, { prompt_id });
      ends.push((await until(() => box.box.history.get(prompt_id), prompt_id)).outcome.ended);
    }
    expect(ends).toEqual(['error', 'error', 'success']);
  });
});

describe('faults of a request', () => {
  it('cut_reply and error_though_queued: no good answer, but the prompt runs', async () => {
    const box = await start();
    box.faults.next('cut_reply');
    await expect(send(box)).rejects.toThrow();
    await done(box);
    box.faults.next('error_though_queued');
    expect((await send(box, { prompt_id: 'second' })).status).toBe(500);
    await until(() => box.box.history.get('second'), 'the second');
  });

  it('slow_reply: the answer comes after the events', async () => {
    const box = await start();
    const { types } = await ear(box);
    box.faults.next('slow_reply');
    const answer = send(box);
    await until(() => types.includes('execution_success'), 'the success message');
    expect((await answer).status).toBe(200);
  });

  it('socket_silent: nothing is heard while it is on', async () => {
    const box = await start();
    const { types } = await ear(box);
    await until(() => types.length === 1, 'the first frame');
    box.faults.on('socket_silent');
    await send(box);
    await done(box);
    expect(types).toEqual(['status']);
  });

  it('nan_json: history and object_info that JSON.parse refuses', async () => {
    const box = await start();
    await send(box);
    await done(box);
    box.faults.on('nan_json');
    for (const path of ['/history/job', '/object_info']) {
      const text = await get(box, path);
      expect(() => JSON.parse(text)).toThrow();
      expect(() => JSON.parse(text.replaceAll('NaN', 'null'))).not.toThrow();
    }
  });

  it('huge_object_info: more than 50 MB', async () => {
    const box = await start();
    box.faults.next('huge_object_info');
    expect((await get(box, '/object_info')).length).toBeGreaterThan(50_000_000);
    expect((await get(box, '/object_info')).length).toBeLessThan(1_000_000);
  });

  it('view_404, view_html, view_truncated: a good file that does not come, and then does', async () => {
    const box = await start();
    await send(box);
    await done(box);
    box.faults.next('view_404');
    expect((await view(box)).status).toBe(404);
    box.faults.next('view_html');
    expect(await (await view(box)).text()).toContain('<html>');
    box.faults.next('view_truncated');
    await expect((await view(box)).arrayBuffer()).rejects.toThrow();
    expect((await view(box)).status).toBe(200);
  });

  it('bad_gateway and freeze: a proxy page, and no answer at all', async () => {
    const box = await start();
    box.faults.next('bad_gateway');
    const page = await fetch(`${box.url}/queue`);
    expect([page.status, page.headers.get('content-type')]).toEqual([502, 'text/html']);
    box.faults.next('freeze');
    const gaveUp = new AbortController();
    let answered = false;
    const frozen = fetch(`${box.url}/queue`, { signal: gaveUp.signal }).then(
      () => {
        answered = true;
      },
      () => undefined,
    );
    await until(() => Object.keys(box.faults.list()).length === 0, 'the request to arrive');
    await settle(20);
    expect(answered).toBe(false);
    gaveUp.abort();
    await frozen;
  });

  it('switches faults over HTTP, and refuses names it does not know', async () => {
    const box = await start();
    const control = (body: unknown) => fetch(`${box.url}/__fault`, { method: 'POST', body: JSON.stringify(body) });
    await control({ name: 'oom', times: 1, step: 2 });
    expect(box.faults.list()).toEqual({ oom: { times: 1, step: 2 } });
    expect((await control({ name: 'nonsense' })).status).toBe(400);
    await control({ on: false });
    expect(box.faults.list()).toEqual({});
    expect(await (await fetch(`${box.url}/__log`)).json()).toEqual([]);
  });
});

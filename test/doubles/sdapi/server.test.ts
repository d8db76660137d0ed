// How the /sdapi doubles behave: what each flavour answers, what they keep quiet about, and what each switch does.

import sharp from 'sharp';
import { afterEach, describe, expect, it } from 'vitest';
import { ManualClock, settle, until } from '../../harness/manual-clock.ts';
import { type Flavour, type SdapiDouble, type SdapiOptions, startSdapi } from './server.ts';

const started: SdapiDouble[] = [];
const start = async (options: SdapiOptions = {}) => {
  const box = await startSdapi(options);
  started.push(box);
  return box;
};
afterEach(async () => {
  for (const box of started.splice(0)) await box.stop();
});

const API = '/sdapi/v1';
const get = (box: SdapiDouble, path: string, headers = {}) => fetch(`${box.url}${path}`, { headers });
const post = (box: SdapiDouble, path: string, body: unknown = {}, headers = {}) =>
  fetch(`${box.url}${path}`, { method: 'POST', body: JSON.stringify(body), headers });

interface Result {
  readonly images: string[];
  readonly info: string;
  readonly error: string;
}
interface Info {
  readonly sampler_name: string;
  readonly sd_model_name: string;
  readonly all_seeds: number[];
}
const draw = async (box: SdapiDouble, body: Record<string, unknown> = {}) => {
  const response = await post(box, `${API}/txt2img`, {
    prompt: 'a cat',
    steps: 4,
    width: 64,
    height: 96,
    seed: 7,
    ...body,
  });
  const result = (await response.json()) as Result;
  return { status: response.status, ...result, told: JSON.parse(result.info ?? '{}') as Info };
};
const decode = (image = '') => sharp(Buffer.from(image, 'base64')).raw().toBuffer({ resolveWithObject: true });
const whats = (box: SdapiDouble) => box.log.map(({ what }) => what);
const webuis = ['a1111', 'forge', 'sdnext'] as const;

describe('drawing', () => {
  it.each([...webuis, 'sdcpp'] as const)(
    '%s answers with pictures that decode, and info as JSON text',
    async (flavour) => {
      const box = await start({ flavour });
      const { images, told } = await draw(box, { batch_size: 2 });
      const [a, b] = await Promise.all(images.map(decode));
      expect([a?.info.width, a?.info.height]).toEqual([64, 96]);
      expect(a?.data.equals(b?.data ?? Buffer.alloc(0))).toBe(false);
      expect(told.all_seeds).toEqual([7, 8]);
    },
  );

  it('paints one at a time, in order of arrival', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 4 });
    const all = [1, 2, 3].map((n) => draw(box, { force_task_id: `t${n}` }));
    await until(() => whats(box).filter((what) => what === 'accept').length === 3, 'all three');
    await clock.advance(12);
    await Promise.all(all);
    const order = box.log.filter(({ what }) => /^render/.test(what)).map(({ what, promptId }) => `${what} ${promptId}`);
    const accepted = box.log.filter(({ what }) => what === 'accept').map(({ promptId }) => promptId);
    expect(order).toEqual(accepted.flatMap((id) => [`render_begin ${id}`, `render_end ${id}`]));
    expect(box.log.at(-1)?.what).toBe('idle');
  });

  it('loads the checkpoint of the request, and the configured one again for the next', async () => {
    const box = await start();
    const other = { sd_model_checkpoint: 'v1-5-pruned-emaonly' };
    await draw(box);
    expect((await draw(box, { override_settings: other })).told.sd_model_name).toBe('v1-5-pruned-emaonly');
    await draw(box);
    await draw(box, { override_settings: other, override_settings_restore_afterwards: false });
    await draw(box);
    expect(box.log.filter(({ what }) => what === 'load')).toHaveLength(3);
    expect(box.loaded).toBe('v1-5-pruned-emaonly.safetensors');
  });

  it.each(webuis)('%s drops an unknown checkpoint without a word', async (flavour) => {
    const box = await start({ flavour });
    const { status, told } = await draw(box, { override_settings: { sd_model_checkpoint: 'nope' } });
    expect([status, told.sd_model_name]).toEqual([200, 'sd_xl_base_1.0']);
  });

  it('draws an unknown sampler with another one; SD.Next refuses', async () => {
    expect((await draw(await start(), { sampler_name: 'Nope' })).told.sampler_name).toBe('DPM++ 2M');
    expect((await draw(await start({ flavour: 'sdnext' }), { sampler_name: 'Nope' })).status).toBe(404);
  });

  it("refuses in each flavour's own words", async () => {
    const bodies = await Promise.all(
      webuis.map(async (flavour) => (await post(await start({ flavour }), `${API}/img2img`)).json()),
    );
    expect(bodies).toEqual([
      { error: 'HTTPException', detail: 'Init image not found', body: '', errors: '' },
      { detail: 'Init image not found' },
      { error: 'HTTPException', code: 400, detail: 'Init image is none', body: '', errors: '' },
    ]);
    expect((await draw(await start(), { steps: 'many' })).status).toBe(422);
    expect((await draw(await start(), { override_settings: { nonsense: 1 } })).error).toBe('KeyError');
  });
});

describe('telling the flavours apart', () => {
  it('answers the paths of its own flavour only', async () => {
    const paths = ['/sdcpp/v1/capabilities', `${API}/version`, `${API}/sd-modules`, `${API}/sd-vae`, `${API}/progress`];
    const seen: Record<string, number[]> = {};
    for (const flavour of [...webuis, 'sdcpp'] as Flavour[]) {
      const box = await start({ flavour });
      seen[flavour] = await Promise.all(paths.map(async (path) => (await get(box, path)).status));
    }
    expect(seen).toEqual({
      a1111: [404, 404, 404, 200, 200],
      forge: [404, 404, 200, 404, 200],
      sdnext: [404, 200, 404, 200, 200],
      sdcpp: [200, 404, 404, 404, 404],
    });
  });

  it('asks for a password everywhere but in the known gaps', async () => {
    const box = await start({ auth: { username: 'u', password: 'p' } });
    const right = { authorization: `Basic ${Buffer.from('u:p').toString('base64')}` };
    const open = [`${API}/loras`, '/internal/ping'];
    expect(await Promise.all([`${API}/options`, ...open].map(async (path) => (await get(box, path)).status))).toEqual([
      401, 200, 200,
    ]);
    expect((await get(box, `${API}/options`, right)).status).toBe(200);
    const sdnext = await start({ flavour: 'sdnext', auth: { username: 'u', password: 'p' } });
    expect((await get(sdnext, `${API}/loras`)).status).toBe(401);
  });
});

describe('progress and interrupt', () => {
  it('tells of whatever job runs, and of one task by its id', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 40 });
    const progress = async () =>
      (await get(box, `${API}/progress`)).json() as Promise<{ progress: number; state: { job: string } }>;
    expect(await progress()).toMatchObject({ progress: 0, state: { job: '', job_count: 0 } });
    const first = draw(box, { force_task_id: 'one' });
    await until(() => clock.pending > 0, 'the first');
    const second = draw(box, { force_task_id: 'two' });
    await until(() => whats(box).filter((what) => what === 'accept').length === 2, 'the second');
    await clock.advance(20);
    expect(await progress()).toMatchObject({ progress: 0.5, state: { job: 'txt2img', sampling_step: 2 } });
    const task = async (id_task: string) => (await post(box, '/internal/progress', { id_task })).json();
    expect(await task('one')).toMatchObject({ active: true, queued: false, completed: false, progress: 0.5 });
    expect(await task('two')).toMatchObject({ active: false, queued: true, textinfo: 'In queue: 1/1' });
    expect(await (await get(box, '/internal/pending-tasks')).json()).toEqual({ size: 1, tasks: ['two'] });
    await clock.advance(20);
    await first;
    expect(await task('one')).toMatchObject({ active: false, completed: true });
    await until(() => clock.pending > 0, 'the second to run');
    await clock.advance(40);
    await second;
  });

  it('answers an interrupted job with 200 and fewer pictures, unmarked, and keeps the flag until the next job', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 40 });
    const drawing = draw(box, { n_iter: 3 });
    await until(() => clock.pending > 0, 'the first step');
    await clock.advance(50);
    expect(await (await post(box, `${API}/interrupt`)).json()).toEqual({});
    await clock.advance(10);
    const { status, images } = await drawing;
    expect([status, images.length]).toEqual([200, 2]);
    const { state } = (await (await get(box, `${API}/progress`)).json()) as { state: { interrupted: boolean } };
    expect(state.interrupted).toBe(true);
  });

  it('loses an interrupt that comes before the job', async () => {
    const box = await start();
    await post(box, `${API}/interrupt`);
    expect((await draw(box, { n_iter: 2 })).images).toHaveLength(2);
  });

  it('with the gentle option finishes the image on the first interrupt and stops at once on the second', async () => {
    for (const [presses, ends] of [
      [1, 40],
      [2, 20],
    ] as const) {
      const clock = new ManualClock();
      const box = await start({ clock, renderMs: 40, gentleInterrupt: true });
      const drawing = draw(box, { n_iter: 3 });
      await until(() => clock.pending > 0, 'the first step');
      const began = clock.now();
      await clock.advance(10);
      for (let i = 0; i < presses; i++) await post(box, `${API}/interrupt`);
      await clock.advance(200);
      expect((await drawing).images).toHaveLength(1);
      expect((box.log.find(({ what }) => what === 'render_end')?.at ?? 0) - began).toBe(ends);
    }
  });

  it('SD.Next answers 204, limits the rate, and remembers what it made', async () => {
    const box = await start({ flavour: 'sdnext', unitsPerMinute: 9 });
    expect((await post(box, `${API}/interrupt`)).status).toBe(204);
    const { images } = await draw(box);
    const [item] = (await (await get(box, `${API}/history`)).json()) as { outputs: string[] }[];
    const saved = await get(box, `${API}/file?file=${item?.outputs[0]}`);
    expect(Buffer.from(await saved.arrayBuffer()).toString('base64')).toBe(images[0]);
    expect((await draw(box)).status).toBe(429);
  });
});

describe('faults', () => {
  it.each([
    ['oom', 'OutOfMemoryError'],
    ['nan', 'NansException'],
  ] as const)('%s is a 500', async (name, error) => {
    const box = await start();
    box.faults.next(name);
    expect(await draw(box)).toMatchObject({ status: 500, error });
    expect((await draw(box)).status).toBe(200);
  });

  it('cut_connection: the answer is lost, the work goes on', async () => {
    const clock = new ManualClock();
    const box = await start({ clock, renderMs: 4 });
    box.faults.next('cut_connection', { step: 2 });
    const lost = expect(draw(box)).rejects.toThrow();
    await until(() => clock.pending > 0, 'the first step');
    await clock.advance(2);
    await lost;
    expect(((await (await get(box, `${API}/progress`)).json()) as { progress: number }).progress).toBeGreaterThan(0);
    await clock.advance(2);
    await until(() => whats(box).includes('render_end'), 'the end');
  });

  it('failed_load poisons Forge until another model is chosen', async () => {
    const box = await start({ flavour: 'forge' });
    box.faults.next('failed_load');
    expect((await draw(box)).error).toBe('AssertionError');
    expect((await draw(box)).error).toBe('AttributeError');
    expect((await draw(box, { override_settings: { sd_model_checkpoint: 'v1-5-pruned-emaonly' } })).status).toBe(200);
    expect((await draw(box)).status).toBe(200);
  });

  it('a Flux checkpoint without its modules fails to load on Forge', async () => {
    const box = await start({ flavour: 'forge', checkpoints: ['flux.safetensors'], needModules: ['flux.safetensors'] });
    expect((await draw(box)).error).toBe('AssertionError');
  });

  it('truncated_base64, empty_images, wrong_model: 200 with something wrong', async () => {
    const box = await start();
    box.faults.next('truncated_base64');
    await expect(decode((await draw(box)).images[0])).rejects.toThrow();
    box.faults.next('empty_images');
    expect(await draw(box)).toMatchObject({ status: 200, images: [] });
    box.faults.next('wrong_model');
    expect((await draw(box)).told.sd_model_name).toBe('v1-5-pruned-emaonly');
  });

  it('interrupted and interrupt_500: someone at the box presses interrupt', async () => {
    const box = await start({ flavour: 'sdnext' });
    box.faults.next('interrupted');
    expect((await draw(box, { n_iter: 3 })).images).toHaveLength(1);
    box.faults.next('interrupted');
    box.faults.next('interrupt_500');
    expect((await draw(box)).status).toBe(500);
  });

  it('hang: never answers, whatever is pressed', async () => {
    const box = await start();
    box.faults.next('hang');
    const lost = expect(draw(box)).rejects.toThrow();
    await until(() => whats(box).includes('render_begin'), 'the begin');
    await settle(20);
    await post(box, `${API}/interrupt`);
    await settle(20);
    expect(whats(box)).not.toContain('render_end');
    await box.stop();
    await lost;
  });

  it('crash: the connection breaks, and the server comes back', async () => {
    const box = await start();
    box.faults.next('crash');
    await expect(draw(box)).rejects.toThrow();
    const again = await until(() => draw(box).catch(() => null), 'the box to be back');
    expect(again.status).toBe(200);
    expect(whats(box)).toContain('restart');
  });

  it('silent_load, bad_gateway and auth', async () => {
    const clock = new ManualClock();
    const box = await start({ clock });
    box.faults.next('silent_load', { ms: 9_000 });
    const drawing = draw(box);
    await until(() => clock.pending > 0, 'the load');
    const { progress } = (await (await get(box, `${API}/progress`)).json()) as { progress: number };
    expect(progress).toBe(0.01);
    await clock.advance(9_000);
    expect((await drawing).status).toBe(200);
    box.faults.next('bad_gateway');
    box.faults.next('auth');
    expect([(await get(box, `${API}/options`)).status, (await get(box, `${API}/options`)).status]).toEqual([502, 401]);
  });
});

describe('stable-diffusion.cpp', () => {
  const BASE = '/sdcpp/v1';
  const submit = async (box: SdapiDouble) => {
    const response = await post(box, `${BASE}/img_gen`, {
      prompt: 'a cat',
      width: 64,
      height: 64,
      sample_params: { sample_steps: 4 },
    });
    return { code: response.status, id: ((await response.json()) as { id: string }).id };
  };
  const job = async (box: SdapiDouble, id: string) => {
    const response = await get(box, `${BASE}/jobs/${id}`);
    return {
      code: response.status,
      ...((await response.json()) as { status?: string; result?: { images: { b64_json: string }[] } }),
    };
  };

  it('takes jobs, runs them in turn, cancels the waiting one only', async () => {
    const clock = new ManualClock();
    const box = await start({ flavour: 'sdcpp', clock, renderMs: 4 });
    const [a, b] = [await submit(box), await submit(box)];
    expect(a.code).toBe(202);
    await until(() => clock.pending > 0, 'the first step');
    const cancel = async (id: string) => (await post(box, `${BASE}/jobs/${id}/cancel`)).status;
    expect([await cancel(a.id), await cancel(b.id), await cancel('unknown')]).toEqual([409, 200, 404]);
    await clock.advance(4);
    const done = await until(async () => {
      const seen = await job(box, a.id);
      return seen.status === 'completed' ? seen : null;
    }, 'the job');
    expect((await decode(done.result?.images[0]?.b64_json)).info.width).toBe(64);
    expect((await job(box, b.id)).status).toBe('cancelled');
    await clock.advance(700_000);
    expect((await job(box, a.id)).code).toBe(410);
  });

  it('is full at 64 waiting jobs', async () => {
    const box = await start({ flavour: 'sdcpp', clock: new ManualClock(), renderMs: 4 });
    const codes = [];
    for (let i = 0; i < 66; i++) codes.push((await submit(box)).code);
    expect([codes.slice(0, 65).every((code) => code === 202), codes[65]]).toEqual([true, 429]);
  });

  it('refuses an empty prompt and says when nothing was made', async () => {
    const box = await start({ flavour: 'sdcpp' });
    expect(await draw(box, { prompt: '' })).toMatchObject({ status: 400, error: 'prompt required' });
    box.faults.next('empty_images');
    expect(await draw(box)).toMatchObject({ status: 500, error: 'generate_image returned no results' });
  });
});

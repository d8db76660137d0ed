import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import sharp from 'sharp';
import { afterEach, expect, it } from 'vitest';
import type { Connection } from '../../src/backends/backend.ts';
import { connectSdapi } from '../../src/backends/sdapi/client.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { type SdapiDouble, type SdapiOptions, startSdapi } from '../doubles/sdapi/server.ts';
import { until } from '../harness/manual-clock.ts';
import { type TestSystem, testSystem } from '../harness/system.ts';
import { forever, job as jobOf, watch } from './sdapi-jobs.ts';

const FLAVOURS = ['a1111', 'forge', 'sdnext', 'sdcpp'] as const;
const route = { backend: 'sdapi', labels: [], checkpoint: null, workflow: null, remote: null, account: null } as const;
const job = (over: Parameters<typeof jobOf>[0] = {}, more: Parameters<typeof jobOf>[1] = {}) =>
  jobOf({ sampler: 'Euler', scheduler: 'Karras', width: 64, height: 64, steps: 4, ...over }, { route, ...more });

let box: SdapiDouble;
let system: TestSystem;
let scratch: string;
let connection: Connection;

async function connect(options: SdapiOptions) {
  scratch = await mkdtemp(join(tmpdir(), 'sdapi-'));
  system = testSystem();
  box = await startSdapi({ ...options, clock: system.clock });
  const auth = options.auth ?? null;
  const spec = { id: 'rack-2', kind: 'sdapi', url: box.url, labels: [], auth, slots: 1 } as const;
  connection = connectSdapi({ spec, system, scratch });
}
afterEach(async () => {
  await connection.close();
  await box.stop();
  await rm(scratch, { recursive: true });
});

const begin = (work = job(), signal = forever) => watch(connection.run(work, signal));
async function ended<T>(work: Promise<T>): Promise<T> {
  let over = false;
  void work.finally(() => {
    over = true;
  });
  await until(async () => {
    await system.clock.advance(over ? 0 : 100);
    return over;
  }, 'the end');
  return work;
}
const codeOf = async (run: ReturnType<typeof begin>) => {
  const error = await ended(run.end);
  return error instanceof GatewayError ? error.failure.code : error;
};
const seen = (what: string) => box.log.filter((entry) => entry.what === what);

it.each(FLAVOURS)('%s renders what was asked, one job after the other', async (flavour) => {
  await connect({ flavour, renderMs: 4000 });
  expect((await connection.probe(forever)).flavour).toBe(flavour);
  const runs = [1, 2, 3].map((attempt) => begin(job({ n: 2, seed: attempt }, { attempt })));
  for (const run of runs) expect(await ended(run.end)).toBeUndefined();
  for (const { events } of runs) {
    const files = events.flatMap((event) => (event.type === 'file' ? [event.file] : []));
    expect(files).toHaveLength(2);
    for (const file of files) {
      const { format, width } = await sharp(await buffer(await file.open(forever))).metadata();
      expect([format, width]).toEqual(['png', 64]);
    }
  }
  expect(seen('render_end')).toHaveLength(3);
});

it.each(['a1111', 'forge', 'sdnext'] as const)('%s tells how far it is', async (flavour) => {
  await connect({ flavour, renderMs: 8000 });
  const run = begin();
  expect(await ended(run.end)).toBeUndefined();
  expect(run.messages()).toContain('denoising step 2/4');
});

it.each(['a1111', 'forge', 'sdnext'] as const)(
  '%s stops a cancelled job before its time, and only that',
  async (flavour) => {
    await connect({ flavour, renderMs: 60_000 });
    if (flavour === 'sdnext') box.faults.next('interrupt_500');
    const abort = new AbortController();
    const run = begin(job(), abort.signal);
    await until(() => seen('render_begin').length === 1, 'rendering');
    await until(() => run.events.length >= 2, 'accepted');
    abort.abort(new GatewayError('cancelled_by_caller'));
    expect(await codeOf(run)).toBe('cancelled_by_caller');
    const [intent] = run.events;
    if (intent?.type !== 'intent') throw new Error('no intent');
    const before = system.clock.monotonic();
    await ended(connection.cancel(intent.remote, forever));
    expect(system.clock.monotonic() - before).toBeLessThan(30_000);
    expect(seen('interrupt').length).toBeGreaterThan(0);
    const interrupts = seen('interrupt').length;
    expect(await ended(begin(job({}, { attempt: 2 })).end)).toBeUndefined();
    expect(seen('interrupt')).toHaveLength(interrupts);
  },
);

it('stable-diffusion.cpp takes a waiting job back', async () => {
  await connect({ flavour: 'sdcpp', renderMs: 10_000 });
  const first = begin();
  const second = begin(job({}, { attempt: 2 }));
  await until(() => second.events.length >= 2, 'accepted');
  const accepted = second.events[1];
  if (accepted?.type !== 'accepted') throw new Error('not accepted');
  await connection.cancel(accepted.remote, forever);
  expect(await ended(first.end)).toBeUndefined();
  expect(await codeOf(second)).toBe('node_lost');
  expect(seen('render_begin')).toHaveLength(1);
});

it.each([
  ['a1111', 'oom', 'out_of_memory'],
  ['forge', 'oom', 'out_of_memory'],
  ['sdcpp', 'oom', 'out_of_memory'],
  ['a1111', 'nan', 'model_error'],
  ['a1111', 'empty_images', 'model_error'],
  ['sdcpp', 'empty_images', 'model_error'],
  ['a1111', 'interrupted', 'node_lost'],
  ['sdnext', 'interrupted', 'node_lost'],
  ['a1111', 'crash', 'node_lost'],
] as const)('%s with %s ends as %s', async (flavour, fault, code) => {
  await connect({ flavour, renderMs: 4000 });
  await connection.probe(forever);
  box.faults.next(fault);
  expect(await codeOf(begin())).toBe(code);
});

it('a model quietly put in the place of another is found out', async () => {
  await connect({ flavour: 'a1111' });
  box.faults.next('wrong_model');
  const checkpoint = 'v1-5-pruned-emaonly.safetensors';
  expect(await codeOf(begin(job({}, { route: { ...route, checkpoint } })))).toBe('model_error');
  expect(await ended(begin(job({}, { route: { ...route, checkpoint } })).end)).toBeUndefined();
  expect(box.loaded).toBe(checkpoint);
});

it('a broken connection leaves the node alone until the orphaned job is done', async () => {
  await connect({ flavour: 'a1111', renderMs: 20_000 });
  box.faults.next('cut_connection');
  expect(await codeOf(begin())).toBe('node_lost');
  expect(await ended(begin(job({}, { attempt: 2 })).end)).toBeUndefined();
  const order = box.log.filter(({ what }) => what === 'render_end' || what === 'accept').map(({ what }) => what);
  expect(order).toEqual(['accept', 'render_end', 'accept', 'render_end']);
});

it('a Forge poisoned by a failed load is marked until another model is chosen', async () => {
  await connect({ flavour: 'forge' });
  box.faults.next('failed_load');
  await codeOf(begin());
  await codeOf(begin());
  expect(connection.wedged).not.toBeNull();
});

it('a password is sent, and asked for', async () => {
  await connect({ flavour: 'a1111', auth: { username: 'a', password: 'b' } });
  expect((await connection.probe(forever)).flavour).toBe('a1111');
  box.faults.on('auth');
  await expect(connection.probe(forever)).rejects.toThrow('refuses our user name and password');
});

// What the /sdapi tests share: a connection to a test node, a job, and ways to watch it end. One node per test, started by
// `start`; afterwards it is closed and must have left nothing in the scratch directory.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterEach, expect } from 'vitest';
import type { Connection, Job, RunEvent } from '../../src/backends/backend.ts';
import { connectSdapi } from '../../src/backends/sdapi/client.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import type { Params } from '../../src/domain/params.ts';
import { until } from '../harness/manual-clock.ts';
import { type TestSystem, testSystem } from '../harness/system.ts';
import { type Call, type Flavour, startNode, type TestNode } from './sdapi-node.ts';

export const params: Params = {
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
export const route = {
  backend: 'sdapi',
  labels: [],
  checkpoint: 'sub\\dream.safetensors',
  workflow: null,
  remote: null,
  account: null,
} as const;
export const job = (over: Partial<Params> = {}, more: Partial<Job> = {}): Job => ({
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
export const TASK = 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0-1';
export const TXT2IMG = '/sdapi/v1/txt2img';
export const forever = new AbortController().signal;
export const info = (over: object = {}) =>
  JSON.stringify({
    sd_model_name: 'dream',
    sd_model_hash: '0123abcdef',
    sampler_name: 'DPM++ 2M',
    index_of_first_image: 0,
    ...over,
  });
export const base64 = (text: string) => Buffer.from(text).toString('base64');
export const done = (call: Call, over: object = {}, images = ['picture one']) =>
  call.answer(200, { images: images.map(base64), parameters: {}, info: info(over) });

export let node: TestNode;
export let system: TestSystem;
export let scratch: string;
export let connection: Connection;

export async function start(flavour: Flavour, auth?: { username: string; password: string }, expected?: string) {
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

export interface Watched {
  readonly events: RunEvent[];
  readonly end: Promise<unknown>;
  messages(): string[];
  texts(): Promise<string[]>;
}

/** Iterates in the background; `end` resolves with what was thrown, or undefined. */
export function begin(
  work: Job,
  signal = forever,
  from: (work: Job, signal: AbortSignal) => AsyncIterable<RunEvent> = connection.run,
): Watched {
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
export async function ended<T>(work: Promise<T>): Promise<T> {
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
export const failed = async (run: Watched): Promise<GatewayError> => {
  const error = await ended(run.end);
  if (!(error instanceof GatewayError)) throw new Error(`expected a GatewayError, got ${String(error)}`);
  return error;
};
export const codeOf = async (run: Watched) => (await failed(run)).failure.code;
export const posted = (path = TXT2IMG, count = 1) => until(() => node.posts(path)[count - 1], `POST ${path}`);
export const ticks = async (count: number) => {
  for (let i = 0; i < count; i++) {
    const before = node.calls.length;
    await system.clock.advance(1000);
    await until(() => node.calls.length > before, 'a look at the node');
    await system.clock.advance(0);
  }
};

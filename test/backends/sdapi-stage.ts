// A connection to a test node, and ways to drive it. One node per test, started by
// `start`; afterwards it is closed and must have left nothing in the scratch directory.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect } from 'vitest';
import type { Connection, Job, RunEvent } from '../../src/backends/backend.ts';
import { connectSdapi } from '../../src/backends/sdapi/client.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { until } from '../harness/manual-clock.ts';
import { type TestSystem, testSystem } from '../harness/system.ts';
import { forever, type Watched, watch } from './sdapi-jobs.ts';
import { type Call, type Flavour, startNode, type TestNode } from './sdapi-node.ts';

export const TASK = 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0-1';
export const TXT2IMG = '/sdapi/v1/txt2img';
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

export const begin = (
  work: Job,
  signal = forever,
  from: (work: Job, signal: AbortSignal) => AsyncIterable<RunEvent> = connection.run,
): Watched => watch(from(work, signal));

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

// A job as the /sdapi tests send it, and what came of it.

import { buffer } from 'node:stream/consumers';
import type { Job, RunEvent } from '../../src/backends/backend.ts';
import type { Params } from '../../src/domain/params.ts';
import { paramsOf } from '../harness/params.ts';

export const forever = new AbortController().signal;

export const params = paramsOf({
  prompt: 'a fox',
  negativePrompt: 'blurry',
  width: 640,
  height: 512,
  steps: 20,
  guidance: 5,
  sampler: 'k_dpmpp_2m',
  scheduler: 'karras',
});
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
export interface Watched {
  readonly events: RunEvent[];
  readonly end: Promise<unknown>;
  messages(): string[];
  texts(): Promise<string[]>;
}

/** Iterates in the background; `end` resolves with what was thrown, or undefined. */
export function watch(run: AsyncIterable<RunEvent>): Watched {
  const events: RunEvent[] = [];
  const iterate = async () => {
    for await (const event of run) events.push(event);
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

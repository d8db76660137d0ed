// A hosted provider's stand-in and a connection to it, for the tests of the adapters. Time is hurried: a pause is over at
// once and the clock says it was waited out, so nothing sleeps and every pause can be read afterwards (`clock.slept`).
// Each stage is closed after its test; the file host's log must be free of keys by then.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import sharp from 'sharp';
import { afterEach, expect } from 'vitest';
import { type Connection, type InputFile, type Job, Refusal, type RunEvent } from '../../src/backends/backend.ts';
import { connectAccount } from '../../src/backends/hosted/account.ts';
import type { Provider } from '../../src/backends/hosted/provider.ts';
import { type Failure, GatewayError } from '../../src/domain/failure.ts';
import type { RemoteRef } from '../../src/domain/generation.ts';
import type { Params } from '../../src/domain/params.ts';
import { type Clock, createSystem, type Log, type System } from '../../src/system/system.ts';
import { type HostedDouble, type HostedOptions, type RequestEntry, startHosted } from '../doubles/hosted/hosted.ts';
import { paramsOf } from '../harness/params.ts';

export const forever = new AbortController().signal;
export const LOOPBACK = '127.0.0.0/8';

export interface HurriedClock extends Clock {
  /** Every pause that was asked for, in milliseconds. */
  readonly slept: readonly number[];
}

/** A pause takes one turn of the event loop, and all of its time on the clock. */
export function hurriedClock(start = Date.UTC(2026, 10, 20, 9, 0, 0)): HurriedClock {
  let passed = 0;
  const slept: number[] = [];
  const timer: Clock['timer'] = (ms, fn) => {
    const handle = setImmediate(() => {
      passed += ms;
      fn();
    });
    return { [Symbol.dispose]: () => clearImmediate(handle) };
  };
  const sleep = async (ms: number, signal?: AbortSignal) => {
    signal?.throwIfAborted();
    slept.push(ms);
    passed += ms;
    await new Promise<void>((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
  };
  return { now: () => start + passed, monotonic: () => passed, sleep, timer, slept };
}

export interface StageOptions {
  readonly double?: HostedOptions;
  /** Addresses that results may come from besides the account's own; the double's file host is on loopback. */
  readonly allowPrivate?: readonly string[];
  /** Instead of the double's key. */
  readonly key?: string;
}

export interface Stage {
  readonly double: HostedDouble;
  readonly clock: HurriedClock;
  readonly system: System;
  readonly connection: Connection;
  /** What the log was told at `warn`, as text. */
  readonly warned: readonly string[];
  job(params?: Partial<Params>, more?: Partial<Job>): Job;
  /** A one-coloured input picture on disk; `paint` covers its left half with another grey. */
  file(role: InputFile['role'], grey: number, leftHalf?: number): Promise<InputFile>;
  /** Runs to the end, whatever it is. */
  run(job: Job, signal?: AbortSignal): Promise<Ran>;
  resume(job: Job, remote: RemoteRef, signal?: AbortSignal): Promise<Ran>;
  /** Runs until the `count`-th event of this type and drops the run, as a killed gateway does: the reference it had stored. */
  killedAfter(job: Job, type: RunEvent['type'], count?: number): Promise<RemoteRef>;
  /** The requests that were sent, with their bodies. */
  requests(method?: string): readonly RequestEntry[];
  /** The body of the last POST. */
  body(): unknown;
}

/** A run that has ended. */
export interface Ran {
  readonly events: readonly RunEvent[];
  readonly warnings: readonly string[];
  /** The last reference it told. */
  readonly remote: RemoteRef | null;
  /** How it failed; null when it came to its end. */
  readonly failure: Failure | null;
  /** Nothing ran, and another route may be tried. */
  readonly refused: boolean;
  /** Opens all files. */
  files(): Promise<readonly Buffer[]>;
}

const opened: { close(): Promise<void>; double: HostedDouble }[] = [];
afterEach(async () => {
  for (const { close, double } of opened.splice(0)) {
    await close();
    expect(double.fileLog.flatMap(({ keys }) => Object.entries(keys))).toEqual([]);
  }
});

const PARAMS = paramsOf({ prompt: 'a red bicycle', width: 512, height: 512 });

/** A connection of this provider to its stand-in; `remote` is the model that jobs ask for unless they say otherwise. */
export async function openAccount(provider: Provider, remote: string, options: StageOptions = {}): Promise<Stage> {
  const clock = hurriedClock();
  const double = await startHosted(provider.kind, { clock, ...options.double });
  const scratch = await mkdtemp(join(tmpdir(), 'hosted-'));
  const warned: string[] = [];
  const real = createSystem({ level: 'silent', allowPrivate: options.allowPrivate ?? [LOOPBACK] });
  const random = { ...real.random, fraction: () => 0.5 };
  const system: System = { ...real, random, clock, log: noting(real.log, warned) };
  const token = options.key ?? double.key;
  const spec = { id: 'account', kind: provider.kind, url: double.url, labels: [], auth: null, slots: 4, token };
  const connection = connectAccount(provider)({ spec, system, scratch });
  opened.push({
    double,
    async close() {
      await connection.close();
      await double.close();
      await rm(scratch, { recursive: true });
    },
  });
  const route = { backend: provider.kind, labels: [], checkpoint: null, workflow: null, remote, account: null };
  const base = { id: 'gen_01HWX2K8Y4N5R7P9Q1B3T6V8M0', attempt: 1, kind: 'image', route, recipe: null } as const;
  const requests = (method?: string) =>
    double.log.filter((e) => e.what === 'request').filter((e) => method === undefined || e.method === method);
  return {
    double,
    clock,
    system,
    connection,
    warned,
    job: (params = {}, more = {}) => ({
      ...base,
      params: { ...PARAMS, ...params },
      files: [],
      previews: false,
      ...more,
    }),
    async file(role, grey, leftHalf) {
      const png = await greyPicture(64, 48, grey, leftHalf);
      const path = join(scratch, `${role}.png`);
      await writeFile(path, png);
      return { role, path, mediaType: 'image/png', sha256: '0'.repeat(64), bytes: png.length };
    },
    run: (job, signal = forever) => endOf(connection.run(job, signal)),
    resume: (job, remote, signal = forever) => endOf(connection.resume(job, remote, signal)),
    async killedAfter(job, type, count = 1) {
      let stored: RemoteRef | null = null;
      let seen = 0;
      for await (const event of connection.run(job, forever)) {
        if (event.type === 'intent' || event.type === 'accepted') stored = structuredClone(event.remote);
        if (event.type === type && ++seen === count) break;
      }
      if (stored === null || seen < count) throw new Error(`it ended before "${type}" came ${count} times`);
      return stored;
    },
    requests,
    body: () => requests('POST').at(-1)?.body,
  };
}

export async function endOf(run: AsyncIterable<RunEvent>): Promise<Ran> {
  const events: RunEvent[] = [];
  let thrown: unknown = null;
  try {
    for await (const event of run) events.push(event);
  } catch (error) {
    if (!(error instanceof GatewayError)) throw error;
    thrown = error;
  }
  const remotes = events.flatMap((e) => (e.type === 'intent' || e.type === 'accepted' ? [e.remote] : []));
  return {
    events,
    warnings: events.flatMap((e) => (e.type === 'warning' ? [e.message] : [])),
    remote: remotes.at(-1) ?? null,
    failure: thrown instanceof GatewayError ? thrown.failure : null,
    refused: thrown instanceof Refusal,
    files: () =>
      Promise.all(events.flatMap((e) => (e.type === 'file' ? [e.file.open(forever).then((s) => buffer(s))] : []))),
  };
}

/** A grey PNG; `leftHalf`: another grey there. */
export function greyPicture(width: number, height: number, grey: number, leftHalf = grey): Promise<Buffer> {
  const pixels = Buffer.from(
    Array.from({ length: width * height }, (_, i) => (i % width < width / 2 ? leftHalf : grey)),
  );
  return sharp(pixels, { raw: { width, height, channels: 1 } })
    .png()
    .toBuffer();
}

/** The bytes behind a data URL. */
export const ofDataUrl = (url: unknown): Buffer => {
  const [, base64] = /^data:[^;,]+;base64,(.+)$/.exec(String(url)) ?? [];
  if (base64 === undefined) throw new Error(`not a data URL: ${String(url).slice(0, 40)}`);
  return Buffer.from(base64, 'base64');
};

const noting = (silent: Log, warned: string[]): Log => {
  const note = (...said: unknown[]) => void warned.push(JSON.stringify(said));
  const log: Log = { debug: silent.debug, info: silent.info, error: silent.error, warn: note, child: () => log };
  return log;
};

// SIGTERM of a real gateway process in the middle of work that is paid for elsewhere. What a drain has no time for is
// handed to the next process by its reference; what nobody asked yet is asked by that one. The stand-ins keep each job at
// its step until the gateway is gone, and their logs are the evidence.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { GenerationBody } from '../src/contract/generations.ts';
import { type HostedDouble, type HostedKind, type Moment, startHosted } from './doubles/hosted/hosted.ts';
import { aborted } from './doubles/pace.ts';
import { callerAt } from './harness/caller.ts';
import { type GatewayProcess, gatewayProcess } from './harness/gateway-process.ts';
import { until } from './harness/manual-clock.ts';
import { accountsAt, type Studio, studio } from './harness/studio.ts';

const KEY = 'dk_hosted_stop';
const LONG = { ms: 600_000 };
const POLLED = ['replicate', 'fal', 'bfl', 'ideogram'] as const satisfies readonly HostedKind[];
const AT_ONCE = ['openai', 'gemini'] as const satisfies readonly HostedKind[];
const KINDS: readonly HostedKind[] = [...POLLED, ...AT_ONCE];
const MODELS: Partial<Record<HostedKind, string>> = {
  replicate: 'black-forest-labs/flux-dev',
  fal: 'fal-ai/flux/dev',
  bfl: 'flux-dev',
  ideogram: 'ideogram-3',
  openai: 'gpt-image-1.5',
  gemini: 'gemini-3.1-flash-image',
};

let house: Studio;
let gateway: GatewayProcess;
const doubles = new Map<HostedKind, HostedDouble>();
const double = (kind: HostedKind) => doubles.get(kind) as HostedDouble;

/** Prompt → the moment at which its job is kept until its caller hangs up, or until it is let go. */
const kept = new Map<string, Moment>();
const there = new Set<string>();
let letGo = Promise.withResolvers<void>();
async function hold(moment: Moment, prompt: string, signal: AbortSignal): Promise<void> {
  if (kept.get(prompt) !== moment) return;
  kept.delete(prompt);
  there.add(prompt);
  await Promise.race([aborted(signal), letGo.promise]);
}

const models = KINDS.map(
  (kind) =>
    `  ${kind}: {name: ${kind}, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: 1, limits: {max_pixels: 4194304, multiple_of: 32, max_n: 4}, estimate_seconds: 1, routes: [{backend: ${kind}, remote: "${MODELS[kind]}"}]}\n`,
);
async function started(drainSeconds: number): Promise<void> {
  const settings = `default_model: replicate\nscheduling: {drain_seconds: ${drainSeconds}}\n${accountsAt(doubles, 8)}`;
  house = await studio(KEY, `models:\n${models.join('')}`, settings);
  gateway = await gatewayProcess(house.folder, KEY);
  await gateway.start();
}

beforeEach(async () => {
  for (const kind of KINDS) doubles.set(kind, await startHosted(kind, { hold }));
  for (const told of [kept, there]) told.clear();
  letGo = Promise.withResolvers<void>();
});
afterEach(async () => {
  letGo.resolve();
  await gateway[Symbol.asyncDispose]();
  for (const one of doubles.values()) await one.close();
  await house[Symbol.asyncDispose]();
});

const { get, post, ended, credits, submit: send } = callerAt(() => gateway.url, KEY);
const submit = (model: HostedKind, prompt: string, more: object = {}) => send({ model, prompt, ...more });
const paidFor = (kind: HostedKind, prompt: string) => double(kind).paid.filter((p) => p.prompt === prompt).length;
const posts = (kind: HostedKind) =>
  double(kind).log.filter((e) => e.what === 'request' && e.method === 'POST' && !/cancel/.test(e.path)).length;
async function charged(used: number): Promise<void> {
  const { total } = await get<{ total: { credits: number } }>('/v1/usage');
  expect({ ...(await credits()), used: total.credits }).toEqual({ balance: 1000 - used, reserved: 0, used });
}

interface Stopped {
  readonly kind: HostedKind;
  readonly at: Moment;
  readonly paid: number;
  readonly pictures: number;
}
/** Without a list of its own nobody can say what became of a request whose answer was not waited for. */
const lists = (kind: HostedKind) => kind === 'replicate';
const STEPS: readonly Stopped[] = [
  ...KINDS.map((kind) => ({ kind, at: 'submit' as const, paid: 0, pictures: 0 })),
  ...KINDS.map((kind) => ({ kind, at: 'begun' as const, paid: 1, pictures: lists(kind) ? 1 : 0 })),
  ...POLLED.map((kind) => ({ kind, at: 'poll' as const, paid: 1, pictures: 1 })),
];
const LOST = {
  status: 'failed',
  credits_charged: 0,
  error: { code: 'node_lost', retryable: false, possibly_billed: true },
};

describe('SIGTERM', () => {
  it('hands over what it has no time for, at every step: paid once at most, delivered or said to be possibly billed', async () => {
    await started(0);
    const promptOf = ({ kind, at }: Stopped) => `${kind}, stopped at ${at}`;
    const ids = new Map<Stopped, string>();
    for (const step of STEPS) {
      kept.set(promptOf(step), step.at);
      ids.set(step, await submit(step.kind, promptOf(step)));
    }
    await until(() => there.size === STEPS.length, 'all to be where they are kept');
    expect(await gateway.kill('SIGTERM')).toBe(0);
    await gateway.start();
    let delivered = 0;
    for (const step of STEPS) {
      const g = await ended(ids.get(step) as string);
      const story = `${promptOf(step)}: ${JSON.stringify(g.error)}`;
      expect([paidFor(step.kind, promptOf(step)), g.outputs.length], story).toEqual([step.paid, step.pictures]);
      expect(g.attempts, story).toHaveLength(1);
      if (step.pictures === 0) expect(g, story).toMatchObject(LOST);
      delivered += step.pictures;
    }
    await charged(delivered);
    const cancelled = KINDS.flatMap((kind) => double(kind).log.filter((e) => e.what === 'cancelled'));
    expect(cancelled, 'what is handed over is not cancelled').toEqual([]);
  }, 90_000);

  it('in the pause after "too many" leaves nothing asked: the next process asks, once', async () => {
    await started(0);
    for (const kind of KINDS) double(kind).faults.next('rate_limited', { ms: 25_000 });
    const ids = await Promise.all(KINDS.map((kind) => submit(kind, 'limited')));
    await until(() => KINDS.every((kind) => posts(kind) === 1), 'all to be told to wait');
    expect(await gateway.kill('SIGTERM')).toBe(0);
    await gateway.start();
    for (const [i, kind] of KINDS.entries()) {
      expect(await ended(ids[i] as string), kind).toMatchObject({ status: 'succeeded', credits_charged: 1 });
      expect([paidFor(kind, 'limited'), posts(kind)], kind).toEqual([1, 2]);
    }
    await charged(KINDS.length);
  }, 90_000);

  it('while a file comes, twice in a row: it is fetched by the next, and paid once', async () => {
    await started(0);
    for (const kind of POLLED) double(kind).faults.next('slow_drip', LONG);
    const ids = await Promise.all(POLLED.map((kind) => submit(kind, 'dripping')));
    for (let times = 1; times <= 2; times++) {
      await until(() => POLLED.every((kind) => double(kind).fileLog.length >= times), 'the files to come');
      expect(await gateway.kill('SIGTERM')).toBe(0);
      if (times === 2)
        for (const { jobs } of doubles.values()) for (const { fate } of jobs) (fate as Map<string, unknown>).clear();
      await gateway.start();
    }
    for (const [i, kind] of POLLED.entries()) {
      expect(await ended(ids[i] as string), kind).toMatchObject({ status: 'succeeded', credits_charged: 1 });
      expect(paidFor(kind, 'dripping'), kind).toBe(1);
    }
    await charged(POLLED.length);
  }, 90_000);

  it('lets a paid request have its answer where the drain has time, and begins nothing after it', async () => {
    await started(60);
    const ids = new Map<HostedKind, string>();
    for (const kind of KINDS) {
      kept.set(`${kind}, drained`, 'begun');
      ids.set(kind, await submit(kind, `${kind}, drained`));
    }
    await until(() => there.size === KINDS.length, 'all to be begun');
    const gone = gateway.kill('SIGTERM');
    await until(async () => (await fetch(`${gateway.url}/readyz`)).status === 503, 'it to take no more');
    expect((await post('/v1/generations', { model: 'bfl', prompt: 'too late' })).status).toBe(503);
    letGo.resolve();
    expect(await gone).toBe(0);
    expect(KINDS.map(posts), 'before the next process').toEqual(KINDS.map(() => 1));
    await gateway.start();
    for (const [kind, id] of ids) {
      const g = await get<GenerationBody>(`/v1/generations/${id}`);
      expect([g.status, paidFor(kind, `${kind}, drained`)], kind).toEqual(['succeeded', 1]);
    }
    await charged(KINDS.length);
  }, 90_000);
});

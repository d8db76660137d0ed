// kill -9 of a real gateway process at every step of work that is paid for elsewhere. The stand-ins keep each job at its
// step until the gateway is dead, and their own logs are the evidence: no generation is paid twice, none is lost, and
// credits are charged for what was delivered only.

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { GenerationBody } from '../src/contract/generations.ts';
import { type HostedDouble, type HostedKind, type Moment, startHosted } from './doubles/hosted/hosted.ts';
import { aborted } from './doubles/pace.ts';
import { callerAt } from './harness/caller.ts';
import { type GatewayProcess, gatewayProcess } from './harness/gateway-process.ts';
import { until } from './harness/manual-clock.ts';
import { accountsAt, type Studio, studio } from './harness/studio.ts';

const KEY = 'dk_hosted_crash';
const JOBS = 24;
const KILLS = 4;
const NEVER = { ms: 600_000 };

/** What each account makes, by the provider's name of the model. */
const MODELS: Readonly<Record<HostedKind, string>> = {
  replicate: 'black-forest-labs/flux-dev',
  fal: 'fal-ai/flux/dev',
  bfl: 'flux-dev',
  openai: 'gpt-image-1.5',
  gemini: 'gemini-3.1-flash-image',
  ideogram: 'ideogram-3',
  stability: 'core',
  together: 'black-forest-labs/FLUX.1-dev',
  luma: 'ray-2',
  runway: 'gen4.5',
};
const KINDS = Object.keys(MODELS) as HostedKind[];
const CLIPS: readonly HostedKind[] = ['luma', 'runway'];
/** Their answer to the submit is the result: there is nothing to ask about afterwards. */
const AT_ONCE: readonly HostedKind[] = ['openai', 'gemini', 'stability', 'together'];
const POLLED = KINDS.filter((kind) => !AT_ONCE.includes(kind));
/** It keeps a list in which a job is found whose answer was lost. */
const LISTS: readonly HostedKind[] = ['replicate'];

/** Where the gateway dies: when a job comes to this moment for the n-th time, or while its file comes. */
type Step = `${Moment} ${number}` | 'file';

/** A job that is there when it dies. Without pictures it ends as possibly billed. */
interface Doomed {
  readonly kind: HostedKind;
  readonly step: Step;
  readonly n: number;
  readonly paid: number;
  readonly pictures: number;
}

/** Every step of a job of one picture. */
function* stepsOf(kind: HostedKind): Generator<Doomed> {
  const known = POLLED.includes(kind) ? 1 : 0;
  const one = { kind, n: 1, paid: 1, pictures: known };
  yield { ...one, step: 'submit 1', paid: 0, pictures: 0 };
  yield { ...one, step: 'begun 1', pictures: LISTS.includes(kind) ? 1 : 0 };
  if (known > 0) yield { ...one, step: 'poll 1' };
  if (known > 0 && !CLIPS.includes(kind)) yield { ...one, step: 'poll 2' }; // those are asked after seldom
  yield { ...one, step: 'file' };
}
/** Of the parts of a job, those whose answer was in are delivered where they can be asked after, and none is begun anew. */
const PARTS: readonly Doomed[] = [
  { kind: 'bfl', step: 'begun 2', n: 3, paid: 2, pictures: 1 },
  { kind: 'bfl', step: 'submit 3', n: 3, paid: 2, pictures: 2 },
  { kind: 'bfl', step: 'poll 4', n: 2, paid: 2, pictures: 2 },
  { kind: 'gemini', step: 'begun 2', n: 2, paid: 2, pictures: 0 },
];
const promptOf = ({ kind, step, n }: Doomed) => `${kind}, ${step}, ${n} of them`;

const AT_FIRST = { queuedPolls: 0, runningPolls: 0 };
const AT_THE_THIRD = { queuedPolls: 1, runningPolls: 1 };

let house: Studio;
let gateway: GatewayProcess;
const doubles = new Map<HostedKind, HostedDouble>();
const double = (kind: HostedKind) => doubles.get(kind) as HostedDouble;

/** Prompt → where jobs of it are kept; and which came there. */
const kept = new Map<string, Step>();
const there = new Set<string>();
const seen = new Map<string, number>();

async function hold(moment: Moment, prompt: string, signal: AbortSignal): Promise<void> {
  const times = (seen.get(`${moment} ${prompt}`) ?? 0) + 1;
  seen.set(`${moment} ${prompt}`, times);
  if (kept.get(prompt) !== `${moment} ${times}`) return;
  there.add(prompt);
  await aborted(signal);
}

/** One gateway dies and the next goes on. The stand-ins let go of what they kept, and have new files come as slowly as before. */
async function killAndRestart({ healed = true } = {}): Promise<void> {
  await gateway.kill();
  for (const told of [kept, there, seen]) told.clear();
  if (healed)
    for (const { jobs } of doubles.values()) for (const { fate } of jobs) (fate as Map<string, unknown>).clear();
  await gateway.start();
}

beforeAll(async () => {
  for (const kind of KINDS)
    doubles.set(kind, await startHosted(kind, { hold, pace: CLIPS.includes(kind) ? AT_FIRST : AT_THE_THIRD }));
  const models = KINDS.map(
    (kind) =>
      `  ${kind}: {name: ${kind}, kind: ${CLIPS.includes(kind) ? 'video' : 'image'}, best_for: Tests., capabilities: [${CLIPS.includes(kind) ? 'text-to-video' : 'text-to-image, seed'}], price: 1, limits: {max_pixels: 4194304, multiple_of: 32, max_n: 4}, estimate_seconds: 1, routes: [{backend: ${kind}, remote: "${MODELS[kind]}"}]}\n`,
  );
  house = await studio(KEY, `models:\n${models.join('')}`, `default_model: replicate\n${accountsAt(doubles, 8)}`);
  gateway = await gatewayProcess(house.folder, KEY);
  await gateway.start();
});
afterAll(async () => {
  await gateway?.[Symbol.asyncDispose]();
  for (const one of doubles.values()) await one.close();
  await house[Symbol.asyncDispose]();
});

const { get, ended, credits, submit: send } = callerAt(() => gateway.url, KEY);
const submit = (kind: HostedKind, prompt: string, more: object = {}) =>
  send({ model: kind, prompt, idempotency_key: prompt, ...more });
const paidFor = (kind: HostedKind, prompt: string) => double(kind).paid.filter((p) => p.prompt === prompt).length;
const LOST = {
  status: 'failed',
  credits_charged: 0,
  error: { code: 'node_lost', retryable: false, possibly_billed: true },
};

/** Every credit that is gone went for a picture that is there; nothing is still set aside. */
let delivered = 0;
afterEach(async () => {
  expect(await credits()).toEqual({ balance: 1000 - delivered, reserved: 0 });
  const usage = await get<{ total: { credits: number } }>('/v1/usage');
  expect(usage.total.credits).toBe(delivered);
  for (const { fileLog } of doubles.values()) expect(fileLog.flatMap(({ keys }) => Object.keys(keys))).toEqual([]);
});
async function came(g: GenerationBody, pictures: number): Promise<void> {
  delivered += pictures;
  if (pictures === 0) return expect(g).toMatchObject(LOST);
  expect(g).toMatchObject({ status: 'succeeded', credits_charged: pictures });
  for (const { url } of g.outputs) expect((await fetch(url as string)).status).toBe(200);
}

describe('kill -9', () => {
  it('at every step, at every provider: paid once at most, delivered or said to be possibly billed', async () => {
    const jobs = [...KINDS.flatMap((kind) => [...stepsOf(kind)]), ...PARTS];
    const slow = jobs.filter(({ step }) => step === 'file');
    const ids = new Map<Doomed, string>();
    const ask = async (job: Doomed) => {
      kept.set(promptOf(job), job.step);
      ids.set(job, await submit(job.kind, promptOf(job), { n: job.n }));
    };
    for (const { kind } of slow) double(kind).faults.next('slow_drip', NEVER);
    await Promise.all(slow.map(ask));
    await until(() => slow.every(({ kind }) => double(kind).paid.length === 1), 'the slow ones to be begun');
    await Promise.all(jobs.filter((job) => !slow.includes(job)).map(ask));
    await until(() => POLLED.every((kind) => double(kind).fileLog.length > 0), 'the files to come');
    await until(() => there.size === jobs.length - slow.length, 'all others to be where they are kept');
    await killAndRestart();
    for (const job of jobs) {
      const g = await ended(ids.get(job) as string);
      const story = `${promptOf(job)}: ${JSON.stringify(g.error)}`;
      expect([paidFor(job.kind, promptOf(job)), g.outputs.length], story).toEqual([job.paid, job.pictures]);
      expect(g.attempts, story).toHaveLength(1);
      await came(g, job.pictures);
    }
  }, 60_000);

  it('of one gateway after the other under the same job: it is paid once, and delivered', async () => {
    const kinds = POLLED.filter((kind) => !CLIPS.includes(kind));
    const promptOf = (kind: HostedKind) => `${kind}, again and again`;
    const waitFor = async (step: Step) => {
      for (const kind of kinds) kept.set(promptOf(kind), step);
      await until(() => there.size === kinds.length, `all to come to ${step}`);
    };
    const filesAsked = kinds.map((kind) => double(kind).fileLog.length);
    for (const kind of kinds) double(kind).faults.next('slow_drip', NEVER);
    const ids = await Promise.all(kinds.map((kind) => submit(kind, promptOf(kind))));
    await waitFor('poll 1');
    await killAndRestart({ healed: false });
    await waitFor('poll 2');
    await killAndRestart({ healed: false });
    await until(
      () => kinds.every((kind, i) => double(kind).fileLog.length > (filesAsked[i] ?? 0)),
      'the files to come',
    );
    await killAndRestart();
    for (const [i, kind] of kinds.entries()) {
      await came(await ended(ids[i] as string), 1);
      expect(paidFor(kind, promptOf(kind))).toBe(1);
    }
  }, 60_000);

  it(`${KILLS} times while ${JOBS} jobs come in: nothing is paid twice, and what is charged is what was delivered`, async () => {
    const kinds: readonly HostedKind[] = ['replicate', 'fal', 'bfl', 'ideogram', 'openai', 'together'];
    const jobs: { kind: HostedKind; prompt: string; id: string }[] = [];
    const moments = () => [...seen.values()].reduce((sum, n) => sum + n, 0);
    for (let k = 1; k <= KILLS; k++) {
      const wave = Array.from({ length: JOBS / KILLS }, (_, i) => kinds[i % kinds.length] as HostedKind);
      const come = wave.map(async (kind, i) => {
        const prompt = `${kind}, storm ${k}.${i}`;
        jobs.push({ kind, prompt, id: await submit(kind, prompt) });
      });
      await Promise.all(come);
      await until(() => moments() >= 6 * k, 'something to happen');
      await killAndRestart();
    }
    expect(jobs).toHaveLength(JOBS);
    const done: typeof jobs = [];
    for (const job of jobs) {
      const g = await ended(job.id);
      const paid = paidFor(job.kind, job.prompt);
      await came(g, g.outputs.length);
      expect(paid, job.prompt).toBeLessThanOrEqual(1);
      expect(paid, job.prompt).toBeGreaterThanOrEqual(g.outputs.length);
      if (g.status === 'succeeded') done.push(job);
    }
    expect(done).not.toEqual([]);
    expect(await Promise.all(done.map(({ kind, prompt }) => submit(kind, prompt)))).toEqual(done.map(({ id }) => id));
  }, 60_000);
});

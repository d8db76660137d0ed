// The whole house with accounts at hosted providers beside a box of its own: where work goes, what it costs, what is said
// when a provider refuses, limits, lies or is out of money. The stand-ins' own logs say what was paid.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { GenerationBody } from '../src/contract/generations.ts';
import type { Darkroom } from '../src/main.ts';
import { type ComfyUiDouble, startComfyUi } from './doubles/comfyui/server.ts';
import { type HostedDouble, type HostedKind, startHosted } from './doubles/hosted/hosted.ts';
import { callerAt } from './harness/caller.ts';
import { until } from './harness/manual-clock.ts';
import { accountsAt, type Studio, studio } from './harness/studio.ts';
import { fastClock, realSystem } from './harness/system.ts';

const KEY = 'dk_hosted';
const model = (id: string, price: number, routes: string, more = '') =>
  `  ${id}: {name: ${id}, kind: image, best_for: Tests., capabilities: [text-to-image, seed, guidance], price: ${price}, limits: {max_pixels: 4194304, multiple_of: 32, max_n: 4, max_steps: 50}, defaults: {width: 512, height: 512, steps: 4, guidance: 3}, estimate_seconds: 1, ${more}routes: [${routes}]}\n`;
const REPLICATE = '{backend: replicate, remote: black-forest-labs/flux-dev}';
const FAL = '{backend: fal, remote: fal-ai/flux/dev}';
const BFL = '{backend: bfl, remote: flux-dev}';
const BOX = '{backend: comfyui, workflow: txt2img, checkpoint: sdxl.safetensors}';
const MODELS = `models:\n${[
  model('both', 2, `${BOX}, ${REPLICATE}`),
  model('chain', 3, `${REPLICATE}, ${FAL}`, 'fallback: [cheap], '),
  model('cheap', 1, BFL),
  model('only-fal', 3, FAL),
  model('only-replicate', 3, REPLICATE),
].join('')}`;

let house: Studio;
let box: ComfyUiDouble;
let replicate: HostedDouble;
let fal: HostedDouble;
let bfl: HostedDouble;
let darkroom: Darkroom;

beforeEach(async () => {
  box = await startComfyUi({ renderMs: 10, installed: { checkpoints: ['sdxl.safetensors'] } });
  const clock = fastClock(10);
  [replicate, fal, bfl] = (await Promise.all(
    (['replicate', 'fal', 'bfl'] as const).map((kind) => startHosted(kind, { clock })),
  )) as [HostedDouble, HostedDouble, HostedDouble];
  const accounts = accountsAt(Object.entries({ replicate, fal, bfl }) as [HostedKind, HostedDouble][]);
  const nodes = `nodes:\n  - {id: rack-1, kind: comfyui, url: "${box.url}"}\n`;
  house = await studio(KEY, MODELS, `default_model: both\n${nodes}${accounts}`);
  darkroom = await house.open(realSystem(clock));
  await until(() => darkroom.gateway.nodes().every((n) => n.status === 'online'), 'everybody online');
});
afterEach(async () => {
  await darkroom.stop();
  await box.stop();
  for (const double of [replicate, fal, bfl]) {
    expect(double.fileLog.filter(({ keys }) => Object.keys(keys).length > 0)).toEqual([]);
    await double.close();
  }
  await house[Symbol.asyncDispose]();
});

const { get, submit, credits, ask: send } = callerAt(() => darkroom.url, KEY);
const ask = (request: object) => send({ prompt: 'a red bicycle', ...request });
const balance = async () => (await credits()).balance;
const nodesOf = (g: GenerationBody) => g.attempts.map((a) => [a.node, a.model, a.outcome]);

describe('where work goes', () => {
  it('stays on the own box while that can run it', async () => {
    const g = await ask({ model: 'both' });
    expect(nodesOf(g)).toEqual([['rack-1', 'both', 'succeeded']]);
    expect(replicate.paid).toEqual([]);
  });

  it('goes to the provider when the box is down, at the same price, and the picture is ours', async () => {
    await box.stop();
    await until(() => darkroom.gateway.nodes().some((n) => n.status === 'offline'), 'the box to be missed');
    const before = await balance();
    const g = await ask({ model: 'both', seed: 7 });
    expect(g).toMatchObject({ status: 'succeeded', model: 'both', seed: 7, credits_charged: 2 });
    expect(nodesOf(g)).toEqual([['replicate', 'both', 'succeeded']]);
    expect(before - (await balance())).toBe(2);
    expect(replicate.paid).toHaveLength(1);
    const picture = await fetch(g.url as string);
    expect(picture.headers.get('content-type')).toMatch(/^image\//);
  });
});

describe('a provider that takes no more', () => {
  it('is asked three times, then the next route serves', async () => {
    replicate.faults.on('rate_limited_silent');
    const g = await ask({ model: 'chain' });
    expect(g).toMatchObject({ status: 'succeeded', model: 'chain' });
    expect(nodesOf(g)).toEqual([
      ['replicate', 'chain', 'rate_limited'],
      ['fal', 'chain', 'succeeded'],
    ]);
    expect(replicate.log.filter((e) => 'method' in e && e.method === 'POST')).toHaveLength(3);
    expect([replicate.paid.length, fal.paid.length]).toEqual([0, 1]);
  });

  it('gives way to the equivalent model when every route is used up, by its name and price', async () => {
    replicate.faults.on('rate_limited_silent');
    fal.faults.on('rate_limited_silent');
    const g = await ask({ model: 'chain' });
    expect(g).toMatchObject({ status: 'succeeded', model: 'cheap', requested_model: 'chain', credits_charged: 1 });
    expect(nodesOf(g).at(-1)).toEqual(['bfl', 'cheap', 'succeeded']);
  });

  it('is the end where no equivalent is allowed', async () => {
    fal.faults.on('rate_limited_silent');
    const g = await ask({ model: 'only-fal' });
    expect(g).toMatchObject({ status: 'failed', credits_charged: 0, error: { code: 'rate_limited', retryable: true } });
  });
});

describe('an account without money or with a wrong key', () => {
  it.each([
    ['balance', 'provider_balance'],
    ['auth', 'provider_auth'],
  ] as const)(
    '%s: the job that found out is served elsewhere, and nobody is sent there any more',
    async (fault, code) => {
      replicate.faults.on(fault);
      const first = await ask({ model: 'chain' });
      expect(nodesOf(first)).toEqual([
        ['replicate', 'chain', code],
        ['fal', 'chain', 'succeeded'],
      ]);
      const asked = replicate.log.length;
      expect(nodesOf(await ask({ model: 'chain' }))).toEqual([['fal', 'chain', 'succeeded']]);
      expect(replicate.log).toHaveLength(asked);
      const { data } = await get<{ data: { id: string; circuit?: { state: string; reason: string | null } }[] }>(
        '/v1/nodes',
      );
      expect(data.find((n) => n.id === 'replicate')).toMatchObject({
        kind: 'replicate',
        slots: 4,
        circuit: { state: 'open' },
      });
      expect(data.find((n) => n.id === 'fal')?.circuit).toMatchObject({ state: 'closed', reason: null });
      expect(JSON.stringify(data)).not.toContain(replicate.key);
      const waits = await submit({ model: 'only-replicate', prompt: 'x' });
      await until(
        async () => (await get<GenerationBody>(`/v1/generations/${waits}`)).queue_reason === 'breaker_open',
        'the reason it waits',
      );
    },
  );

  it('fails the job that found out where nothing else serves', async () => {
    fal.faults.on('balance');
    const g = await ask({ model: 'only-fal' });
    expect(g).toMatchObject({ status: 'failed', credits_charged: 0, error: { code: 'provider_balance' } });
    expect(JSON.stringify(g)).not.toMatch(/Exhausted|locked/i);
  });
});

describe('what is paid is never paid twice', () => {
  it('fails as possibly billed when the answer to the paid request is lost and cannot be found', async () => {
    fal.faults.next('accept_then_drop');
    const g = await ask({ model: 'only-fal' });
    expect(g).toMatchObject({ status: 'failed', credits_charged: 0 });
    expect(g.error).toMatchObject({ code: 'node_lost', retryable: false, possibly_billed: true });
    expect(fal.paid).toHaveLength(1);
  });

  it('finds the job again where the provider keeps a list, and goes on', async () => {
    replicate.faults.next('accept_then_drop');
    const g = await ask({ model: 'only-replicate' });
    expect(g).toMatchObject({ status: 'succeeded', credits_charged: 3 });
    expect(replicate.paid).toHaveLength(1);
  });

  it('fetches a broken file again, and makes nothing anew', async () => {
    replicate.faults.next('truncated_file');
    const g = await ask({ model: 'only-replicate' });
    expect(replicate.paid).toHaveLength(1);
    expect(replicate.fileLog.length).toBeGreaterThan(3);
    expect(g).toMatchObject({ status: 'failed', credits_charged: 0 });
    expect(g.error).toMatchObject({ code: 'node_lost', retryable: false, possibly_billed: true });
  });

  it('makes nothing anew when the result cannot be had at all', async () => {
    replicate.faults.on('result_gone');
    const g = await ask({ model: 'chain' });
    expect(g.status).toBe('failed');
    expect([replicate.paid.length, fal.paid.length, bfl.paid.length]).toEqual([1, 0, 0]);
  });
});

describe('a refusal', () => {
  it('never shops for a laxer provider', async () => {
    replicate.faults.on('moderation_output');
    const g = await ask({ model: 'chain' });
    expect(g).toMatchObject({
      status: 'failed',
      credits_charged: 0,
      error: { code: 'safety_filter', retryable: false },
    });
    expect(fal.paid).toEqual([]);
  });

  it('is softened once, with the same seed, where the caller said how', async () => {
    replicate.faults.next('moderation_output');
    const g = await ask({ model: 'only-replicate', seed: 7, softened_prompt: 'a kind bicycle' });
    expect(g).toMatchObject({ status: 'succeeded', seed: 7, credits_charged: 3 });
    expect(replicate.paid.map(({ prompt }) => prompt)).toEqual(['a red bicycle', 'a kind bicycle']);
  });

  it('a result on an internal address is refused, and nothing leaks', async () => {
    replicate.faults.on('result_on_metadata_address');
    const g = await ask({ model: 'only-replicate' });
    expect(g).toMatchObject({ status: 'failed', error: { code: 'model_error' } });
    expect(JSON.stringify(g)).not.toContain('169.254');
  });
});

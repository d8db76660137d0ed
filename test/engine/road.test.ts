import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createBlocklist } from '../../src/domain/blocklist.ts';
import type { Caller } from '../../src/domain/caller.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { FREE } from '../../src/domain/price.ts';
import { hashKey } from '../../src/engine/gateway.ts';
import type { Plan } from '../fleet/fake-backend.ts';
import { CREDIT, type House, model, openHouse } from './house.ts';

let house: House;
beforeEach(async () => {
  house = await openHouse();
});
afterEach(async () => {
  await house[Symbol.asyncDispose]();
});
const credits = async () => house.gateway.credits(house.admin);
const code = async (promise: Promise<unknown>) =>
  promise.then(
    () => 'accepted',
    (e: unknown) => (e instanceof GatewayError ? e.failure.code : String(e)),
  );

describe('from asked to done', () => {
  it('is queued with everything resolved, then runs, succeeds and is charged', async () => {
    const asked = await house.ask({ seed: 5 });
    expect(asked).toMatchObject({
      state: { status: 'queued' },
      params: { seed: 5, width: 1024, steps: 20 },
      reserved: 2000,
    });
    expect(await credits()).toEqual({ balance: 1_000_000, reserved: 2000 });
    const done = await house.until(asked.id, 'succeeded');
    expect(done).toMatchObject({ charged: 2000, reserved: 0, attempts: [{ n: 1, outcome: 'succeeded' }] });
    expect(await credits()).toEqual({ balance: 998_000, reserved: 0 });
  });
  it('draws a seed below 2³² once, and keeps it over retries', async () => {
    house.fakes.node('rack-1').next({ crash: true });
    house.fakes.node('rack-2').next({ crash: true });
    const asked = await house.ask();
    expect(asked.params.seed).toBeLessThan(2 ** 32);
    await house.clock.advance(3000);
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).mend();
    const done = await house.until(asked.id, 'succeeded');
    expect(house.fakes.works.length).toBeGreaterThan(1);
    expect(new Set(house.fakes.works.map((w) => w.job.params.seed))).toEqual(new Set([done.params.seed]));
  });
  it('frees the node when the render ends, before the files are fetched', async () => {
    house.fakes.node('rack-1').plan = { runMs: 1000, brokenDownloads: 2 };
    house.fakes.node('rack-2').plan = { runMs: 1000, brokenDownloads: 2 };
    const ids = (await Promise.all([1, 2, 3, 4].map(() => house.ask()))).map((g) => g.id);
    await house.clock.advance(1100);
    expect(house.fakes.works).toHaveLength(4);
    expect(house.fakes.node('rack-1').busiest).toBe(1);
    for (const id of ids) expect((await house.until(id, 'succeeded')).attempts).toHaveLength(1);
  });
  it('waits for the end, or answers with the state as it is', async () => {
    const asked = await house.ask();
    const early = house.gateway.wait(house.admin, asked.id, 100, new AbortController().signal);
    await house.clock.advance(150);
    expect((await early).state.status).toBe('running');
    const late = house.gateway.wait(house.admin, asked.id, 60_000, new AbortController().signal);
    await house.clock.advance(5000);
    expect((await late).state.status).toBe('succeeded');
  });
});

describe('what goes wrong on a node', () => {
  const only = async (plan: Plan) => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).next(plan);
    return house.ask();
  };
  it('is retried elsewhere and charged once', async () => {
    for (const id of ['rack-1', 'rack-2'])
      house.fakes.node(id).plan = (job) => (job.attempt === 1 ? { fail: 'out_of_memory' } : {});
    const done = await house.until((await house.ask()).id, 'succeeded');
    expect(done.attempts.map((a) => a.outcome)).toEqual(['out_of_memory', 'succeeded']);
    expect(new Set(done.attempts.map((a) => a.node)).size).toBe(2);
    expect(await credits()).toEqual({ balance: 998_000, reserved: 0 });
  });
  it('gives up after three attempts, at no cost', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { fail: 'node_lost' };
    const g = await house.until((await house.ask()).id, 'failed');
    expect(g.attempts).toHaveLength(3);
    expect(g.state).toMatchObject({ failure: { code: 'node_lost' } });
    expect(await credits()).toEqual({ balance: 1_000_000, reserved: 0 });
  });
  it('does not run a broken graph twice', async () => {
    const g = await house.until((await only({ fail: 'model_error' })).id, 'failed');
    expect(g.attempts).toHaveLength(1);
  });
  it('goes to the next node when one refuses, and fails when all do', async () => {
    house.fakes.node('rack-1').plan = { refuse: 'model_error' };
    const done = await house.until((await house.ask()).id, 'succeeded');
    expect(done.attempts.at(-1)?.node).toBe('rack-2');
    house.fakes.node('rack-2').plan = { refuse: 'model_error' };
    expect((await house.until((await house.ask()).id, 'failed')).state).toMatchObject({
      failure: { code: 'model_error' },
    });
  });
  it('calls success without an output a model_error', async () => {
    const g = await house.until((await only({ files: [] })).id, 'failed');
    expect(g.state).toMatchObject({ failure: { code: 'model_error' } });
    expect(g.charged).toBe(0);
  });
  it('repeats a broken download without rendering again', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { brokenDownloads: 2 };
    await house.until((await house.ask()).id, 'succeeded');
    expect(house.fakes.works).toHaveLength(1);
  });
  it('softens a withheld prompt once, same seed, second attempt', async () => {
    for (const id of ['rack-1', 'rack-2'])
      house.fakes.node(id).plan = (job) => (job.params.prompt.includes('calm') ? {} : { fail: 'safety_filter' });
    const asked = await house.ask({ prompt: 'storm', softened_prompt: 'calm sea' });
    const done = await house.until(asked.id, 'succeeded');
    expect(done.params).toMatchObject({ prompt: 'calm sea', seed: asked.params.seed });
    expect(done.attempts).toHaveLength(2);
  });
});

describe('deadlines', () => {
  it('stop a run that takes too long, and the node with it', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { hang: true };
    const g = await house.until((await house.ask({ run_within_seconds: 30 })).id, 'timeout');
    expect(g.state).toMatchObject({ failure: { code: 'run_timeout' } });
    await house.clock.advance(100);
    expect(house.fakes.works[0]?.state).toBe('cancelled');
  });
  it('end what did not start in time', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { runMs: 100_000 };
    await house.ask();
    await house.ask();
    const late = await house.until((await house.ask({ start_within_seconds: 5 })).id, 'timeout');
    expect(late.state).toMatchObject({ failure: { code: 'start_timeout' }, finishedAt: late.createdAt + 5000 });
  });
});

describe('cancelling', () => {
  it('ends a queued one at once and gives the credits back', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { runMs: 100_000 };
    await house.ask();
    await house.ask();
    const third = await house.ask();
    expect((await house.gateway.cancel(house.admin, third.id)).state).toMatchObject({ status: 'cancelled' });
    expect((await credits()).reserved).toBe(4000);
  });
  it('stops the node and throws a late picture away', async () => {
    const asked = await house.ask();
    await house.clock.advance(500);
    await house.gateway.cancel(house.admin, asked.id);
    await house.clock.advance(5000);
    expect(house.fakes.works[0]?.state).toBe('cancelled');
    expect(await house.state(asked.id)).toMatchObject({ state: { status: 'cancelled' }, charged: 0 });
  });
  it('is idempotent and leaves a finished one alone', async () => {
    const done = await house.until((await house.ask()).id, 'succeeded');
    expect(await house.gateway.cancel(house.admin, done.id)).toEqual(done);
  });
});

describe('refusals leave nothing behind', () => {
  it('names what is wrong', async () => {
    expect(await code(house.ask({ model: 'flix' }))).toBe('unknown_model');
    expect(await code(house.ask({ max_credits: 1 }))).toBe('budget_exceeded');
    expect(await code(house.ask({ webhook_url: 'http://169.254.169.254/x' }))).toBe('invalid_request');
    expect(await code(house.ask({ init_image: 'upl_01HWX2K8Y4N5R7P9Q1B3T6V8M0' }))).toBe('invalid_request');
    expect((await house.gateway.list(house.admin, {}, 10)).data).toEqual([]);
    expect((await credits()).reserved).toBe(0);
  });
  it('answers 402 before anything is queued', async () => {
    await house.gateway.grant('studio', -999_000, 'all but one');
    expect(await code(house.ask())).toBe('insufficient_credits');
  });
  it('serves an alias under the canonical name and says what was asked for', async () => {
    expect(await house.ask({ model: 'flux' })).toMatchObject({ model: 'flux-dev', requestedModel: 'flux' });
  });
});

describe('limits of a workspace', () => {
  it('hold work back beyond its concurrency, and say so', async () => {
    await using narrow = await openHouse({
      settings: { limits: { concurrency: 1, queue: 2, requestsPerMinute: null } },
    });
    for (const id of ['rack-1', 'rack-2']) narrow.fakes.node(id).plan = { runMs: 10_000 };
    await narrow.ask();
    const second = await narrow.ask();
    await narrow.clock.advance(5_000);
    expect(narrow.fakes.works).toHaveLength(1);
    expect(narrow.gateway.view(await narrow.state(second.id), '').queue).toEqual({
      position: 1,
      reason: 'workspace_limit',
    });
    await narrow.ask();
    expect(await code(narrow.ask())).toBe('queue_full');
    await narrow.until(second.id, 'succeeded');
  });
});

describe('keys', () => {
  const make = async (scopes: readonly ('admin' | 'generate')[]) => {
    const { id } = await house.gateway.createWorkspace({ name: 'campaign', credits: 5 * CREDIT, limits: {} });
    const rights = { models: null, expiresAt: house.clock.now() + 1000, requestsPerMinute: null, spendCap: null };
    const { secret } = await house.gateway.createKey(id, { name: 'k', scopes, ...rights });
    return { id, hash: hashKey(secret) };
  };
  it('act in their own workspace, admin keys in studio', async () => {
    const plain = await make(['generate']);
    expect((await house.gateway.authenticate(plain.hash))?.workspace.id).toBe(plain.id);
    const admin = await make(['admin']);
    expect((await house.gateway.authenticate(admin.hash))?.workspace.id).toBe('studio');
  });
  it('end with their time', async () => {
    const { hash } = await make(['generate']);
    await house.clock.advance(1000);
    expect(await house.gateway.authenticate(hash)).toBeNull();
  });
});

describe('withdrawing credits', () => {
  it('cancels the newest queued work until the rest is covered; running work finishes', async () => {
    for (const id of ['rack-1', 'rack-2']) house.fakes.node(id).plan = { runMs: 10_000 };
    const all = [];
    for (let i = 0; i < 6; i++) all.push(await house.ask());
    await house.clock.advance(100);
    await house.gateway.grant('studio', -991_000, 'withdrawn');
    const statuses = await Promise.all(all.map(async (g) => (await house.state(g.id)).state.status));
    expect(statuses).toEqual(['running', 'running', 'queued', 'queued', 'cancelled', 'cancelled']);
    expect((await house.state(all[5]?.id as string)).state).toMatchObject({
      failure: { code: 'insufficient_credits' },
    });
  });
});

describe('a fallback', () => {
  const open = () =>
    openHouse({
      nodes: ['rack-1'],
      models: [
        {
          id: 'hosted',
          fallback: ['flux-dev'],
          routes: [
            { backend: 'replicate', labels: [], checkpoint: null, workflow: null, remote: 'x/y', account: null },
          ],
        },
        {
          id: 'big',
          price: { ...FREE, perOutput: 9 * CREDIT },
          fallback: ['flux-dev'],
          routes: [{ backend: 'sdapi', labels: [], checkpoint: null, workflow: null, remote: null, account: null }],
        },
        {},
      ],
      extra: [{ id: 'rack-9', kind: 'sdapi' }],
    });
  it('serves what nothing configured could ever run, under its own name and price', async () => {
    await using other = await open();
    const g = await other.ask({ model: 'hosted' });
    expect(g).toMatchObject({ model: 'flux-dev', requestedModel: 'hosted', reserved: 2000 });
    await expect(other.ask({ model: 'hosted', fallback: 'none' })).rejects.toMatchObject({
      failure: { code: 'no_capable_node' },
    });
  });
  it('is not used for a key that may not use it', async () => {
    await using other = await open();
    const rights = { expiresAt: null, requestsPerMinute: null, spendCap: null, scopes: ['generate'] as const };
    const { secret } = await other.gateway.createKey('studio', { name: 'k', models: ['big', 'hosted'], ...rights });
    const caller = (await other.gateway.authenticate(hashKey(secret))) as Caller;
    await expect(other.gateway.submit(caller, { model: 'hosted', prompt: 'x' })).rejects.toMatchObject({
      failure: { code: 'forbidden' },
    });
    const { generation } = await other.gateway.submit(caller, { model: 'big', prompt: 'x' });
    expect(generation.fallback).toBe('none');
  });
  describe('after "too many requests"', () => {
    const limited = () => openHouse({ nodes: ['rack-1'], models: [{ id: 'dear', fallback: ['flux-dev'] }, {}] });
    it('takes over at once instead of asking again, and says so', async () => {
      await using other = await limited();
      other.fakes.node('rack-1').plan = (job) => (job.attempt === 1 ? { fail: 'rate_limited' } : {});
      const g = await other.until((await other.ask({ model: 'dear' })).id, 'succeeded');
      expect(g).toMatchObject({ model: 'flux-dev', requestedModel: 'dear', charged: 2000 });
      expect(g.attempts.map((a) => [a.model, a.outcome])).toEqual([
        ['dear', 'rate_limited'],
        ['flux-dev', 'succeeded'],
      ]);
    });
    it('takes over too where the node would not take the job at all', async () => {
      await using other = await limited();
      other.fakes.node('rack-1').next({ refuse: 'rate_limited' });
      const g = await other.until((await other.ask({ model: 'dear' })).id, 'succeeded');
      expect(g).toMatchObject({ model: 'flux-dev', requestedModel: 'dear' });
    });
    it('is not used where the caller does not allow it', async () => {
      await using other = await limited();
      other.fakes.node('rack-1').plan = { fail: 'rate_limited' };
      const g = await other.until((await other.ask({ model: 'dear', fallback: 'none' })).id, 'failed');
      expect(g.attempts.map((a) => a.model)).toEqual(['dear', 'dear', 'dear']);
      expect(g.state).toMatchObject({ failure: { code: 'rate_limited' } });
    });
  });
  it('passes over an equivalent that cannot make this', async () => {
    const lost = [
      { backend: 'sdapi', labels: [], checkpoint: null, workflow: null, remote: null, account: null },
    ] as const;
    await using other = await openHouse({
      nodes: ['rack-1'],
      extra: [{ id: 'rack-9', kind: 'sdapi' }],
      models: [
        { id: 'big', fallback: ['small', 'flux-dev'], routes: lost },
        {
          id: 'small',
          limits: { maxPixels: 65_536, minSide: 64, maxSide: 256, multipleOf: 16, maxN: 1, maxSteps: 50 },
        },
        {},
      ],
    });
    other.fakes.node('rack-9').crash();
    await other.clock.advance(60_000);
    expect((await other.until((await other.ask({ model: 'big' })).id, 'succeeded')).model).toBe('flux-dev');
  });
  it('is found by itself once the nodes had time to answer', async () => {
    await using other = await open();
    other.fakes.node('rack-9').crash();
    await other.crashAndRestart();
    const asked = await other.ask({ model: 'big' });
    expect((await other.until(asked.id, 'succeeded')).model).toBe('flux-dev');
  });
  it('takes over when every node of the model is down, at its own price, and only where it is allowed', async () => {
    await using other = await open();
    other.fakes.node('rack-9').crash();
    await other.clock.advance(60_000);
    const strict = await other.ask({ model: 'big', fallback: 'none' });
    const done = await other.until((await other.ask({ model: 'big' })).id, 'succeeded');
    expect(done).toMatchObject({ model: 'flux-dev', requestedModel: 'big', charged: 2000, reserved: 0 });
    expect(done.attempts).toMatchObject([{ model: 'flux-dev', node: 'rack-1' }]);
    expect((await other.state(strict.id)).state.status).toBe('queued');
    expect(await other.gateway.credits(other.admin)).toEqual({ balance: 998_000, reserved: 9000 });
  });
});

it('cancels what is queued, and leaves what has begun when only the queued was meant', async () => {
  await using house = await openHouse({ nodes: ['rack-1'] });
  house.fakes.node('rack-1').plan = { hang: true };
  const running = await house.ask();
  await house.until(running.id, 'running');
  const queued = await house.ask();
  const only = { whileQueued: true } as const;
  expect((await house.gateway.cancel(house.admin, queued.id, only)).state.status).toBe('cancelled');
  expect((await house.gateway.cancel(house.admin, running.id, only)).state.status).toBe('running');
});

describe("the studio's own list of what is not allowed", () => {
  const guarded = () => openHouse({ settings: { blocklistOf: () => createBlocklist(['acme lamp']) } });
  it('refuses such a prompt before anything is spent, and says what it was', async () => {
    await using other = await guarded();
    await expect(other.ask({ prompt: 'an ACME-lamp at dawn' })).rejects.toMatchObject({
      failure: { code: 'policy_block', details: [{ path: 'prompt' }] },
    });
    expect(await other.gateway.credits(other.admin)).toMatchObject({ reserved: 0 });
  });
  it('takes the softened prompt from the beginning where that one is allowed', async () => {
    await using other = await guarded();
    const g = await other.ask({ prompt: 'an acme lamp', softened_prompt: 'a lamp' });
    expect(g).toMatchObject({ softened: true, params: { prompt: 'a lamp' } });
    expect(g.warnings.join()).toMatch(/softened_prompt stands in/);
    await expect(other.ask({ prompt: 'acme lamp', softened_prompt: 'an acme lamp' })).rejects.toThrow(/not allowed/);
    await expect(other.ask({ prompt: 'a lamp', softened_prompt: 'an acme lamp' })).rejects.toMatchObject({
      failure: { code: 'policy_block', details: [{ path: 'softened_prompt' }] },
    });
  });
  it('asks every text among the inputs too, which no softened prompt mends; what must not appear may be named', async () => {
    const { defaults } = model();
    const inputs = { second_prompt: 'acme lamp, as the workflow has it', amount: 1 };
    await using other = await openHouse({
      settings: { blocklistOf: () => createBlocklist(['acme lamp']) },
      models: [{ defaults: { ...defaults, inputs } }],
    });
    const hit = { failure: { code: 'policy_block', details: [{ path: 'inputs.second_prompt' }] } };
    const given = { inputs: { second_prompt: 'an acme lamp' } };
    await expect(other.ask(given)).rejects.toMatchObject(hit);
    await expect(other.ask({ ...given, softened_prompt: 'a lamp' })).rejects.toMatchObject(hit);
    expect(await other.gateway.credits(other.admin)).toMatchObject({ reserved: 0 });
    await other.ask({ negative_prompt: 'acme lamp', inputs: { second_prompt: 'a lamp' } });
    await other.ask();
  });
});

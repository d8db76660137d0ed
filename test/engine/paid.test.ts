import { afterEach, describe, expect, it } from 'vitest';
import { type FailureCode, failure } from '../../src/domain/failure.ts';
import type { Route } from '../../src/domain/model.ts';
import { DEFAULT_POLICY } from '../../src/domain/placement.ts';
import { FREE } from '../../src/domain/price.ts';
import { CREDIT, type House, type HouseOptions, openHouse } from './house.ts';

const opened: House[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((house) => house[Symbol.asyncDispose]()));
});
const hosted = (backend: Route['backend']): Route => ({
  backend,
  labels: [],
  checkpoint: null,
  workflow: null,
  remote: 'x/y',
  account: null,
});
const BOX: Route = { ...hosted('comfyui'), remote: null, checkpoint: 'flux.safetensors' };
async function open(more: HouseOptions = {}): Promise<House> {
  const house = await openHouse({
    nodes: [],
    extra: [{ id: 'fal', kind: 'fal' }],
    models: [{ routes: [hosted('fal')] }],
    ...more,
  });
  opened.push(house);
  return house;
}

it('work that has waited long enough goes to the account then, and not when something else happens', async () => {
  const house = await open({
    nodes: ['rack-1'],
    models: [{ routes: [BOX, hosted('fal')] }],
    settings: { policy: { ...DEFAULT_POLICY, overflowMs: () => 60_000 } },
  });
  house.fakes.node('rack-1').plan = { hang: true };
  await house.ask();
  await house.clock.advance(20_000);
  const second = await house.ask();
  await house.clock.advance(59_000);
  expect((await house.state(second.id)).state.status).toBe('queued');
  await house.clock.advance(1_100);
  expect((await house.state(second.id)).state).toMatchObject({ status: 'running', node: 'fal' });
});

it('asks every route and then the model that stands in before it gives up, however many they are', async () => {
  const kinds = ['replicate', 'bfl', 'fal', 'together'] as const;
  const house = await open({
    models: [
      { id: 'a', routes: kinds.map(hosted), fallback: ['b'] },
      { id: 'b', routes: [hosted('openai')], fallback: ['a'] },
    ],
    extra: [...kinds, 'openai' as const].map((kind) => ({ id: kind, kind })),
  });
  const limited = { refuse: failure('rate_limited', 'too many', { retryAfterSeconds: 60 }) };
  for (const kind of kinds) house.fakes.node(kind).plan = limited;
  const g = await house.until((await house.ask({ model: 'a' })).id, 'succeeded');
  expect(g.attempts.map(({ node }) => node)).toEqual([...kinds, 'openai']);
  house.fakes.node('openai').plan = limited;
  await house.clock.advance(120_000);
  const none = await house.until((await house.ask({ model: 'a' })).id, 'failed');
  expect(none.state).toMatchObject({ failure: { code: 'rate_limited' } });
  expect(none.attempts.map(({ node }) => node)).toEqual([...kinds, 'openai']);
});

it('only the one that finds out an account has no money fails; the trials after it wait like the rest', async () => {
  const house = await open();
  house.fakes.node('fal').plan = { refuse: 'provider_balance' };
  const first = await house.until((await house.ask()).id, 'failed');
  expect(first.state).toMatchObject({ failure: { code: 'provider_balance' } });
  const ids = [(await house.ask()).id, (await house.ask()).id];
  await house.clock.advance(400_000);
  for (const id of ids) {
    const g = await house.state(id);
    expect(house.gateway.view(g, '').queue).toMatchObject({ reason: 'breaker_open' });
    // an account may be in trouble for days
    expect(g.attempts.length).toBeLessThanOrEqual(1);
  }
  house.fakes.node('fal').plan = {};
  for (const id of ids) await house.until(id, 'succeeded');
});

describe('two routes of one account', () => {
  const routes = [hosted('fal'), { ...hosted('fal'), remote: 'x/z' }];
  const firstSays = (house: House, refuse: FailureCode) => {
    house.fakes.node('fal').plan = (job) => (job.route.remote === 'x/y' ? { refuse } : {});
  };

  it.each(['model_gone', 'model_error', 'unsupported_input', 'rate_limited'] as const)(
    'the second serves where the first answers %s',
    async (code) => {
      const house = await open({ models: [{ routes }] });
      firstSays(house, code);
      const g = await house.until((await house.ask()).id, 'succeeded');
      expect(g.attempts.map(({ node, outcome }) => [node, outcome])).toEqual([
        ['fal', code],
        ['fal', 'succeeded'],
      ]);
      expect(house.fakes.works.map(({ job }) => job.route.remote)).toEqual(['x/z']);
    },
  );

  it('the second is not asked where the account itself is in trouble', async () => {
    const house = await open({ models: [{ routes }] });
    firstSays(house, 'provider_balance');
    const g = await house.until((await house.ask()).id, 'failed');
    expect(g.state).toMatchObject({ failure: { code: 'provider_balance' } });
    expect(house.fakes.works).toEqual([]);
  });

  it('the model that stands in comes after both', async () => {
    const house = await open({
      models: [
        { id: 'a', routes, fallback: ['b'] },
        { id: 'b', routes: [{ ...hosted('bfl'), remote: 'b' }] },
      ],
      extra: [
        { id: 'fal', kind: 'fal' },
        { id: 'bfl', kind: 'bfl' },
      ],
    });
    house.fakes.node('fal').plan = { refuse: 'model_gone' };
    const g = await house.until((await house.ask({ model: 'a', fallback: 'model' })).id, 'succeeded');
    expect(g.attempts.map(({ node, model }) => [node, model])).toEqual([
      ['fal', 'a'],
      ['fal', 'a'],
      ['bfl', 'b'],
    ]);
  });
});

it('what was paid is still asked after when the gateway was away for longer than it may run', async () => {
  const house = await open();
  house.fakes.node('fal').plan = { runMs: 300_000 };
  const g = await house.ask();
  await house.clock.advance(1_000);
  const crashed = house.clock;
  crashed.set(660_000);
  await house.crashAndRestart();
  await house.clock.advance(30_000);
  expect((await house.state(g.id)).state.status).toBe('running');
  await house.clock.advance(40_000);
  const over = await house.state(g.id);
  expect(over.state).toMatchObject({ status: 'timeout', failure: { code: 'run_timeout', possiblyBilled: true } });
});

it('delivers the pictures that can be had, says how many are missing, and charges for no more', async () => {
  const house = await open();
  const files = [Buffer.from('a'), Buffer.from('b'), Buffer.from('c')];
  house.fakes.node('fal').plan = { files, lostFiles: [1] };
  const g = await house.until((await house.ask({ n: 3, seed: 10 })).id, 'succeeded');
  expect(g.state).toMatchObject({
    outputs: [
      { index: 0, seed: 10 },
      { index: 1, seed: 12 },
    ],
  });
  expect(g.warnings.join()).toMatch(/1 of the 3 files/);
  expect(g.charged).toBe(4_000);
  house.fakes.node('fal').plan = { files, lostFiles: [0, 1, 2] };
  const none = await house.until((await house.ask({ n: 3 })).id, 'failed');
  expect(none.state).toMatchObject({ failure: { code: 'node_lost', possiblyBilled: true } });
});

it('delivers what there is when time is up', async () => {
  const house = await open();
  house.fakes.node('fal').plan = { files: [Buffer.from('a'), Buffer.from('b')], endlessFiles: [0] };
  const asked = await house.ask({ n: 2, seed: 10, run_within_seconds: 30 });
  const g = await house.until(asked.id, 'succeeded');
  expect(g.state).toMatchObject({ outputs: [{ index: 0, seed: 11 }] });
});

it('tells the seed that the account says a picture was made with', async () => {
  const house = await open();
  house.fakes.node('fal').plan = { files: [Buffer.from('a'), Buffer.from('b')], seeds: [11, 12] };
  const g = await house.until((await house.ask({ n: 3, seed: 10 })).id, 'succeeded');
  expect(g.state).toMatchObject({ outputs: [{ seed: 11 }, { seed: 12 }] });
});

it('fetches what was paid although the model left the catalog meanwhile', async () => {
  const house = await open();
  house.fakes.node('fal').plan = { runMs: 20_000 };
  const g = await house.ask();
  await house.clock.advance(1_000);
  house.offer([]);
  await house.crashAndRestart();
  await house.until(g.id, 'succeeded');
  expect(house.fakes.works).toHaveLength(1);
});

it('takes no reference of an account to another kind of server of the same name', async () => {
  const house = await open({ models: [{ routes: [hosted('fal'), BOX] }] });
  house.fakes.node('fal').plan = { hang: true };
  const g = await house.ask();
  await house.clock.advance(1_000);
  house.equip([{ id: 'fal', kind: 'comfyui' }]);
  await house.crashAndRestart();
  const over = await house.until(g.id, 'failed');
  expect(over.state).toMatchObject({ failure: { code: 'node_lost', possiblyBilled: true } });
  expect(house.fakes.works).toHaveLength(1);
  expect(house.fakes.works[0]?.resumes).toBe(0);
});

it('work for an account that cannot be reached waits, and three in a row set the account aside', async () => {
  const house = await open();
  house.fakes.node('fal').plan = { refuse: 'node_lost' };
  const ids = [];
  for (let i = 0; i < 5; i++) ids.push((await house.ask()).id);
  await house.clock.advance(10_000);
  expect(house.fleet.views()[0]?.setAside).toBe(true);
  house.fakes.node('fal').plan = {};
  for (const id of ids) await house.until(id, 'succeeded');
});

it('work for an account that takes no more for now waits, and says so', async () => {
  const house = await open();
  house.fakes.node('fal').plan = { refuse: failure('rate_limited', 'too many', { retryAfterSeconds: 40 }) };
  const first = await house.until((await house.ask()).id, 'failed');
  expect(first.state).toMatchObject({ failure: { code: 'rate_limited' } });
  house.fakes.node('fal').plan = {};
  const second = await house.ask();
  await house.clock.advance(30_000);
  expect(house.gateway.view(await house.state(second.id), '').queue).toMatchObject({ reason: 'rate_limited' });
  await house.until(second.id, 'succeeded');
});

it('a model that stands in never costs more than was set aside, nor does it where the caller wants none', async () => {
  const dear = { price: { ...FREE, perOutput: 9 * CREDIT }, id: 'dear', routes: [BOX] };
  const house = await open({ nodes: ['rack-1'], models: [{ routes: [hosted('fal')], fallback: ['dear'] }, dear] });
  house.fakes.node('fal').plan = { refuse: 'provider_balance' };
  const strict = await house.ask({ fallback: 'none' });
  expect(await house.until(strict.id, 'failed')).toMatchObject({ attempts: [{ model: 'flux-dev' }], charged: 0 });
  const done = await house.until((await house.ask()).id, 'succeeded');
  expect(done).toMatchObject({ model: 'dear', charged: 2 * CREDIT, reserved: 0 });
  expect(await house.gateway.credits(house.admin)).toEqual({ balance: 998 * CREDIT, reserved: 0 });
});

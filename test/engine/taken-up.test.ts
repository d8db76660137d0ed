// Work at an account that was interrupted: what nobody asked for yet cannot have been billed, and what was asked for is taken
// up as what it was asked as.

import { afterEach, describe, expect, it } from 'vitest';
import { failure } from '../../src/domain/failure.ts';
import type { Route } from '../../src/domain/model.ts';
import { type House, type HouseOptions, openHouse } from './house.ts';

const opened: House[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((house) => house[Symbol.asyncDispose]()));
});
const hosted = (backend: Route['backend'], remote: string): Route => ({
  backend,
  labels: [],
  checkpoint: null,
  workflow: null,
  remote,
  account: null,
});
const FAL = { id: 'fal', kind: 'fal' } as const;
const BFL = { id: 'bfl', kind: 'bfl' } as const;
async function open(more: HouseOptions): Promise<House> {
  const house = await openHouse({ nodes: [], extra: [FAL], ...more });
  opened.push(house);
  return house;
}

describe('what waits with nothing asked', () => {
  const routes = [hosted('fal', 'x/y'), hosted('bfl', 'y')];

  it('was not billed when its time is up', async () => {
    const house = await open({ models: [{ routes }] });
    house.fakes.node('fal').waits = true;
    const asked = await house.ask({ run_within_seconds: 30 });
    const { state } = await house.until(asked.id, 'timeout');
    expect(state).toMatchObject({ failure: { code: 'run_timeout' } });
    expect(JSON.stringify(state)).not.toContain('possiblyBilled');
  });

  it.each([true, false])('is served elsewhere when its account is gone after a restart (%s)', async (waits) => {
    const house = await open({ models: [{ routes }] });
    Object.assign(house.fakes.node('fal'), { waits, plan: { hang: true } });
    const asked = await house.ask();
    await house.clock.advance(1_000);
    house.equip([BFL]);
    await house.crashAndRestart();
    const over = await house.until(asked.id, waits ? 'succeeded' : 'failed');
    expect(house.fakes.works.map(({ node }) => node)).toEqual([waits ? 'bfl' : 'fal']);
    if (!waits) expect(over.state).toMatchObject({ failure: { code: 'node_lost', possiblyBilled: true } });
  });
});

describe('two routes of one account', () => {
  const first = hosted('fal', 'x/y');
  const second = hosted('fal', 'x/z');
  const onSecond = async () => {
    const house = await open({ models: [{ routes: [first, second] }] });
    house.fakes.node('fal').plan = ({ route }) =>
      route.remote === 'x/y' ? { refuse: 'model_gone' } : { runMs: 20_000 };
    const asked = await house.ask();
    await house.clock.advance(5_000);
    return { house, asked };
  };
  const resumedAs = (house: House) => house.fakes.works.map(({ resumed }) => resumed?.route.remote);

  it('are told apart when work is taken up', async () => {
    const { house, asked } = await onSecond();
    await house.crashAndRestart();
    await house.until(asked.id, 'succeeded');
    expect(resumedAs(house)).toEqual(['x/z']);
  });

  it('do not stand in for each other when one left the catalog', async () => {
    const { house, asked } = await onSecond();
    house.offer([{ routes: [first] }]);
    await house.crashAndRestart();
    await house.until(asked.id, 'succeeded');
    expect(resumedAs(house)).toEqual([null]);
  });
});

it('what could not be asked about until its time was up failed for that reason', async () => {
  const house = await open({ models: [{ routes: [hosted('fal', 'x/y')] }] });
  const trouble = failure('provider_auth', 'The key.', { retryable: false, possiblyBilled: true });
  house.fakes.node('fal').plan = { hang: true, trouble };
  const { state } = await house.until((await house.ask({ run_within_seconds: 30 })).id, 'failed');
  expect(state).toMatchObject({ failure: trouble });
});

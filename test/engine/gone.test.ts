// Models that are no more: their day has come, or their provider no longer has them. What may stand in does, under its own
// name; where nothing may, the answer says model_gone and costs nothing.

import { afterEach, describe, expect, it } from 'vitest';
import type { Model, Route } from '../../src/domain/model.ts';
import { FREE } from '../../src/domain/price.ts';
import { CREDIT, type House, type HouseOptions, openHouse } from './house.ts';

const opened: House[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((house) => house[Symbol.asyncDispose]()));
});
async function open(options: HouseOptions = {}): Promise<House> {
  const house = await openHouse({ nodes: ['rack-1'], ...options });
  opened.push(house);
  return house;
}
const gone = (message: RegExp) => ({ failure: { code: 'model_gone', message: expect.stringMatching(message) } });

describe('a model past its retirement date', () => {
  const OLD: Partial<Model> = { id: 'old', retiresAt: Date.parse('2026-06-30'), price: { ...FREE, perOutput: CREDIT } };
  const RETIRED: Partial<Model> = { ...OLD, retired: true };
  const HEIR: Partial<Model> = { ...RETIRED, fallback: ['flux-dev'] };

  it('is refused, and nothing is queued or reserved', async () => {
    const house = await open({ models: [RETIRED, {}] });
    await expect(house.ask({ model: 'old' })).rejects.toMatchObject(gone(/^old was retired on 2026-06-30/));
    expect((await house.gateway.credits(house.admin)).reserved).toBe(0);
    expect(house.fakes.works).toEqual([]);
  });
  it('is served by the first of its list that is not retired too, under that name and price', async () => {
    const house = await open({
      models: [{ ...HEIR, fallback: ['older', 'flux-dev'] }, { ...RETIRED, id: 'older' }, {}],
    });
    const done = await house.until((await house.ask({ model: 'old' })).id, 'succeeded');
    expect(done).toMatchObject({ model: 'flux-dev', requestedModel: 'old', charged: 2 * CREDIT });
    await expect(house.ask({ model: 'old', fallback: 'none' })).rejects.toMatchObject(gone(/nothing may stand in/));
  });
  it('is shown as unusable, with the day and what stands in', async () => {
    const house = await open({ models: [HEIR, { ...RETIRED, id: 'alone' }, {}] });
    expect(house.gateway.model('old')).toMatchObject({
      usable: false,
      whyNot: 'was retired on 2026-06-30; flux-dev stands in for it',
      routes: [{ usable: false, whyNot: 'was retired on 2026-06-30' }],
    });
    expect(house.gateway.model('alone').whyNot).toBe('was retired on 2026-06-30; nothing stands in for it');
  });
  it('has what was queued for it served by what stands in, and fails what allows nothing else', async () => {
    const house = await open({ models: [{ ...OLD, fallback: ['flux-dev'] }, {}] });
    house.fakes.node('rack-1').plan = { runMs: 60_000 };
    const first = await house.ask({ model: 'old' });
    await house.clock.advance(1000);
    const strict = await house.ask({ model: 'old', fallback: 'none' });
    const open_ = await house.ask({ model: 'old' });
    house.offer([HEIR, {}]);
    expect((await house.until(strict.id, 'failed')).state).toMatchObject(
      gone(/^The model old was retired on 2026-06-30/),
    );
    expect(await house.until(first.id, 'succeeded')).toMatchObject({ model: 'old', charged: CREDIT });
    const done = await house.until(open_.id, 'succeeded');
    expect(done).toMatchObject({ model: 'flux-dev', requestedModel: 'old', charged: CREDIT });
    expect(await house.gateway.credits(house.admin)).toEqual({ balance: 998_000, reserved: 0 });
  });
  it('has queued work wait for what stands in while that is away, also after a start', async () => {
    const house = await open({ models: [{ ...OLD, fallback: ['flux-dev'] }, {}] });
    house.fakes.node('rack-1').crash();
    await house.clock.advance(60_000);
    const asked = await house.ask({ model: 'old' });
    house.offer([HEIR, {}]);
    await house.crashAndRestart();
    await house.clock.advance(60_000);
    expect((await house.state(asked.id)).state.status).toBe('queued');
    house.fakes.node('rack-1').mend();
    expect((await house.until(asked.id, 'succeeded')).model).toBe('flux-dev');
  });
});

describe('a model that its provider no longer has', () => {
  const to = (backend: Route['backend']): Route => ({
    backend,
    labels: [],
    checkpoint: null,
    workflow: null,
    remote: 'x/y',
    account: null,
  });
  const deserted = async (more: Partial<Model>, others: readonly Partial<Model>[] = [{}]) => {
    const extra = [
      { id: 'fal', kind: 'fal' },
      { id: 'bfl', kind: 'bfl' },
    ] as const;
    const house = await open({ extra, models: [{ id: 'dear', routes: [to('fal')], ...more }, ...others] });
    const asked = { fal: 0 };
    house.fakes.node('fal').plan = () => {
      asked.fal++;
      return { refuse: 'model_gone' };
    };
    return { house, asked };
  };
  const outcomes = async (house: House, id: string) =>
    (await house.until(id, 'succeeded')).attempts.map((a) => [a.node, a.outcome]);

  it('is asked for by one, then by nobody for ten minutes, and then again', async () => {
    const { house, asked } = await deserted({ routes: [to('fal'), to('bfl')] });
    expect(await outcomes(house, (await house.ask({ model: 'dear' })).id)).toEqual([
      ['fal', 'model_gone'],
      ['bfl', 'succeeded'],
    ]);
    for (let i = 0; i < 3; i++)
      expect(await outcomes(house, (await house.ask({ model: 'dear' })).id)).toEqual([['bfl', 'succeeded']]);
    expect(asked.fal).toBe(1);
    await house.clock.advance(600_000);
    await house.until((await house.ask({ model: 'dear' })).id, 'succeeded');
    expect(asked.fal).toBe(2);
    await house.clock.advance(600_000);
    house.fakes.node('fal').plan = {};
    for (let i = 0; i < 2; i++)
      expect(await outcomes(house, (await house.ask({ model: 'dear' })).id)).toEqual([['fal', 'succeeded']]);
    expect(house.gateway.model('dear').routes[0]).toMatchObject({ usable: true, goneSince: null });
  });
  it('is shown so, by the route, until it was had again or an operator says so', async () => {
    const { house } = await deserted({ routes: [to('fal'), to('bfl')] });
    await house.until((await house.ask({ model: 'dear' })).id, 'succeeded');
    const lost = { usable: false, whyNot: 'fal no longer has x/y', goneSince: expect.any(Number) };
    expect(house.gateway.model('dear')).toMatchObject({
      usable: true,
      routes: [lost, { usable: true, goneSince: null }],
    });
    await house.clock.advance(600_000);
    expect(house.gateway.model('dear').routes[0]).toMatchObject({ ...lost, usable: true, whyNot: null });
    await house.gateway.resumeNode('fal');
    expect(house.gateway.model('dear').routes[0]).toMatchObject({ usable: true, goneSince: null });
  });
  it('is served by what stands in, from the door on', async () => {
    const { house, asked } = await deserted({ fallback: ['flux-dev'] });
    expect((await house.until((await house.ask({ model: 'dear' })).id, 'succeeded')).model).toBe('flux-dev');
    expect(await house.ask({ model: 'dear' })).toMatchObject({ model: 'flux-dev', requestedModel: 'dear' });
    expect(asked.fal).toBe(1);
  });
  it('ends what was queued for it without asking, where nothing may stand in, and takes no more', async () => {
    const { house, asked } = await deserted({});
    const ids = [];
    for (let i = 0; i < 3; i++) ids.push((await house.ask({ model: 'dear' })).id);
    for (const id of ids)
      expect((await house.until(id, 'failed')).state).toMatchObject({ failure: { code: 'model_gone' } });
    expect(asked.fal).toBe(1);
    await expect(house.ask({ model: 'dear' })).rejects.toMatchObject(
      gone(/^dear is no longer offered by its provider/),
    );
    await house.clock.advance(600_000);
    house.fakes.node('fal').plan = {};
    await house.until((await house.ask({ model: 'dear' })).id, 'succeeded');
  });
});

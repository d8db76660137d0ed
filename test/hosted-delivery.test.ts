// What a caller gets for a hosted job, and what it costs: pictures that were made as several jobs come in the order they
// were asked for, whichever was done first; a clip is charged for the seconds that were made.

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Darkroom } from '../src/main.ts';
import { type HostedDouble, type HostedKind, startHosted } from './doubles/hosted/hosted.ts';
import type { HostedSettings } from './doubles/hosted/settings.ts';
import { aborted } from './doubles/pace.ts';
import { callerAt } from './harness/caller.ts';
import { until } from './harness/manual-clock.ts';
import { accountsAt, type Studio, studio } from './harness/studio.ts';
import { fastClock, realSystem } from './harness/system.ts';

const KEY = 'dk_delivery';
const MODELS = `models:
  flux: {name: FLUX, kind: image, capabilities: [text-to-image, seed], price: 2, limits: {multiple_of: 32, max_n: 4}, defaults: {width: 512}, routes: [{backend: bfl, remote: flux-dev}]}
  clip: {name: Clip, kind: video, capabilities: [text-to-video], price: {per_second: 2}, limits: {multiple_of: 8, max_n: 1, seconds: [5, 9]}, defaults: {width: 1280, height: 720, inputs: {seconds: 5}}, routes: [{backend: luma, remote: ray-2}]}
  loose-clip: {name: Clip, kind: video, capabilities: [text-to-video], price: {per_second: 2}, limits: {multiple_of: 8, max_n: 1}, defaults: {width: 1280, height: 720, inputs: {seconds: 5}}, routes: [{backend: luma, remote: ray-2}]}
`;

let house: Studio;
let darkroom: Darkroom;
const doubles = new Map<HostedKind, HostedDouble>();
const double = (kind: HostedKind) => doubles.get(kind) as HostedDouble;

/** The create that is never answered; 0: none. */
let held = 0;
const hold: HostedSettings['hold'] = async (moment, _, signal) => {
  if (moment === 'begun' && held > 0 && --held === 0) await aborted(signal);
};

beforeEach(async () => {
  const clock = fastClock(20);
  held = 0;
  for (const kind of ['bfl', 'luma'] as const) doubles.set(kind, await startHosted(kind, { clock, hold }));
  house = await studio(KEY, MODELS, `default_model: flux\n${accountsAt(doubles)}`);
  darkroom = await house.open(realSystem(clock));
});
afterEach(async () => {
  await darkroom.stop();
  for (const one of doubles.values()) await one.close();
  await house[Symbol.asyncDispose]();
});

const { get, ended, credits, submit, ask: send } = callerAt(() => darkroom.url, KEY);
const ask = (request: object) => send({ prompt: 'a red bicycle', ...request });

describe('several pictures, each a job of its own at the provider', () => {
  it('come in the order they were asked for, whichever was done first', async () => {
    double('bfl').faults.next('stuck');
    const id = await submit({ prompt: 'a red bicycle', n: 3, seed: 7 });
    await until(() => double('bfl').fileLog.length === 2, 'the others to be fetched');
    for (const { fate } of double('bfl').jobs) (fate as Map<string, unknown>).clear();
    const g = await ended(id);
    expect(g).toMatchObject({ status: 'succeeded', credits_charged: 6 });
    expect(g.outputs.map(({ index, seed }) => [index, seed])).toEqual([
      [0, 7],
      [1, 8],
      [2, 9],
    ]);
  });
});

describe('a job of several that hangs until the deadline', () => {
  it('keeps from nobody what the others made', async () => {
    double('bfl').faults.next('stuck');
    const id = await submit({ prompt: 'a red bicycle', n: 3, seed: 7, run_within_seconds: 60 });
    const g = await ended(id);
    expect(g).toMatchObject({ status: 'succeeded', credits_charged: 4 });
    expect(g.outputs.map(({ seed }) => seed)).toEqual([8, 9]);
    expect(g.warnings).toEqual([expect.stringMatching(/1 of the 3 pictures is missing: time was up/)]);
  });
  it('hands over what the first made, though the second is never answered', async () => {
    held = 2;
    const id = await submit({ prompt: 'a red bicycle', n: 3, seed: 7, run_within_seconds: 60 });
    const g = await ended(id);
    expect(g).toMatchObject({ status: 'succeeded', credits_charged: 2 });
    expect(g.outputs.map(({ seed }) => seed)).toEqual([7]);
    expect(double('bfl').paid).toHaveLength(2);
  });
  it('is possibly billed where none was made', async () => {
    double('bfl').faults.on('stuck');
    const id = await submit({ prompt: 'a red bicycle', n: 2, run_within_seconds: 60 });
    expect(await ended(id)).toMatchObject({ status: 'timeout', credits_charged: 0, error: { possibly_billed: true } });
  });
});

it('a picture that its host does not give out for a while is fetched when it does', async () => {
  double('bfl').faults.next('truncated_file');
  const id = await submit({ prompt: 'a red bicycle' });
  await until(() => double('bfl').fileLog.length > 4, 'several tries');
  for (const { fate } of double('bfl').jobs) (fate as Map<string, unknown>).clear();
  expect(await ended(id)).toMatchObject({ status: 'succeeded', credits_charged: 2 });
});

it('a key that is refused while paid work is asked about is shown at once, and the work goes on when it is mended', async () => {
  double('bfl').faults.next('stuck');
  const id = await submit({ prompt: 'a red bicycle' });
  await until(() => double('bfl').paid.length === 1, 'the job to begin');
  double('bfl').faults.on('auth');
  const circuits = async () =>
    (await get<{ data: { id: string; circuit?: { state: string } }[] }>('/v1/nodes')).data.find((n) => n.id === 'bfl');
  await until(async () => (await circuits())?.circuit?.state === 'open', 'the circuit to open');
  double('bfl').faults.off('auth');
  for (const { fate } of double('bfl').jobs) (fate as Map<string, unknown>).clear();
  expect(await ended(id)).toMatchObject({ status: 'succeeded', credits_charged: 2 });
});

it('a picture that was made and is of no use is possibly billed', async () => {
  double('bfl').faults.on('huge_image');
  const g = await ask({});
  expect(g).toMatchObject({
    status: 'failed',
    credits_charged: 0,
    error: { code: 'too_large', possibly_billed: true },
  });
});

describe('a clip', () => {
  const sent = () =>
    double('luma').log.flatMap((one) => (one.what === 'request' && one.method === 'POST' ? [one.body] : []));

  it.each([
    [{}, '5s', 10],
    [{ seconds: 9 }, '9s', 18],
  ])('is charged for the seconds that were asked for and made: %j', async (inputs, duration, price) => {
    const g = await ask({ model: 'clip', inputs });
    expect(g).toMatchObject({ status: 'succeeded', credits_charged: price });
    expect(sent()).toEqual([expect.objectContaining({ duration })]);
    expect(await credits()).toEqual({ balance: 1000 - price, reserved: 0 });
  });

  it.each([8, 400])('of a length that is not made (%i s) is refused at the door', async (seconds) => {
    const refused = await ask({ model: 'clip', inputs: { seconds } });
    expect(refused).toMatchObject({
      error: { code: 'invalid_request', details: [{ path: 'inputs.seconds', message: 'expected 5 or 9 for clip' }] },
    });
    expect(sent()).toEqual([]);
  });

  it('of a length that is not made costs nothing where the catalog does not know the lengths', async () => {
    const g = await ask({ model: 'loose-clip', inputs: { seconds: 400 } });
    expect(g).toMatchObject({ status: 'failed', credits_charged: 0, error: { code: 'unsupported_input' } });
    expect(sent()).toEqual([]);
    expect(await credits()).toEqual({ balance: 1000, reserved: 0 });
  });
});

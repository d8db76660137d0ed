import { expect, test } from 'vitest';
import { failure } from '../../src/domain/failure.ts';
import { createTimings } from '../../src/fleet/timings.ts';
import { nodeSpec, openScene } from './opening.ts';

test('the first warm run is taken as it is, later ones move the average by three tenths', () => {
  const timings = createTimings([]);
  timings.learn('a', 'flux', 10_000, true);
  expect(timings.of('a', 'flux').renderMs).toBe(10_000);
  timings.learn('a', 'flux', 20_000, true);
  expect(timings.of('a', 'flux').renderMs).toBe(13_000);
});

test('a load is what a cold run took beyond a warm one, never less than nothing', () => {
  const timings = createTimings([]);
  timings.learn('a', 'flux', 10_000, true);
  timings.learn('a', 'flux', 25_000, false);
  expect(timings.timing('a', 'flux')).toEqual({ renderMs: 10_000, loadMs: 15_000 });
  timings.learn('a', 'flux', 5_000, false);
  expect(timings.timing('a', 'flux')?.loadMs).toBeCloseTo(10_500);
});

test('a cold run that comes first tells the load as soon as a warm one is known', () => {
  const timings = createTimings([]);
  timings.learn('a', 'flux', 25_000, false);
  expect(timings.timing('a', 'flux')).toBeUndefined();
  timings.learn('a', 'flux', 10_000, true);
  expect(timings.timing('a', 'flux')).toEqual({ renderMs: 10_000, loadMs: 15_000 });
  timings.learn('a', 'flux', 20_000, true);
  expect(timings.timing('a', 'flux')?.loadMs).toBe(15_000);
});

test('a run served from a cache does not count; three in a row do, for then the work is smaller', () => {
  const timings = createTimings([]);
  timings.learn('a', 'flux', 10_000, true);
  timings.learn('a', 'flux', 1_000, true);
  timings.learn('a', 'flux', 1_000, true);
  expect(timings.of('a', 'flux').renderMs).toBe(10_000);
  timings.learn('a', 'flux', 1_000, true);
  expect(timings.of('a', 'flux').renderMs).toBeCloseTo(7_300);
});

test.each([-3_597_940, 86_400_001, Number.NaN, Number.POSITIVE_INFINITY])(
  'a run of %d ms was measured by a clock that was set, and teaches nothing',
  (ms) => {
    const timings = createTimings([]);
    for (const warm of [true, false]) expect(timings.learn('a', 'flux', ms, warm)).toBe(0);
    expect(timings.rows()).toEqual([]);
    timings.learn('a', 'flux', 10_000, true);
    timings.learn('a', 'flux', ms, true);
    timings.learn('a', 'flux', ms, false);
    expect(timings.of('a', 'flux')).toEqual({ renderMs: 10_000, loadMs: null });
  },
);

test('a cached run between real ones never counts', () => {
  const timings = createTimings([]);
  for (const ms of [10_000, 500, 500, 10_000, 500, 500, 10_000]) timings.learn('a', 'flux', ms, true);
  expect(timings.of('a', 'flux').renderMs).toBe(10_000);
});

test('where a node knows nothing the mean over the others stands in, for one residency only', () => {
  const timings = createTimings([]);
  timings.learn('a', 'flux', 10_000, true);
  timings.learn('b', 'flux', 20_000, true);
  expect(timings.of('c', 'flux').renderMs).toBe(15_000);
  expect(timings.of(null, 'flux').renderMs).toBe(15_000);
  expect(timings.of('a', 'flux').renderMs).toBe(10_000);
  expect(timings.of('a', 'sdxl')).toEqual({ renderMs: null, loadMs: null });
  timings.forget('b');
  expect(timings.of('c', 'flux').renderMs).toBe(10_000);
});

test('estimates fall back span by span to what the caller gives', async () => {
  const { fleet } = await openScene(['a']);
  const fallback = { renderMs: 8_000, loadMs: 20_000 };
  expect(fleet.estimate('flux', 'a', fallback)).toEqual(fallback);
  fleet.learned('a', { residency: 'flux', warm: true, renderMs: 5_000, failure: null });
  expect(fleet.estimate('flux', 'a', fallback)).toEqual({ renderMs: 5_000, loadMs: 20_000 });
  expect(fleet.estimate('flux', null, fallback).renderMs).toBe(5_000);
});

test('what was learned shows in the views and is announced; failures teach nothing', async () => {
  const { fleet, changes } = await openScene(['a']);
  const before = changes();
  fleet.learned('a', { residency: 'flux', warm: false, renderMs: 25_000, failure: null });
  fleet.learned('a', { residency: 'flux', warm: true, renderMs: 10_000, failure: null });
  expect(changes()).toBeGreaterThan(before);
  fleet.learned('a', { residency: 'flux', warm: true, renderMs: 90_000, failure: failure('safety_filter', 'x') });
  expect(fleet.views()[0]?.timing('flux')).toEqual({ renderMs: 10_000, loadMs: 15_000 });
  expect(fleet.views()[0]?.timing('sdxl')).toBeUndefined();
});

test('what a removed node taught is forgotten', async () => {
  const { fleet } = await openScene([]);
  await fleet.add(nodeSpec('new'));
  fleet.learned('new', { residency: 'flux', warm: true, renderMs: 5_000, failure: null });
  await fleet.remove('new');
  expect(fleet.estimate('flux', null, { renderMs: 8_000, loadMs: 0 }).renderMs).toBe(8_000);
});

test('rendering since the last load adds up, and starts anew with a load', async () => {
  const { fleet } = await openScene(['a']);
  const learn = (warm: boolean, renderMs: number) =>
    fleet.learned('a', { residency: 'flux', warm, renderMs, failure: null });
  learn(true, 10_000);
  learn(true, 10_000);
  expect(fleet.views()[0]?.renderedSinceLoadMs).toBe(20_000);
  learn(false, 25_000);
  expect(fleet.views()[0]?.renderedSinceLoadMs).toBe(10_000);
});

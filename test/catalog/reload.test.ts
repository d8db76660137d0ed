// Edits while the gateway runs: good ones are taken, bad ones refused while the last good catalog keeps serving.

import { renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Catalog, openCatalog } from '../../src/catalog/catalog.ts';
import { silentLog } from '../../src/system/system.ts';
import { ManualClock, until } from '../harness/manual-clock.ts';
import { type CatalogFiles, catalogFiles, MODELS, SLOTS } from './files.ts';

let files: CatalogFiles;
let catalog: Catalog;
let clock: ManualClock;
let errors: string[];
let changes: number;

beforeEach(async () => {
  files = catalogFiles(MODELS);
  clock = new ManualClock();
  errors = [];
  changes = 0;
  const log = {
    ...silentLog,
    warn: silentLog.warn,
    info: silentLog.info,
    error: (_: unknown, text: string) => errors.push(text),
  };
  catalog = await openCatalog({
    models: files.models,
    workflows: [files.workflows],
    clock,
    log: log as unknown as typeof silentLog,
  });
  catalog.onChange(() => changes++);
});

afterEach(async () => {
  await catalog.close();
  expect(clock.pending).toBe(0);
  files[Symbol.dispose]();
});

/** Moves time on until the edit has been noticed and read. */
const seen = (what: () => unknown) =>
  until(async () => {
    await clock.advance(1000);
    return what();
  });

const DEARER = MODELS.replace('price: 1.5', 'price: 3');
const price = () => catalog.current.models.get('glow')?.price.perOutput;

test('a good edit becomes a new snapshot and the old one stays whole', async () => {
  const before = catalog.current;
  files.write('models.yaml', DEARER);
  await seen(() => changes === 1);
  expect(price()).toBe(3000);
  expect(before.models.get('glow')?.price.perOutput).toBe(1500);
  expect(catalog.status).toMatchObject({ ok: true, error: null });
  expect(catalog.current.loadedAt).toBeGreaterThan(before.loadedAt);
});

test('an editor that replaces the file by renaming is followed, twice', async () => {
  for (const [text, expected] of [
    [DEARER, 3000],
    [MODELS, 1500],
  ] as const) {
    files.write('models.yaml.tmp', text);
    renameSync(join(files.directory, 'models.yaml.tmp'), files.models);
    await seen(() => price() === expected);
  }
  expect(changes).toBe(2);
});

test('a bad edit is told with its line and the last good catalog keeps serving', async () => {
  const before = catalog.current;
  files.write('models.yaml', MODELS.replace('price: 1.5', 'price: cheap'));
  await seen(() => !catalog.status.ok);
  expect(catalog.status.error).toMatch(/^models\.yaml:5: models\.glow\.price: expected credits/);
  expect(errors).toEqual([expect.stringContaining('models.yaml:5: models.glow.price')]);
  expect(catalog.current).toBe(before);
  expect(changes).toBe(0);
});

test('taking a bad edit back makes the catalog good again', async () => {
  files.write('models.yaml', 'models: {');
  await seen(() => !catalog.status.ok);
  files.write('models.yaml', MODELS);
  await seen(() => catalog.status.ok);
  expect(price()).toBe(1500);
});

test('a file that vanishes is told, and a file that comes back is read', async () => {
  rmSync(files.models);
  await seen(() => !catalog.status.ok);
  expect(catalog.status.error).toBe('models.yaml:1: expected a readable file (ENOENT)');
  files.write('models.yaml', DEARER);
  await seen(() => catalog.status.ok);
  expect(price()).toBe(3000);
});

test('an edited workflow is taken too', async () => {
  files.write('workflows/tiny.slots.yaml', SLOTS.replace('default: 20', 'default: 33'));
  await seen(() => changes === 1);
  expect(catalog.current.recipes.get('tiny')?.slots.find((s) => s.name === 'steps')?.default).toBe(33);
});

test('a workflow that breaks leaves models and workflows as they were', async () => {
  files.write('workflows/tiny.json', '{"nodes": [], "links": []}');
  await seen(() => !catalog.status.ok);
  expect(catalog.status.error).toMatch(/^tiny\.json:1: expected the API format/);
  expect(catalog.current.recipes.has('tiny')).toBe(true);
});

test('a file that is touched without a change is no change', async () => {
  files.write('models.yaml', MODELS);
  files.write('models.yaml', DEARER);
  await seen(() => changes === 1);
  files.write('models.yaml', DEARER);
  files.write('workflows/tiny.slots.yaml', `${SLOTS}\n`);
  await seen(() => changes === 2);
  expect(changes).toBe(2);
});

test('a disposed listener hears nothing', async () => {
  let heard = 0;
  catalog.onChange(() => heard++)[Symbol.dispose]();
  files.write('models.yaml', DEARER);
  await seen(() => changes === 1);
  expect(heard).toBe(0);
});

test('a model is marked on its last day, in a snapshot of its own, and once', async () => {
  const day = (offset: number) => new Date(clock.now() + offset * 86_400_000).toISOString().slice(0, 10);
  const retires = (offset: number) => MODELS.replace('price: 1.5', `price: 1.5\n    retires: ${day(offset)}`);
  files.write('models.yaml', retires(3));
  await seen(() => changes === 1);
  const before = catalog.current;
  await clock.advance(Date.parse(day(3)) - clock.now() - 1);
  expect([changes, catalog.current]).toEqual([1, before]);
  await clock.advance(1);
  expect(changes).toBe(2);
  expect(catalog.current.models.get('glow')).toMatchObject({ retired: true, price: { perOutput: 1500 } });
  expect(before.models.get('glow')?.retired).toBeUndefined();
  files.write('models.yaml', retires(-1));
  await seen(() => changes === 3);
  expect(catalog.current.models.get('glow')?.retired).toBe(true);
  files.write('models.yaml', retires(40));
  await seen(() => changes === 4);
  expect(catalog.current.models.get('glow')?.retired).toBeUndefined();
});

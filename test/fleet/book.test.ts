import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { openBook } from '../../src/fleet/book.ts';
import { until } from '../harness/manual-clock.ts';
import { testSystem } from '../harness/system.ts';
import { freshDirectory, openScene, reopen } from './opening.ts';

const row = { node: 'a', residency: 'flux', renderMs: 10, loadMs: null, coldMs: null };

test('what was learned survives a restart', async () => {
  const scene = await openScene(['a']);
  scene.fleet.learned('a', { residency: 'flux', warm: false, renderMs: 25_000, failure: null });
  scene.fleet.learned('a', { residency: 'flux', warm: true, renderMs: 10_000, failure: null });
  const again = await reopen(scene);
  expect(again.views()[0]?.timing('flux')).toEqual({ renderMs: 10_000, loadMs: 15_000 });
});

test('a clock that was set does not cost what was learned', async () => {
  const scene = await openScene(['a']);
  scene.fleet.learned('a', { residency: 'flux', warm: true, renderMs: 10_000, failure: null });
  scene.fleet.learned('a', { residency: 'sdxl', warm: true, renderMs: -3_597_940, failure: null });
  const again = await reopen(scene);
  expect(again.estimate('flux', 'a', { renderMs: 1, loadMs: 1 }).renderMs).toBe(10_000);
  expect(again.estimate('sdxl', 'a', { renderMs: 1, loadMs: 1 }).renderMs).toBe(1);
});

test('many lessons make one write, two seconds after the first', async () => {
  const file = join(await freshDirectory(), 'book.json');
  const system = testSystem();
  const book = await openBook(file, system);
  let asked = 0;
  const rows = () => {
    asked++;
    return [row];
  };
  for (let i = 0; i < 100; i++) book.save(rows);
  await system.clock.advance(1_900);
  expect(asked).toBe(0);
  await system.clock.advance(200);
  expect(asked).toBe(1);
  const written = await until(() => readFile(file, 'utf8').catch(() => null), 'the file');
  expect(JSON.parse(written)).toEqual({ version: 1, timings: [row] });
  await book.close();
});

test('closing writes what is still unwritten, and leaves no timer and no temporary file', async () => {
  const directory = await freshDirectory();
  const system = testSystem();
  const book = await openBook(join(directory, 'book.json'), system);
  book.save(() => [row]);
  await book.close();
  await book.close();
  book.save(() => []);
  expect(system.clock.pending).toBe(0);
  expect(await readdir(directory)).toEqual(['book.json']);
  expect((await openBook(join(directory, 'book.json'), system)).timings).toEqual([row]);
});

test.each([
  ['is not JSON', '{"version": 1, "timi'],
  ['is of another shape', '{"version": 1, "timings": [{"node": "a", "residency": "x", "renderMs": -4}]}'],
  ['is of another version', '{"version": 2, "timings": []}'],
])('a book that %s is set aside and learning starts anew', async (_, text) => {
  const directory = await freshDirectory();
  const file = join(directory, 'book.json');
  await writeFile(file, text);
  const book = await openBook(file, testSystem());
  expect(book.timings).toEqual([]);
  expect(await readFile(`${file}.bad`, 'utf8')).toBe(text);
  expect(await readdir(directory)).toEqual(['book.json.bad']);
});

test('a book that cannot be written is lived without', async () => {
  const { clock, log } = testSystem();
  const warn = vi.fn();
  const file = join(await freshDirectory(), 'missing', 'book.json');
  const book = await openBook(file, { clock, log: { ...log, warn } });
  book.save(() => [row]);
  await clock.advance(2_100);
  await until(() => warn.mock.calls.length > 0, 'a warning');
  await book.close();
  const err = expect.objectContaining({ code: 'ENOENT' });
  expect(warn.mock.calls).toEqual([[{ err, file }, 'the fleet book could not be written']]);
});

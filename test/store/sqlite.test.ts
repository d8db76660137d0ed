// What is in the way of an SQLite file is said with the file's name; its log stays short, whatever is written; a full disk
// is survived.

import { execFile, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openStore } from '../../src/store/store.ts';
import { ManualClock, until } from '../harness/manual-clock.ts';
import { draft, workspace } from './drafts.ts';

let path: string;
beforeEach(() => {
  path = join(mkdtempSync(join(tmpdir(), 'darkroom-sqlite-')), 'darkroom.db');
});
afterEach(() => rmSync(join(path, '..'), { recursive: true, force: true }));

it.each([
  ['a file of another kind', () => writeFileSync(path, 'pictures, not rows. '.repeat(100))],
  ['a directory', () => mkdirSync(path)],
])('names %s', async (_what, put) => {
  put();
  const opening = openStore({ path, clock: new ManualClock() });
  await expect(opening).rejects.toThrow(`The database ${path} cannot be opened: `);
});

it('moves what was written from the log to the file, and lets the log begin anew', async () => {
  const store = await openStore({ path, clock: new ManualClock() });
  await workspace(store);
  const prompt = 'a red chair '.repeat(500);
  for (let round = 0; round < 16; round++) {
    await store.generations.insert(Array.from({ length: 600 }, () => draft({ reserved: 0, prompt })));
  }
  const written = 16 * 600 * prompt.length;
  await until(() => statSync(path).size > written / 2, 'most of it in the file');
  expect(statSync(`${path}-wal`).size).toBeLessThan(written * 0.6);
  await store.close();
});

const PROGRAM = join(import.meta.dirname, 'cramped-process.ts');
const LIMIT = 6 * 1024 * 1024;
const limitless = spawnSync('prlimit', ['--version']).status !== 0;

it.skipIf(limitless)(
  'survives a disk too full to move the log, and goes on when there is room',
  { timeout: 60_000 },
  async () => {
    const limited = ['-c', `ulimit -S -f ${LIMIT / 512}; exec "$0" "$@"`, process.execPath, PROGRAM, path, `${LIMIT}`];
    const { before, after, lost } = JSON.parse((await promisify(execFile)('sh', limited)).stdout);
    expect([before > 0, after - before, lost]).toEqual([true, 1_000, 0]);
    expect(statSync(path).size, 'the log was moved after all').toBeGreaterThan(LIMIT);
  },
);

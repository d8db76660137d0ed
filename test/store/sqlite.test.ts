// What is in the way of an SQLite file is said with the file's name.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openStore } from '../../src/store/store.ts';
import { ManualClock } from '../harness/manual-clock.ts';

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

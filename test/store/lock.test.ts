import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { lockFolder } from '../../src/store/store.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'darkroom-lock-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it('lets one gateway at a time into a data folder', () => {
  const path = join(folder, 'gateway.lock');
  const first = lockFolder(path);
  expect(() => lockFolder(path)).toThrow(/Another gateway uses .*DARKROOM_DATA/);
  first[Symbol.dispose]();
  lockFolder(path)[Symbol.dispose]();
});

it('does not blame another gateway for a file that is no lock', async () => {
  const path = join(folder, 'gateway.lock');
  await writeFile(path, 'no lock at all, but long enough to be taken for a file of another kind'.repeat(20));
  expect(() => lockFolder(path)).toThrow(/cannot be locked: file is not a database/);
});

it('is free again the moment its holder was killed', async () => {
  const path = join(folder, 'gateway.lock');
  const module = fileURLToPath(new URL('../../src/store/store.ts', import.meta.url));
  const script = `import(${JSON.stringify(module)}).then(({ lockFolder }) => { globalThis.lock = lockFolder(${JSON.stringify(path)}); console.log('held'); setInterval(() => {}, 1000); })`;
  const holder = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(holder.stdout, 'data');
  expect(() => lockFolder(path)).toThrow(/Another gateway/);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  lockFolder(path)[Symbol.dispose]();
});

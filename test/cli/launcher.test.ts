// The installed command under whatever Node a machine has: it finds its own, and passes on words, signals and status.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../harness/manual-clock.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const OWN = join(ROOT, 'node_modules/.bin/node');

/** A Node of this machine that cannot run TypeScript, where there is one. */
const older = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/local/bin']
  .filter((folder) => !folder.includes('node_modules'))
  .map((folder) => join(folder, 'node'))
  .find(
    (path) =>
      existsSync(path) &&
      Number.parseInt(execFileSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' }), 10) < 26,
  );

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'darkroom-launcher-'));
  symlinkSync(join(ROOT, 'bin/darkroom.mjs'), join(folder, 'darkroom'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Started {
  readonly child: ChildProcess;
  readonly said: { out: string; err: string };
  readonly ended: Promise<{ readonly code: number | null; readonly signal: string | null }>;
}

function start(node: string, args: readonly string[], script = join(folder, 'darkroom')): Started {
  const child = spawn(node, [script, ...args], { cwd: folder, env: { PATH: '/usr/bin:/bin', HOME: folder } });
  const said = { out: '', err: '' };
  child.stdout.on('data', (bytes) => {
    said.out += bytes;
  });
  child.stderr.on('data', (bytes) => {
    said.err += bytes;
  });
  child.stdin.end('');
  return { child, said, ended: once(child, 'close').then(([code, signal]) => ({ code, signal })) };
}

describe.each([
  ['its own Node', OWN],
  ['an older Node', older],
])('darkroom under %s', (_, node) => {
  const test = it.skipIf(node === undefined);
  test('answers, and passes on what it is given and how it ends', async () => {
    const help = start(node ?? '', ['--help']);
    expect(await help.ended).toEqual({ code: 0, signal: null });
    expect(help.said.out).toContain('Usage: darkroom');
    const wrong = start(node ?? '', ['get', '--json', 'one', 'more words']);
    expect(await wrong.ended).toEqual({ code: 2, signal: null });
    expect(JSON.parse(wrong.said.out).error.code).toBe('invalid_request');
  });
  test.each(['SIGINT', 'SIGTERM'] as const)('%s reaches the gateway, which stops in order', async (signal) => {
    const serving = start(node ?? '', ['serve', '--port', '0', '--data', `data-${signal}`]);
    await until(() => serving.said.out.includes('is ready at'), 'the gateway');
    serving.child.kill(signal);
    expect(await serving.ended).toEqual({ code: 0, signal: null });
    expect(serving.said.out).toContain('Stopping: running work may finish');
  });
});

it.skipIf(older === undefined)('says in one line what to do when its own Node is not installed', async () => {
  const bare = join(folder, 'bare');
  mkdirSync(join(bare, 'bin'), { recursive: true });
  for (const file of ['bin/darkroom.mjs', 'package.json']) copyFileSync(join(ROOT, file), join(bare, file));
  const { said, ended } = start(older ?? '', ['--help'], join(bare, 'bin/darkroom.mjs'));
  expect(await ended).toEqual({ code: 1, signal: null });
  expect(said.err).toMatch(/^darkroom needs Node\.js 26; this is v\d+.* Run "npm ci" in .*\n$/);
});

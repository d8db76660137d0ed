#!/usr/bin/env node
// The `darkroom` command as npm installs it. The command itself is TypeScript that Node.js 26 runs as it stands; this file
// is plain JavaScript that any Node since 18 can read, and hands over: to this process when it is new enough, else to the
// Node that came with the packages, which then has this terminal, these signals and the last word on the exit status.

import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { isatty } from 'node:tty';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const cli = join(root, 'src', 'cli', 'cli.ts');
const needed = Number(/\d+/.exec(JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).engines.node)?.[0]);

/** Of the package `node`, wherever npm put it. Null: it is not installed, or its download was not allowed. */
function ownNode() {
  try {
    const folder = dirname(createRequire(import.meta.url).resolve('node/package.json'));
    const binary = join(folder, 'bin', process.platform === 'win32' ? 'node.exe' : 'node');
    return existsSync(binary) ? binary : null;
  } catch {
    return null;
  }
}

function refuse(what) {
  process.stderr.write(`darkroom needs Node.js ${needed}; ${what} Run "npm ci" in ${root}, which brings the right one.\n`);
  process.exitCode = 1;
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

function runWith(binary) {
  const child = spawn(binary, [cli, ...process.argv.slice(2)], { stdio: 'inherit' });
  // At a terminal Ctrl-C reaches both processes by itself; passed on, it would count as the second, which means "at once".
  const shared = [0, 1, 2].some((stream) => isatty(stream));
  for (const signal of SIGNALS) process.on(signal, () => (signal === 'SIGINT' && shared) || child.kill(signal));
  child.once('error', (error) => refuse(`${binary} cannot be started (${error.code}).`));
  child.once('exit', (code, signal) => {
    if (signal === null) process.exit(code);
    process.removeAllListeners(signal);
    process.kill(process.pid, signal);
  });
}

const binary = ownNode();
if (Number.parseInt(process.versions.node, 10) >= needed) await import(new URL('../src/cli/cli.ts', import.meta.url).href);
else if (binary !== null) runWith(binary);
else refuse(`this is ${process.version} and its own is not installed.`);

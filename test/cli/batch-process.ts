// The command as a process of its own, as a person starts it: its words, its exit status, and signals to it.

import { type ChildProcess, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { until } from '../harness/manual-clock.ts';

const ENTRY = fileURLToPath(new URL('../../src/cli/cli.ts', import.meta.url));

export interface Running {
  readonly child: ChildProcess;
  out(): string;
  err(): string;
  /** Exit status, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
  /** Until stderr says it. */
  says(text: string | RegExp): Promise<unknown>;
}

/** `darkroom batch …` in `cwd`. */
export function batch(args: readonly string[], cwd: string, url: string, key = 'dk_test'): Running {
  const env = { ...process.env, DARKROOM_URL: url, DARKROOM_KEY: key, XDG_CONFIG_HOME: cwd, NO_COLOR: '1' };
  const child = spawn(process.execPath, [ENTRY, 'batch', ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const said = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said.out += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said.err += text;
  });
  const ended = new Promise<number | NodeJS.Signals>((done) =>
    child.once('close', (code, signal) => done(code ?? (signal as NodeJS.Signals))),
  );
  const holds = (text: string | RegExp) => (typeof text === 'string' ? said.err.includes(text) : text.test(said.err));
  return {
    child,
    out: () => said.out,
    err: () => said.err,
    ended,
    says: (text) =>
      until(() => holds(text) || child.exitCode !== null, `"${text}"`, 30_000).then(() => {
        if (!holds(text)) throw new Error(`it ended without saying ${text}:\n${said.err}`);
      }),
  };
}

/** To its end. */
export async function ran(args: readonly string[], cwd: string, url: string, key?: string) {
  const running = batch(args, cwd, url, key);
  const code = await running.ended;
  return { code, out: running.out(), err: running.err() };
}

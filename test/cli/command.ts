// The real command as a child process, as a person or a script starts it: its own working directory, its own home, and
// nothing of this machine's environment that could name another gateway.

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { loadConfig } from '../../src/config.ts';
import { type Darkroom, openDarkroom } from '../../src/main.ts';
import { until } from '../harness/manual-clock.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const NODE = join(ROOT, 'node_modules/.bin/node');
const CLI = join(ROOT, 'src/cli/cli.ts');

/** Whatever a document may hold of what tests read by name. */
export interface Said {
  readonly id: string;
  readonly status: string;
  readonly balance: number;
  readonly ok: boolean;
  readonly data: readonly { readonly id: string; readonly status: string }[];
  readonly error: { readonly code: string; readonly message: string };
  readonly sections: readonly {
    readonly title: string;
    readonly findings: readonly { readonly state: string; readonly says: string; readonly todo: string | null }[];
  }[];
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout as the one document it must be. */
  json(): Said;
}

export interface Running {
  readonly stdout: string;
  readonly stderr: string;
  readonly ended: Promise<Ended>;
  interrupt(): void;
}

export interface Bench extends AsyncDisposable {
  /** The working directory of every command; its home is inside. */
  readonly folder: string;
  start(args: readonly string[], env?: Record<string, string>, input?: string): Running;
  run(args: readonly string[], env?: Record<string, string>, input?: string): Promise<Ended>;
}

export async function createBench(env: Record<string, string> = {}): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), 'darkroom-cli-'));
  const base = { PATH: process.env.PATH ?? '', HOME: folder, XDG_CONFIG_HOME: join(folder, '.config'), ...env };
  const start: Bench['start'] = (args, more = {}, input) => {
    const child = spawn(NODE, [CLI, ...args], { cwd: folder, env: { ...base, ...more } });
    const said = { stdout: '', stderr: '' };
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said.stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said.stderr += text;
    });
    child.stdin.end(input ?? '');
    const ended = new Promise<Ended>((done) => {
      child.once('close', (code) => done({ code, ...said, json: () => JSON.parse(said.stdout) as Said }));
    });
    return {
      get stdout() {
        return said.stdout;
      },
      get stderr() {
        return said.stderr;
      },
      ended,
      interrupt: () => void child.kill('SIGINT'),
    };
  };
  return {
    folder,
    start,
    run: (args, more, input) => start(args, more, input).ended,
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

export const ADMIN = 'dk_admin-key-of-these-tests';

const MODELS = `models:
  sketch: {name: Sketch, kind: image, best_for: Tests., capabilities: [text-to-image, image-to-image, seed], price: 2, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 64, height: 64, steps: 2}, estimate_seconds: 1, routes: [{backend: sketch}]}
  absent: {name: Absent, kind: image, best_for: Tests., capabilities: [text-to-image], price: 1, routes: [{backend: comfyui, workflow: txt2img, checkpoint: sdxl.safetensors}]}
`;

/** A gateway with the built-in node, whose pictures cost 2 credits. `settings`: more lines of darkroom.yaml. */
export async function openTestGateway(folder: string, settings = ''): Promise<Darkroom> {
  await writeFile(join(folder, 'gateway-models.yaml'), MODELS);
  await writeFile(join(folder, 'gateway.yaml'), `log_level: silent\n${settings}`);
  const env = {
    DARKROOM_CONFIG: join(folder, 'gateway.yaml'),
    DARKROOM_MODELS: join(folder, 'gateway-models.yaml'),
    DARKROOM_DATA: join(folder, 'gateway-data'),
    DARKROOM_PORT: '0',
    DARKROOM_ADMIN_KEY: ADMIN,
  };
  const darkroom = await openDarkroom(loadConfig(env, folder));
  await until(() => darkroom.gateway.nodes().every((n) => n.report !== null), 'every node probed');
  return darkroom;
}

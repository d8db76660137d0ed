// A real gateway for real programs: opened like any other, with the built-in node only, and the few things such programs
// need around them.

import { spawn } from 'node:child_process';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { until } from '../harness/manual-clock.ts';
import { studio } from '../harness/studio.ts';

export const KEY = 'dk_mcp';
export const ROOT = resolve(import.meta.dirname, '../..');
/** The one that the packages bring, whichever runs the tests. */
export const NODE = join(ROOT, 'node_modules/.bin/node');

const MODELS = `models:
  sketch: {name: Sketch, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: 0.5, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 256, height: 256, steps: 4}, estimate_seconds: 1, routes: [{backend: sketch}]}
`;

export interface Live {
  readonly url: string;
  readonly folder: string;
  close(): Promise<void>;
}

export async function live(): Promise<Live> {
  const house = await studio(KEY, MODELS);
  const darkroom = await house.open();
  await until(() => darkroom.gateway.nodes().every((n) => n.status === 'online'), 'the node online');
  return {
    url: darkroom.url,
    folder: house.folder,
    async close() {
      await darkroom.stop();
      await house[Symbol.asyncDispose]();
    },
  };
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program of Node's to its end, which `timeoutMs` brings about if nothing else does. */
export function ended(args: readonly string[], env: Record<string, string> = {}, timeoutMs = 60_000): Promise<Ended> {
  return new Promise((done, fail) => {
    const child = spawn(NODE, args, {
      cwd: env.HOME ?? tmpdir(),
      env: { PATH: process.env.PATH ?? '', NO_UPDATE_NOTIFIER: '1', CI: '1', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => (stdout += chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    child.on('error', fail);
    child.on('close', (code) => done({ code, stdout, stderr }));
  });
}

export interface Doorkeeper {
  readonly url: string;
  close(): Promise<void>;
}

/** A way in for programs that can send no key: the key is put on every request, the rest goes through as it is. */
export async function doorkeeper(target: string, key: string): Promise<Doorkeeper> {
  const { hostname, port } = new URL(target);
  const server = http.createServer((request, response) => {
    const headers = { ...request.headers, authorization: `Bearer ${key}` };
    const onward = http.request({ hostname, port, method: request.method, path: request.url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

// What the benchmarks stand on: a gateway and fake nodes in processes of their own, closed-loop clients here, and rows
// that put ours beside the limit measured in the same run. The ratio is what is judged; absolute figures move with
// whatever else the machine does.

import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { Agent, request as httpRequest } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Row {
  readonly id: string;
  readonly what: string;
  readonly limit: string;
  readonly ours: string;
  readonly ratio: string;
  readonly goal: string;
  readonly met: boolean;
}

export const KEY = 'dk_bench-key';
const root = fileURLToPath(new URL('..', import.meta.url));
const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export interface Percentiles {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
  readonly count: number;
}

export function percentiles(samples: readonly number[], elapsedMs = 0): Percentiles {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? Number.NaN;
  return {
    p50: at(0.5),
    p99: at(0.99),
    perSecond: elapsedMs > 0 ? (samples.length / elapsedMs) * 1000 : 0,
    count: samples.length,
  };
}

export interface Answer {
  readonly status: number;
  readonly body: string;
}
export type Client = (method: string, path: string, body?: unknown) => Promise<Answer>;

/** One keep-alive connection. */
export function client(url: string): Client {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const { hostname, port } = new URL(url);
  return (method, path, body) =>
    new Promise((resolve, reject) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const headers = {
        authorization: `Bearer ${KEY}`,
        ...(text ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) } : {}),
      };
      const request = httpRequest({ agent, hostname, port, path, method, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
        response.on('error', reject);
      });
      request.on('error', reject);
      request.end(text);
    });
}

/** `connections` closed loops for `ms` after a warm-up. Throws on any answer that `send` does not like. */
export async function hammer(
  url: string,
  connections: number,
  ms: number,
  send: (c: Client, i: number) => Promise<void>,
  warmMs = 1500,
): Promise<Percentiles> {
  const samples: number[] = [];
  let counting = false;
  let over = false;
  const loops = Array.from({ length: connections }, async (_, i) => {
    const c = client(url);
    while (!over) {
      const start = performance.now();
      await send(c, i);
      if (counting) samples.push(performance.now() - start);
    }
  });
  await sleep(warmMs);
  counting = true;
  const start = performance.now();
  await sleep(ms);
  const elapsed = performance.now() - start;
  counting = false;
  over = true;
  await Promise.all(loops);
  return percentiles(samples, elapsed);
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  return port;
}

/** A child process with an IPC channel; `ask` sends one message and takes the next answer. */
export interface Child {
  ask<T>(message: unknown): Promise<T>;
  stop(): Promise<void>;
}

export async function child<T>(script: string, options: unknown): Promise<Child & { readonly ready: T }> {
  const process_ = fork(here(script), [JSON.stringify(options)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const [ready] = (await once(process_, 'message')) as [T];
  return {
    ready,
    async ask<U>(message: unknown) {
      process_.send(message as object);
      const [answer] = (await once(process_, 'message')) as [U];
      return answer;
    },
    async stop() {
      process_.kill();
      await once(process_, 'exit');
    },
  };
}

export interface GatewayProcess extends AsyncDisposable {
  readonly url: string;
  readonly pid: number;
  /** Process start until the first answer of /healthz. */
  readonly startedInMs: number;
  /** kill -9, then start again on the same data. */
  crash(): Promise<GatewayProcess>;
  residentMb(): Promise<number>;
}

export interface GatewayOptions {
  readonly nodes: readonly string[];
  /** Extra lines of darkroom.yaml. */
  readonly settings?: string;
  /** The built-in node is there; without it only `nodes` are. */
  readonly sketch?: boolean;
  /** models.yaml; the model `bench` when absent. */
  readonly models?: string;
}

const MODELS = `models:
  bench:
    name: Bench
    kind: image
    best_for: Measuring.
    capabilities: [text-to-image, seed, guidance]
    price: 1
    limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}
    defaults: {width: 1024, height: 1024, steps: 4, guidance: 3.5}
    estimate_seconds: 1
    routes:
      - {backend: comfyui, workflow: txt2img, checkpoint: sdxl.safetensors}
`;

export async function startGateway(options: GatewayOptions): Promise<GatewayProcess> {
  const data = await mkdtemp(join(tmpdir(), 'darkroom-bench-'));
  const nodes = options.nodes.map((url, i) => `  - {id: node-${i}, kind: comfyui, url: "${url}"}`).join('\n');
  await writeFile(join(data, 'models.yaml'), options.models ?? MODELS);
  await writeFile(
    join(data, 'darkroom.yaml'),
    `log_level: error\nsketch: ${options.sketch ?? false}\n${options.models ? '' : 'default_model: bench\n'}studio_credits: 100000000\nlimits: {concurrency: 1000, queue: 10000000}\n${nodes ? `nodes:\n${nodes}\n` : ''}${options.settings ?? ''}`,
  );
  return run(data, await freePort());
}

async function run(data: string, port: number): Promise<GatewayProcess> {
  const url = `http://127.0.0.1:${port}`;
  const env = {
    ...process.env,
    DARKROOM_DATA: join(data, 'data'),
    DARKROOM_CONFIG: join(data, 'darkroom.yaml'),
    DARKROOM_MODELS: join(data, 'models.yaml'),
    DARKROOM_PORT: String(port),
    DARKROOM_ADMIN_KEY: KEY,
  };
  const start = performance.now();
  const gateway = spawn(process.execPath, ['src/cli/cli.ts', 'serve'], {
    cwd: root,
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  await answers(url, gateway);
  const startedInMs = performance.now() - start;
  const end = async (signal: NodeJS.Signals) => {
    if (gateway.exitCode !== null || gateway.signalCode !== null) return;
    gateway.kill(signal);
    await once(gateway, 'exit');
  };
  return {
    url,
    pid: gateway.pid as number,
    startedInMs,
    async crash() {
      await end('SIGKILL');
      return run(data, port);
    },
    async residentMb() {
      const status = await readFile(`/proc/${gateway.pid}/status`, 'utf8');
      return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
    },
    async [Symbol.asyncDispose]() {
      await end('SIGKILL');
      await rm(data, { recursive: true, force: true });
    },
  };
}

async function answers(url: string, of: ChildProcess): Promise<void> {
  for (let i = 0; i < 3000; i++) {
    if (of.exitCode !== null) throw new Error(`the gateway ended with ${of.exitCode} before it was ready`);
    const ok = await client(url)('GET', '/healthz').then(
      (a) => a.status === 200,
      () => false,
    );
    if (ok) return;
    await sleep(3);
  }
  throw new Error('the gateway was not ready in time');
}

/** Waits until the gateway sees that many nodes online. */
export async function nodesOnline(url: string, count: number): Promise<void> {
  const c = client(url);
  for (let i = 0; i < 500; i++) {
    const { data } = JSON.parse((await c('GET', '/v1/nodes?limit=100')).body) as { data: { status: string }[] };
    if (data.filter((n) => n.status === 'online').length >= count) return;
    await sleep(20);
  }
  throw new Error(`not ${count} nodes online`);
}

export interface NodeLog {
  readonly at: number;
  readonly what: string;
  readonly promptId?: string;
  readonly prefix?: string;
}

/** Fake ComfyUI nodes in one process of their own. */
export const startNodes = (count: number, options: Record<string, unknown>) =>
  child<readonly string[]>('./nodes.ts', {
    count,
    options: { ...options, installed: { checkpoints: ['sdxl.safetensors'] } },
  });

export const expectStatus = (answer: Answer, ...wanted: readonly number[]): Answer => {
  if (!wanted.includes(answer.status)) throw new Error(`answered ${answer.status}: ${answer.body.slice(0, 300)}`);
  return answer;
};

export const REQUEST = {
  model: 'bench',
  prompt: 'a lighthouse at dawn, long exposure, film grain, muted palette',
  metadata: { campaign: 'launch', shot: 12, ticket: 'MKT-2241' },
};

export const ms = (value: number) => `${value.toFixed(value < 10 ? 2 : 1)} ms`;
export const rate = (value: number) => `${Math.round(value).toLocaleString('en')}/s`;
export const times = (value: number) => `${value.toFixed(2)} ×`;

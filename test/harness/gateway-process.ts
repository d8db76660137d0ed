// A gateway in a process of its own, to be killed. It keeps its port and its data over every restart, as a service does.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { until } from './manual-clock.ts';
import { environmentOf } from './studio.ts';

export interface GatewayProcess {
  readonly url: string;
  /** Resolves when it answers. */
  start(): Promise<void>;
  /** Resolves with its exit code when it is gone. */
  kill(signal?: NodeJS.Signals): Promise<number | null>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** `folder` holds darkroom.yaml and models.yaml, and gets the data. */
export async function gatewayProcess(folder: string, adminKey: string): Promise<GatewayProcess> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const cwd = fileURLToPath(new URL('../..', import.meta.url));
  const env = { ...process.env, ...environmentOf(folder, adminKey, String(port)) };
  let live: ChildProcess | null = null;
  const answers = () =>
    fetch(`${url}/healthz`).then(
      (r) => r.ok,
      () => false,
    );
  const kill = async (signal: NodeJS.Signals = 'SIGKILL') => {
    if (live === null) throw new Error('no gateway is running');
    const dying = live;
    live = null;
    dying.kill(signal);
    const [code] = (await once(dying, 'exit')) as [number | null];
    return code;
  };
  return {
    url,
    async start() {
      live = spawn(process.execPath, ['src/cli/cli.ts', 'serve'], { cwd, env, stdio: 'ignore' });
      await until(answers, 'the gateway to answer', 30_000);
    },
    kill,
    async [Symbol.asyncDispose]() {
      if (live?.exitCode === null && live.signalCode === null) await kill();
    },
  };
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  probe.close();
  return port;
}

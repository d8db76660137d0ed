// A ComfyUI node for one test: the double and a connection to it, both on a clock that stands still, and what a run yields.
// Whatever ends without `flow` was ended by the socket. While time flows it waits for every answer that is on its way, so
// that IO takes no time at all.

import { onTestFinished } from 'vitest';
import type { Connection, Job, RunEvent } from '../../src/backends/backend.ts';
import { comfyUiWith } from '../../src/backends/comfyui/client.ts';
import type { Limits } from '../../src/backends/comfyui/session.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import type { RemoteRef } from '../../src/domain/generation.ts';
import type { Http } from '../../src/system/system.ts';
import { type ComfyUiDouble, type ComfyUiOptions, startComfyUi } from '../doubles/comfyui/server.ts';
import { type ManualClock, settle, until } from '../harness/manual-clock.ts';
import { testSystem } from '../harness/system.ts';

export const CHECKPOINT = 'sd_xl_base_1.0.safetensors';
export const never = (): AbortSignal => new AbortController().signal;

export interface TestNode {
  readonly double: ComfyUiDouble;
  readonly clock: ManualClock;
  readonly connection: Connection;
  /** Another connection to the same node, as after a restart of the gateway. */
  connect(limits?: Partial<Limits>): Connection;
  /** Lets time flow until `check` holds. */
  flow(check: () => unknown, what?: string, stepMs?: number): Promise<void>;
  /** How often the node did something. */
  count(what: ComfyUiDouble['log'][number]['what']): number;
}

export async function comfyNode(options: ComfyUiOptions = {}, limits: Partial<Limits> = {}): Promise<TestNode> {
  const plain = testSystem();
  const { http, busy } = counted(plain.http);
  const system = { ...plain, http };
  const double = await startComfyUi({ historyMs: 0, clock: system.clock, ...options });
  const open: Connection[] = [];
  const connect = (own: Partial<Limits> = limits) => {
    const spec = { id: 'n', kind: 'comfyui', url: double.url, labels: [], auth: null, slots: 1 } as const;
    const connection = comfyUiWith(own)({ spec, system, scratch: '' });
    open.push(connection);
    return connection;
  };
  onTestFinished(async () => {
    for (const connection of open) await connection.close();
    await double.stop();
    if (system.clock.pending > 0) throw new Error(`${system.clock.pending} timers were left behind`);
  });
  const flow = async (check: () => unknown, what = 'the condition', stepMs = 50) => {
    await until(async () => {
      if (check()) return true;
      await settle();
      if (!busy()) await system.clock.advance(stepMs);
      return check();
    }, what);
  };
  const count = (what: string) => double.log.filter((entry) => entry.what === what).length;
  return { double, clock: system.clock, connection: connect(), connect, flow, count };
}

/** A run being listened to: its events so far, and how it ended. */
export interface Heard {
  readonly events: RunEvent[];
  /** null while it goes on; 'done', or what was thrown. */
  readonly end: unknown;
  readonly remote: RemoteRef | null;
  of<T extends RunEvent['type']>(type: T): Extract<RunEvent, { type: T }>[];
}

export function hear(events: AsyncIterable<RunEvent>): Heard {
  const seen: RunEvent[] = [];
  let end: unknown = null;
  const of = <T extends RunEvent['type']>(type: T) =>
    seen.filter((event): event is Extract<RunEvent, { type: T }> => event.type === type);
  const listen = async () => {
    for await (const event of events) seen.push(event);
  };
  listen().then(
    () => {
      end = 'done';
    },
    (error: unknown) => {
      end = error;
    },
  );
  return {
    events: seen,
    get end() {
      return end;
    },
    get remote() {
      return [...of('intent'), ...of('accepted')].at(-1)?.remote ?? null;
    },
    of,
  };
}

/** Waits for the end with the clock standing still. */
export async function ended(heard: Heard): Promise<Heard> {
  await until(() => heard.end !== null, 'the end of the run');
  return heard;
}

/** Lets time flow until the end comes. */
export async function endedInTime(heard: Heard, node: TestNode): Promise<Heard> {
  await node.flow(() => heard.end !== null, 'the end of the run');
  return heard;
}

/** Is an answer on its way? */
function counted(inner: Http): { http: Http; busy: () => boolean } {
  let open = 0;
  const during = async <T>(work: Promise<T>): Promise<T> => {
    open++;
    return work.finally(() => open--);
  };
  return {
    busy: () => open > 0,
    http: {
      async request(url, request) {
        const response = await during(inner.request(url, request));
        return { ...response, text: () => during(response.text()), bytes: () => during(response.bytes()) };
      },
    },
  };
}

export const run = (connection: Connection, job: Job, signal = never()): Heard => hear(connection.run(job, signal));

/** The failure it ended with. */
export function failureOf({ end }: Heard) {
  if (!(end instanceof GatewayError))
    throw new Error(`it did not fail with a GatewayError but: ${String(end)}`, { cause: end });
  return end.failure;
}

export async function bytesOf(heard: Heard): Promise<Buffer[]> {
  const all: Buffer[] = [];
  for (const { file } of heard.of('file')) {
    const chunks = (await (await file.open(never())).toArray()) as Buffer[];
    all.push(Buffer.concat(chunks));
  }
  return all;
}

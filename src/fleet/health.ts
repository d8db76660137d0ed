// Is the node there? One probe loop per node, never overlapping, each probe bounded. `after` decides what a probe
// means; the loop only asks and waits. A node that is busy loading answers late and is not down for it: it takes more
// silence to give up on a node that is rendering, while a refused connection is certain at once.

import { isDeepStrictEqual } from 'node:util';
import type { Connection } from '../backends/backend.ts';
import { GatewayError, toFailure } from '../domain/failure.ts';
import type { NodeReport } from '../domain/node.ts';
import type { Millis } from '../domain/units.ts';
import { HttpError, type System, startLoop } from '../system/system.ts';

/** `misses`: failed probes in a row. An `up` node with misses is doubted: nothing new is started there. */
export type Health =
  | { readonly state: 'unknown'; readonly misses: number; readonly report: null }
  | { readonly state: 'up'; readonly misses: number; readonly report: NodeReport }
  | { readonly state: 'down'; readonly misses: number; readonly report: NodeReport | null; readonly why: string };

export type Probed =
  | { readonly found: NodeReport }
  | { readonly found: null; readonly refused: boolean; readonly why: string };

const MISSES = { idle: 2, busy: 3 } as const;
const ONLINE_PAUSE_MS = 5_000;
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;
const PROBE_MS = 10_000;

export function after(health: Health, probed: Probed, busy: boolean): Health {
  if (probed.found !== null) return { state: 'up', misses: 0, report: probed.found };
  const misses = health.misses + 1;
  const certain = probed.refused || health.state !== 'up' || misses >= MISSES[busy ? 'busy' : 'idle'];
  if (!certain) return { ...health, misses };
  return { state: 'down', misses, report: health.report, why: probed.why };
}

/** Did the node lose its memory in between? It was away, or came back as something else. */
export function restarted(before: Health, now: Health): boolean {
  if (now.state !== 'up' || before.state === 'unknown') return false;
  const identity = ({ flavour, version, device, classes }: NodeReport) => ({ flavour, version, device, classes });
  return before.state === 'down' || !isDeepStrictEqual(identity(before.report), identity(now.report));
}

/** Does the report differ in what placement asks for? Memory and foreign work always change. */
export function installedChanged(before: NodeReport | null, now: NodeReport | null): boolean {
  const installed = (report: NodeReport | null) => report && { ...report, memory: null, foreignQueue: 0 };
  return !isDeepStrictEqual(installed(before), installed(now));
}

/** Before the next probe: 5 s while well, 1 s doubling to 15 s while not. */
export function pauseAfter(health: Health, chance: number): Millis {
  const pause =
    health.misses === 0 ? ONLINE_PAUSE_MS : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (health.misses - 1));
  return pause * (0.85 + 0.3 * chance);
}

export interface Watch {
  readonly health: Health;
  /** Something went wrong there: starts nothing new and probes at once. */
  doubt(): void;
  /** Resolves with the first probe's end (or at stop). */
  readonly first: Promise<void>;
  stop(): Promise<void>;
}

export interface WatchOptions {
  readonly id: string;
  readonly connection: Connection;
  readonly system: System;
  readonly busy: () => boolean;
  /** After every probe. */
  readonly onProbed: (before: Health, now: Health) => void;
}

export function watchNode({ id, connection, system, busy, onProbed }: WatchOptions): Watch {
  const { clock, log, random } = system;
  const first = Promise.withResolvers<void>();
  let health: Health = { state: 'unknown', misses: 0, report: null };
  const loop = startLoop({
    name: `probe ${id}`,
    clock,
    log,
    async tick(signal) {
      const probed = await probe(connection, system, signal);
      const before = health;
      health = after(before, probed, busy());
      onProbed(before, health);
      first.resolve();
      return pauseAfter(health, random.fraction());
    },
  });
  return {
    get health() {
      return health;
    },
    doubt() {
      if (health.state === 'up') health = { ...health, misses: Math.max(1, health.misses) };
      loop.wake();
    },
    first: first.promise,
    async stop() {
      await loop.stop();
      first.resolve();
    },
  };
}

async function probe(connection: Connection, { clock, log }: System, stopping: AbortSignal): Promise<Probed> {
  const late = new AbortController();
  using _ = clock.timer(PROBE_MS, () => late.abort(new GatewayError('node_lost', 'it gave no answer within 10 s')));
  const signal = AbortSignal.any([stopping, late.signal]);
  const cut = Promise.withResolvers<never>();
  signal.addEventListener('abort', () => cut.reject(signal.reason), { once: true });
  try {
    return { found: await Promise.race([connection.probe(signal), cut.promise]) };
  } catch (error) {
    if (stopping.aborted) throw error;
    log.debug({ err: error }, 'a probe failed');
    const refused = error instanceof GatewayError && error.cause instanceof HttpError && error.cause.kind === 'unsent';
    return { found: null, refused, why: toFailure(error).message };
  }
}

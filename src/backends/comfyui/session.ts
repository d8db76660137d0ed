// What one connection knows of its node: its HTTP face, its socket, what was installed at the last look, which prompts there
// are ours, and whether it hangs. Everything of it is a cache of the node's own truth; nothing outlives the process.

import type { NodeSpec } from '../../domain/node.ts';
import type { System } from '../../system/system.ts';
import type { Server } from './server.ts';
import type { Socket } from './socket.ts';

/** How patient a watch is; all in milliseconds. */
export interface Limits {
  /** Between two looks at the history of a prompt under way. */
  readonly pollMs: number;
  /** A prompt in neither history nor queue this long is lost. */
  readonly lostMs: number;
  /** Silence while a model may be loading, or a node works that reports nothing. */
  readonly coldMs: number;
  /** Silence between two steps of a sampler. */
  readonly stepMs: number;
  /** Without a working socket, or behind others in the queue: how long nothing may change. */
  readonly blindMs: number;
  /** No answer at all for so long: the node is lost. */
  readonly unreachableMs: number;
  /** How long a cancel insists. */
  readonly cancelMs: number;
  /** How old the lists of installed files may be before a probe reads them again. */
  readonly listsMs: number;
}

export const DEFAULT_LIMITS: Limits = {
  pollMs: 2_000,
  lostMs: 3_000,
  coldMs: 10 * 60_000,
  stepMs: 3 * 60_000,
  blindMs: 30 * 60_000,
  unreachableMs: 2 * 60_000,
  cancelMs: 2 * 60_000,
  listsMs: 60_000,
};

/** Why no work should go there, and what will show that this is over. */
export type Wedge = { readonly reason: string } & (
  | { readonly until: 'prompt_left_queue' | 'prompt_left_history'; readonly promptId: string }
  | { readonly until: 'restart'; readonly restarts: number }
);

export interface Session {
  readonly spec: NodeSpec;
  readonly system: System;
  readonly limits: Limits;
  readonly server: Server;
  readonly socket: Socket;
  /** Prompts of ours that may be on the node. */
  readonly ours: Set<string>;
  /** File and choice lists per "class_type.input", as the node spells them. */
  choices: Readonly<Record<string, readonly string[]>>;
  /** Has it the Jobs API (servers of 2026)? Null: not yet asked. */
  jobsApi: boolean | null;
  /** Grows with every sign that the server was restarted: queue and history are gone then. */
  restarts: number;
  /** The server's submission counter, which starts anew with it. */
  lastNumber: number;
  wedge: Wedge | null;
}

export function openSession(parts: Pick<Session, 'spec' | 'system' | 'limits' | 'server' | 'socket'>): Session {
  return { ...parts, ours: new Set(), choices: {}, jobsApi: null, restarts: 0, lastNumber: -1, wedge: null };
}

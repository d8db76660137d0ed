// Which nodes exist, are they well, what is loaded, how many slots, how long things take there. The engine asks for
// views, takes a Slot, uses its connection, and says how it went; probing and learning happen here.

import type { Connection } from '../backends/backend.ts';
import type { Failure } from '../domain/failure.ts';
import type { NodeReport, NodeSpec, NodeStatus, NodeView } from '../domain/node.ts';
import type { Millis, NodeId } from '../domain/units.ts';

/** Permission to render one attempt on one node. Disposing gives it back (idempotent). */
export interface Slot extends Disposable {
  readonly node: NodeId;
  /** The render ended: the slot is free for the next one although files are still being fetched. Idempotent. */
  release(): void;
}

/** How an attempt went, from the node's point of view. Feeds health, residency and timings. */
export interface AttemptReport {
  readonly residency: string;
  /** Was the model already loaded when it started (as far as we knew)? */
  readonly warm: boolean;
  /** Until `rendered`; null when it never got there. */
  readonly renderMs: Millis | null;
  readonly failure: Failure | null;
}

export interface NodeState {
  readonly spec: NodeSpec;
  readonly source: 'config' | 'runtime' | 'builtin';
  readonly status: NodeStatus;
  /** Why it is not online, for people; null when it is. */
  readonly why: string | null;
  readonly report: NodeReport | null;
  readonly running: number;
  readonly since: Millis;
}

export interface Fleet {
  views(): readonly NodeView[];
  nodes(): readonly NodeState[];
  node(id: NodeId): NodeState | undefined;
  connection(id: NodeId): Connection | undefined;
  /** Null when the node has no free slot, is not online, or is gone. */
  acquire(id: NodeId, work: { readonly residency: string; readonly expectMs: Millis }): Slot | null;
  /** For work found running on a node at recovery: takes a slot even beyond the free ones. Null: no such node. */
  adopt(id: NodeId, work: { readonly residency: string; readonly expectMs: Millis }): Slot | null;
  learned(id: NodeId, report: AttemptReport): void;
  /** Expected render and load milliseconds; falls back from (node, residency) to (any node, residency) to the given default. */
  estimate(residency: string, node: NodeId | null, fallback: { readonly renderMs: Millis; readonly loadMs: Millis }): { readonly renderMs: Millis; readonly loadMs: Millis };
  /** Throws GatewayError('conflict') for a known id, ('invalid_request') for an address a node may never have. Probes once, bounded, and keeps the node even if it is down. */
  add(spec: NodeSpec): Promise<NodeState>;
  drain(id: NodeId): Promise<NodeState>;
  resume(id: NodeId): Promise<NodeState>;
  /** Throws GatewayError('conflict') for nodes from the config file. */
  remove(id: NodeId): Promise<void>;
  /** A slot was freed, a node came up or changed, something was learned. */
  onChange(listener: () => void): Disposable;
  /** Resolves when each node was probed once or the bound has passed. */
  ready(boundMs: Millis): Promise<void>;
  stop(): Promise<void>;
}

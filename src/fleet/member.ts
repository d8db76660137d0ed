// One node of the fleet: its connection, and everything known about it put together. What it is (status, why) and
// what may start there (free slots) are always computed from the parts, never stored, so they cannot disagree;
// `note` compares them with what was last told and tells the rest of the house.

import type { Connection } from '../backends/backend.ts';
import { FAILURES, type Failure } from '../domain/failure.ts';
import type { NodeReport, NodeSpec, NodeStatus, NodeView } from '../domain/node.ts';
import type { Millis } from '../domain/units.ts';
import type { System } from '../system/system.ts';
import { createBreaker } from './breaker.ts';
import { installedChanged, restarted, watchNode } from './health.ts';
import { createResidency } from './residency.ts';
import { createSlots, type Slot, type Work } from './slots.ts';
import type { Timings } from './timings.ts';

/** How an attempt went, from the node's point of view. Feeds health, residency and timings. */
export interface AttemptReport {
  readonly residency: string;
  /** Was the model already loaded when it started (as far as we knew)? */
  readonly warm: boolean;
  /** Until `rendered`; null when it never got there. */
  readonly renderMs: Millis | null;
  /** Null with `renderMs` null: the node would not take it, which says nothing about the node. */
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

export interface MemberOptions {
  readonly spec: NodeSpec;
  readonly source: NodeState['source'];
  readonly draining: boolean;
  readonly connection: Connection;
  readonly system: System;
  readonly timings: Timings;
  /** A slot was freed, the node came up or changed. */
  readonly onChange: () => void;
}

export interface Member {
  readonly source: NodeState['source'];
  readonly spec: NodeSpec;
  readonly connection: Connection;
  state(): NodeState;
  view(): NodeView;
  acquire(work: Work): Slot | null;
  adopt(work: Work): Slot;
  learned(report: AttemptReport): void;
  /** An operator's word. Resuming also gives a node that was set aside another chance. */
  drain(on: boolean): void;
  /** Resolves with the end of the first probe. */
  readonly probed: Promise<void>;
  /** Takes no more work; closes the connection once the last attempt on it is over, and resolves then. */
  retire(): Promise<void>;
  /** Closes at once. Idempotent. */
  close(): Promise<void>;
}

interface Standing {
  readonly status: NodeStatus;
  readonly why: string | null;
}

/** Failures after which nothing can be said to be loaded: the process died, or emptied its memory. */
const FORGETS = new Set<Failure['code']>(['node_lost', 'out_of_memory']);

export function createMember(options: MemberOptions): Member {
  const { spec, source, connection, system, timings, onChange } = options;
  const { clock, log } = system;
  let draining = options.draining;
  let retired = false;
  let closing: Promise<void> | null = null;
  const closed = Promise.withResolvers<void>();

  const residency = createResidency(spec.kind);
  const breaker = createBreaker(clock, () => note());
  const slots = createSlots({
    node: spec.id,
    capacity: spec.slots,
    now: () => clock.monotonic(),
    onRendered: (key) => residency.used(key),
    onFreed() {
      if (retired && slots.held === 0) void close();
      note();
    },
  });
  const watch = watchNode({
    id: spec.id,
    connection,
    system,
    busy: () => slots.running > 0,
    onProbed(before, now) {
      if (restarted(before, now)) residency.clear();
      const changed = before.state !== now.state || installedChanged(before.report, now.report);
      note(changed);
    },
  });

  const standing = (): Standing => {
    const { health } = watch;
    if (draining) return { status: 'draining', why: 'drained by an operator' };
    if (health.state === 'unknown') return { status: 'offline', why: 'not probed yet' };
    if (health.state === 'down') return { status: 'offline', why: health.why };
    const wedged = connection.wedged ?? null;
    if (wedged !== null) return { status: 'wedged', why: wedged };
    return breaker.why === null ? { status: 'online', why: null } : { status: 'offline', why: breaker.why };
  };
  const freeSlots = (): number => {
    if (retired || watch.health.misses > 0 || standing().status !== 'online') return 0;
    return breaker.state === 'half_open' ? Number(slots.running === 0) : slots.free;
  };

  let told: Standing & { readonly free: number } = { ...standing(), free: 0 };
  let since = clock.now();
  function note(changed = false): void {
    const now = { ...standing(), free: freeSlots() };
    const news = changed || now.status !== told.status || now.why !== told.why || now.free > told.free;
    if (told.status === 'wedged' && now.status !== 'wedged') residency.clear();
    if (now.status !== told.status) {
      since = clock.now();
      log.info({ node: spec.id, from: told.status, to: now.status, why: now.why }, 'node status changed');
    }
    told = now;
    if (news && !retired) onChange();
  }

  const blame = ({ code, message }: Failure, key: string): void => {
    if (FORGETS.has(code)) residency.clear();
    if (FAILURES[code].blame !== 'node' || code === 'model_error') return;
    watch.doubt();
    if (code === 'run_timeout' && !slots.overdue(key)) return;
    breaker.failed(message);
  };
  const close = (): Promise<void> => {
    retired = true;
    closing ??= (async () => {
      breaker[Symbol.dispose]();
      await watch.stop();
      await connection.close().catch((error: unknown) => log.warn({ err: error, node: spec.id }, 'closing failed'));
      closed.resolve();
    })();
    return closing;
  };

  return {
    source,
    spec,
    connection,
    state: () => ({ spec, source, ...standing(), report: watch.health.report, running: slots.running, since }),
    view: () => ({
      id: spec.id,
      kind: spec.kind,
      labels: spec.labels,
      status: standing().status,
      report: watch.health.report,
      freeSlots: freeSlots(),
      resident: residency.keys(slots.rendering()),
      capacity: residency.capacity,
      remainingMs: slots.remainingMs(),
      renderedSinceLoadMs: residency.renderedSinceLoadMs,
      timing: (key) => timings.timing(spec.id, key),
    }),
    acquire(work) {
      if (freeSlots() === 0) return null;
      const slot = slots.take(work);
      note();
      return slot;
    },
    adopt(work) {
      const slot = slots.take(work);
      note();
      return slot;
    },
    learned({ residency: key, warm, renderMs, failure }) {
      if (closing !== null) return;
      if (failure !== null) return blame(failure, key);
      if (renderMs === null) return;
      residency.rendered(timings.learn(spec.id, key, renderMs, warm), !warm);
      breaker.succeeded();
    },
    drain(on) {
      draining = on;
      if (!on) breaker.succeeded();
      note();
    },
    probed: watch.first,
    retire() {
      retired = true;
      if (slots.held === 0) void close();
      return closed.promise;
    },
    close,
  };
}

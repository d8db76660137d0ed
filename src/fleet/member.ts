// One node of the fleet: its connection, and everything known about it put together. `note` compares what the node is
// with what was last told and wakes the rest of the house; everything that may change it calls `note`.

import type { Connection } from '../backends/backend.ts';
import { FAILURES, type Failure, type FailureCode, isOfAccount } from '../domain/failure.ts';
import { isHosted, residencyKey } from '../domain/model.ts';
import type { NodeReport, NodeSpec, NodeStatus, NodeView } from '../domain/node.ts';
import type { Millis } from '../domain/units.ts';
import type { System } from '../system/system.ts';
import { type Breaker, createBreaker } from './breaker.ts';
import { createDeparted, type Departed } from './departed.ts';
import { installedChanged, restarted, type Watch, watchNode } from './health.ts';
import { isNews, type Posture, postureOf } from './posture.ts';
import { createResidency, type Residency } from './residency.ts';
import { createSlots, type Slot, type Slots, type Work } from './slots.ts';
import type { Timings } from './timings.ts';

/** How an attempt went, from the node's point of view. Feeds health, residency and timings. */
export interface AttemptReport {
  readonly residency: string;
  /** Was the model already loaded when it started (as far as we knew)? */
  readonly warm: boolean;
  /** Until `rendered`, by the monotonic clock; null when it never got there. */
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
  readonly breaker?: Breaker['state'];
  /** What opened the breaker last; null once it is closed. */
  readonly opened?: string | null;
  /** The failure that opened it. */
  readonly openedBy?: FailureCode | null;
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

/** The parts of a member, wired to each other. */
interface Body extends Disposable {
  readonly residency: Residency;
  readonly breaker: Breaker;
  readonly departed: Departed;
  readonly slots: Slots;
  readonly watch: Watch;
  readonly since: Millis;
  draining: boolean;
  /** Takes nothing new for so long; the longest that was asked for counts. */
  limit(ms: Millis): void;
  posture(): Posture;
  /** Tells the house what is new; `changed`: something is that the posture does not show. */
  note(changed?: boolean): void;
}

function createBody({ spec, draining, connection, system, onChange }: MemberOptions, onFreed: () => void): Body {
  const { clock, log } = system;
  const residency = createResidency(spec.kind);
  const body: Body = {
    residency,
    breaker: createBreaker(clock, () => body.note()),
    departed: createDeparted(clock, () => body.note(true)),
    slots: createSlots({
      node: spec.id,
      capacity: spec.slots,
      now: () => clock.monotonic(),
      onRendered: (key) => residency.used(key),
      onFreed() {
        onFreed();
        body.note();
      },
    }),
    watch: watchNode({
      id: spec.id,
      connection,
      system,
      busy: () => body.slots.running > 0,
      onProbed(before, now) {
        if (restarted(before, now)) residency.clear();
        body.note(before.state !== now.state || installedChanged(before.report, now.report));
      },
    }),
    get since() {
      return since;
    },
    draining,
    [Symbol.dispose]() {
      limited?.timer[Symbol.dispose]();
      body.breaker[Symbol.dispose]();
      body.departed[Symbol.dispose]();
    },
    limit(ms) {
      const until = clock.monotonic() + ms;
      if (limited !== null && until <= limited.until) return;
      limited?.timer[Symbol.dispose]();
      const over = () => {
        limited = null;
        body.note(true);
      };
      limited = { until, timer: clock.timer(ms, over) };
      body.note(true);
    },
    posture() {
      const { draining, breaker, slots, watch } = body;
      const wedged = connection.wedged ?? null;
      return postureOf({ draining, breaker, slots, health: watch.health, wedged, limited: limited !== null });
    },
    note(changed = false) {
      const now = body.posture();
      const before = told;
      told = now;
      if (before.status === 'wedged' && now.status !== 'wedged') residency.clear();
      if (now.status !== before.status) {
        since = clock.now();
        const fields = { node: spec.id, from: before.status, to: now.status, why: now.why };
        if (met) log.info(fields, 'node status changed');
        else log.debug(fields, 'node met');
      }
      met = true;
      if (changed || isNews(before, now)) onChange();
    },
  };
  let limited: { readonly until: Millis; readonly timer: Disposable } | null = null;
  let since = clock.now();
  let told = body.posture();
  /** What it is when it is first looked at is no change. */
  let met = false;
  return body;
}

/** Failures after which nothing can be said to be loaded: the process died, or emptied its memory. */
const FORGETS = new Set<Failure['code']>(['node_lost', 'out_of_memory']);

/** The built-in renderer cannot be lost; what fails there was rehearsed, and must not take it from everybody else. */
const isPartOfUs = ({ kind }: NodeSpec): boolean => kind === 'sketch';

/** How long a provider that said "too many" is left alone, where it does not say how long, and at most. */
const LIMITED_S = 5;
const LONGEST_LIMITED_S = 600;

function blame(spec: NodeSpec, body: Body, why: Failure, key: string): void {
  const { code, retryAfterSeconds = LIMITED_S } = why;
  const { residency, watch, slots, breaker, departed } = body;
  if (isOfAccount(code)) {
    breaker.open(why);
    return;
  }
  if (code === 'model_gone' && isHosted(spec.kind)) departed.told(key);
  if (code === 'rate_limited') body.limit(1_000 * Math.min(LONGEST_LIMITED_S, Math.max(1, retryAfterSeconds)));
  if (FORGETS.has(code)) residency.clear();
  if (FAILURES[code].blame !== 'node' || code === 'model_error') return;
  watch.doubt();
  if (code === 'run_timeout' && !slots.overdue(key)) return;
  breaker.failed(why);
}

function viewOf(
  { spec, connection, timings }: MemberOptions,
  { residency, slots, watch, breaker, departed, posture }: Body,
): NodeView {
  const { status, free, limited } = posture();
  return {
    id: spec.id,
    kind: spec.kind,
    labels: spec.labels,
    status,
    setAside: breaker.why !== null,
    onTrial: breaker.state === 'half_open',
    limited,
    gone: (route) => departed.of(residencyKey(route)),
    report: watch.health.report,
    ...(connection.refuses && { refuses: connection.refuses }),
    freeSlots: free,
    resident: residency.keys(slots.rendering()),
    capacity: residency.capacity,
    remainingMs: slots.remainingMs(),
    renderedSinceLoadMs: residency.renderedSinceLoadMs,
    timing: (key) => timings.timing(spec.id, key),
  };
}

export function createMember(options: MemberOptions): Member {
  const { spec, source, connection, system, timings } = options;
  const body = createBody(options, () => {
    if (retired) closeWhenIdle();
  });
  const { residency, breaker, departed, slots, watch, note } = body;
  const closed = Promise.withResolvers<void>();
  let retired = false;
  let closing = false;

  const close = async () => {
    if (closing) return closed.promise;
    retired = true;
    closing = true;
    body[Symbol.dispose]();
    await watch.stop();
    await connection
      .close()
      .catch((error: unknown) => system.log.warn({ err: error, node: spec.id }, 'closing a connection failed'));
    closed.resolve();
  };
  const closeWhenIdle = () => {
    if (slots.held === 0) void close();
  };
  const take = (work: Work): Slot => {
    const slot = slots.take(work);
    note();
    return slot;
  };

  return {
    source,
    spec,
    connection,
    state() {
      const { status, why } = body.posture();
      const { report } = watch.health;
      const { state, opened, openedBy } = breaker;
      return {
        spec,
        source,
        status,
        why,
        report,
        running: slots.running,
        since: body.since,
        breaker: state,
        opened,
        openedBy,
      };
    },
    view: () => viewOf(options, body),
    acquire: (work) => (retired || body.posture().free === 0 ? null : take(work)),
    adopt: take,
    learned({ residency: key, warm, renderMs, failure }) {
      if (closing) return;
      if (failure !== null) return isPartOfUs(spec) ? undefined : blame(spec, body, failure, key);
      if (renderMs === null) return;
      residency.rendered(timings.learn(spec.id, key, renderMs, warm), !warm);
      departed.seen(key);
      breaker.succeeded(system.clock.monotonic() - renderMs);
    },
    drain(on) {
      body.draining = on;
      if (!on) {
        breaker.close();
        departed.clear();
      }
      note();
    },
    probed: watch.first,
    retire() {
      retired = true;
      closeWhenIdle();
      return closed.promise;
    },
    close,
  };
}

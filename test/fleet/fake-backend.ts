// Nodes that do what a test tells them. Each FakeNode is the far side: it outlives connections (so a gateway may restart
// around it), keeps its own record of what ran, and can crash, vanish, wedge, hang and fail on command. Time is the
// given clock's; nothing here touches the network.

import { Readable } from 'node:stream';
import { type Backends, type Connection, type Job, Refusal, type RunEvent } from '../../src/backends/backend.ts';
import { type Failure, type FailureCode, GatewayError } from '../../src/domain/failure.ts';
import type { RemoteRef } from '../../src/domain/generation.ts';
import { type BackendKind, HOSTED_BACKENDS, isHosted, LOCAL_BACKENDS, residencyKey } from '../../src/domain/model.ts';
import type { NodeReport } from '../../src/domain/node.ts';
import type { Millis } from '../../src/domain/units.ts';
import { type Clock, HttpError } from '../../src/system/system.ts';

/** What one job shall do on the node. Everything has a harmless default. */
export interface Plan {
  /** Clock time of a warm render. Default 1,000. */
  readonly runMs?: Millis;
  /** Added when the node's last job had another residency key. Default 0. */
  readonly loadMs?: Millis;
  /** Thrown (as a Refusal) instead of accepting the job; nothing runs. */
  readonly refuse?: FailureCode | Failure;
  /** Thrown at the end of the render. */
  readonly fail?: FailureCode | Failure;
  /** Why it cannot be asked how it stands, from its beginning on. */
  readonly trouble?: Failure;
  /** Never ends by itself. */
  readonly hang?: boolean;
  /** The node crashes at the end of the render. */
  readonly crash?: boolean;
  /** Result files; default one `PNG`. */
  readonly files?: readonly Buffer[];
  /** Files that cannot be had, by their place. */
  readonly lostFiles?: readonly number[];
  /** Files that never come, by their place. */
  readonly endlessFiles?: readonly number[];
  /** The seeds it says its files were made with. */
  readonly seeds?: readonly number[];
  /** As the node calls the files; default image/png. */
  readonly mediaType?: string | null;
  /** The first downloads break off this many times. */
  readonly brokenDownloads?: number;
  readonly warnings?: readonly string[];
}

/** One job as the node lived it. */
export interface Work {
  readonly node: string;
  readonly job: Job;
  readonly remote: RemoteRef;
  readonly plan: Plan;
  readonly cold: boolean;
  readonly startedAt: Millis;
  endedAt: Millis | null;
  state: 'running' | 'done' | 'failed' | 'cancelled' | 'lost';
  resumes: number;
  /** What it was taken up again as. */
  resumed: Job | null;
}

interface Doing {
  readonly work: Work;
  readonly half: PromiseWithResolvers<void>;
  readonly end: PromiseWithResolvers<void>;
  timers: Disposable[];
}

/** A valid 1×1 PNG. */
export const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

/** Tells nothing about what is installed, so nothing is refused for lacking. */
export const REPORT: NodeReport = {
  flavour: 'fake',
  version: '1.0',
  device: 'fake:0',
  memory: { totalBytes: 8_000_000_000, freeBytes: 8_000_000_000 },
  checkpoints: null,
  loras: null,
  samplers: null,
  schedulers: null,
  upscalers: null,
  classes: null,
  files: null,
  foreignQueue: 0,
};

export interface FakeNode {
  readonly id: string;
  /** What the next probes say. */
  report: NodeReport;
  /** Why `Connection.wedged` says it is stuck; null: it is well. */
  wedged: string | null;
  /** Does `Connection.resumable` hold? */
  resumable: boolean;
  /** Clock time a probe takes. */
  probeMs: Millis;
  /** What it is given waits, with nothing asked of it, until somebody stops that. */
  waits: boolean;
  /** How `cancel` fails; null: it works. */
  cancelFails: FailureCode | null;
  /** The plan of every job without a plan of its own; a function decides by the job. */
  plan: Plan | ((job: Job) => Plan);
  /** Plans for the next jobs, in order, before `plan`. */
  next(...plans: readonly Plan[]): void;
  /** The process dies: connections are refused and its work is gone. */
  crash(): void;
  /** The network is cut: nothing answers, but its work goes on. */
  cut(): void;
  /** Answers again; work that survived is still there. */
  mend(): void;
  /** Crash and come back at once. */
  restart(): void;
  /** In the order they began. */
  readonly works: readonly Work[];
  /** Most jobs it ran at one time. */
  readonly busiest: number;
  readonly cancels: readonly RemoteRef[];
  readonly probes: number;
  /** Loads it had to make. */
  readonly loads: number;
  /** Connections not closed yet. */
  readonly open: number;
}

export interface FakeBackends {
  readonly backends: Backends;
  /** The node of that id, made on first mention. */
  node(id: string): FakeNode;
  /** All work of all nodes, in the order it began. */
  readonly works: readonly Work[];
}

export function fakeBackends(clock: Clock): FakeBackends {
  const nodes = new Map<string, ReturnType<typeof makeNode>>();
  const works: Work[] = [];
  const node = (id: string) => {
    const known = nodes.get(id) ?? makeNode(id, clock, works);
    nodes.set(id, known);
    return known;
  };
  const connect = ({ spec }: { spec: { id: string; kind: BackendKind } }) => node(spec.id).connect(isHosted(spec.kind));
  return {
    backends: Object.fromEntries(
      [...LOCAL_BACKENDS, ...HOSTED_BACKENDS].map((kind) => [kind, connect]),
    ) as unknown as Backends,
    node: (id) => node(id).fake,
    works,
  };
}

const thrown = (what: FailureCode | Failure, Kind = GatewayError): GatewayError =>
  new Kind(what, `the fake node said ${typeof what === 'string' ? what : what.code}`);

function makeNode(id: string, clock: Clock, all: Work[]) {
  const doing = new Map<string, Doing>();
  const queue: Plan[] = [];
  const works: Work[] = [];
  const cancels: RemoteRef[] = [];
  let reach: 'up' | 'refused' | 'silent' = 'up';
  let loaded: string | null = null;
  const counts = { busiest: 0, probes: 0, loads: 0, open: 0 };

  const unreachable = (): GatewayError =>
    new GatewayError('node_lost', `${id} does not answer`, {
      cause: new HttpError(reach === 'refused' ? 'unsent' : 'timeout', 'no connection'),
    });
  const reachable = () => {
    if (reach !== 'up') throw unreachable();
  };
  const finish = (it: Doing, state: Work['state'], error?: unknown) => {
    if (it.work.state !== 'running') return;
    it.work.state = state;
    it.work.endedAt = clock.now();
    for (const timer of it.timers) timer[Symbol.dispose]();
    if (error === undefined) it.end.resolve();
    else it.end.reject(error);
  };
  const begin = (job: Job, remote: RemoteRef, plan: Plan): Doing => {
    const residency = residencyKey(job.route);
    const cold = loaded !== residency;
    if (cold) counts.loads++;
    loaded = residency;
    const startedAt = clock.now();
    const work: Work = {
      node: id,
      job,
      remote,
      plan,
      cold,
      startedAt,
      endedAt: null,
      state: 'running',
      resumes: 0,
      resumed: null,
    };
    const it: Doing = { work, half: Promise.withResolvers(), end: Promise.withResolvers(), timers: [] };
    it.end.promise.catch(() => {});
    doing.set(keyOf(remote), it);
    works.push(work);
    all.push(work);
    counts.busiest = Math.max(counts.busiest, works.filter((w) => w.state === 'running').length);
    const ms = (plan.runMs ?? 1000) + (cold ? (plan.loadMs ?? 0) : 0);
    it.timers = [clock.timer(ms / 2, () => it.half.resolve())];
    if (!plan.hang) it.timers.push(clock.timer(ms, () => endOf(it)));
    return it;
  };
  const endOf = (it: Doing) => {
    const { plan } = it.work;
    if (plan.crash) fake.crash();
    else if (plan.fail !== undefined) finish(it, 'failed', thrown(plan.fail));
    else finish(it, 'done');
  };

  const fake: FakeNode = {
    id,
    report: REPORT,
    wedged: null,
    resumable: true,
    probeMs: 0,
    waits: false,
    cancelFails: null,
    plan: {},
    next: (...plans) => void queue.push(...plans),
    crash() {
      reach = 'refused';
      loaded = null;
      for (const it of doing.values()) finish(it, 'lost', unreachable());
      doing.clear();
    },
    cut() {
      reach = 'silent';
    },
    mend() {
      reach = 'up';
    },
    restart() {
      fake.crash();
      fake.mend();
    },
    works,
    cancels,
    get busiest() {
      return counts.busiest;
    },
    get probes() {
      return counts.probes;
    },
    get loads() {
      return counts.loads;
    },
    get open() {
      return counts.open;
    },
  };

  async function* follow(it: Doing, job: Job, signal: AbortSignal): AsyncIterable<RunEvent> {
    const { plan } = it.work;
    if (plan.trouble !== undefined) yield { type: 'trouble', failure: plan.trouble };
    for (const message of plan.warnings ?? []) yield { type: 'warning', message };
    yield { type: 'progress', fraction: 0, message: it.work.cold ? 'loading model' : 'starting' };
    await either(Promise.race([it.half.promise, it.end.promise]), signal);
    yield { type: 'progress', fraction: 0.5, message: 'denoising step 5/10' };
    if (job.previews) yield { type: 'preview', mediaType: 'image/png', bytes: PNG };
    await either(it.end.promise, signal);
    reachable();
    yield { type: 'rendered' };
    let broken = plan.brokenDownloads ?? 0;
    for (const [k, bytes] of (plan.files ?? [PNG]).entries()) {
      const open = async (signal: AbortSignal) => {
        reachable();
        if (plan.lostFiles?.includes(k)) throw new GatewayError('node_lost', 'the file is gone');
        if (plan.endlessFiles?.includes(k)) await either(new Promise<never>(() => {}), signal);
        if (broken-- > 0) throw new GatewayError('node_lost', 'the download broke off');
        return Readable.from([bytes]);
      };
      const seed = plan.seeds?.[k];
      const file = { name: `${k}.png`, mediaType: plan.mediaType ?? 'image/png', open };
      yield { type: 'file', file: seed === undefined ? file : { ...file, seed } };
    }
  }

  const connect = (paid: boolean): Connection => {
    counts.open++;
    let closed = false;
    return {
      get resumable() {
        return fake.resumable;
      },
      paid,
      get wedged() {
        return fake.wedged;
      },
      async probe(signal) {
        counts.probes++;
        if (fake.probeMs > 0) await clock.sleep(fake.probeMs, signal);
        reachable();
        return fake.report;
      },
      async *run(job, signal) {
        const model = job.route.remote;
        const remote = { id: `${job.id}/${job.attempt}`, ...(model === null ? {} : { model }) };
        if (fake.waits) {
          yield { type: 'intent', remote: { ...remote, asked: false } };
          await either(new Promise<never>(() => {}), signal);
        }
        yield { type: 'intent', remote };
        signal.throwIfAborted();
        reachable();
        const plan = queue.shift() ?? (typeof fake.plan === 'function' ? fake.plan(job) : fake.plan);
        if (plan.refuse !== undefined) throw thrown(plan.refuse, Refusal);
        const it = begin(job, remote, plan);
        yield { type: 'accepted', remote };
        yield* follow(it, job, signal);
      },
      async *resume(job, remote, signal) {
        signal.throwIfAborted();
        reachable();
        const it = doing.get(keyOf(remote));
        if (it === undefined || it.work.state === 'cancelled')
          throw new GatewayError('node_lost', 'it knows no such job');
        it.work.resumes++;
        it.work.resumed = job;
        yield { type: 'accepted', remote };
        yield* follow(it, job, signal);
      },
      async cancel(remote, signal) {
        signal.throwIfAborted();
        cancels.push(remote);
        reachable();
        if (fake.cancelFails !== null) throw thrown(fake.cancelFails);
        const it = doing.get(keyOf(remote));
        if (it) finish(it, 'cancelled', new GatewayError('node_lost', 'it was interrupted on the node'));
      },
      async close() {
        if (!closed) counts.open--;
        closed = true;
      },
    };
  };
  return { fake, connect };
}

const keyOf = (remote: RemoteRef): string => String(remote.id);

/** The promise, or the signal's reason as soon as it aborts. */
function either<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason);
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

// The machine's front door: everything a door may ask. Doors parse and render; this decides.

import type { Readable } from 'node:stream';
import { type CatalogStatus, findModel } from '../catalog/catalog.ts';
import type { GenerationRequest } from '../contract/generations.ts';
import type { View } from '../contract/render.ts';
import type { Caller, Key, Workspace } from '../domain/caller.ts';
import type { GenerationEvent } from '../domain/event.ts';
import { failure, GatewayError } from '../domain/failure.ts';
import { type Generation, isFinal, type Status } from '../domain/generation.ts';
import { Meters } from '../domain/meters.ts';
import { isHosted } from '../domain/model.ts';
import type { NodeSpec } from '../domain/node.ts';
import type { Cursor, GenerationId, Millicredits, Millis, NodeId, WorkspaceId } from '../domain/units.ts';
import type { NodeState } from '../fleet/fleet.ts';
import type { Credits, ListFilter, Page, Upload, UsageGroup, UsageRow } from '../store/store.ts';
import { createAccounts, foundStudio, type NewKeyRequest, type NewWorkspaceRequest } from './accounts.ts';
import { type Attempts, createAttempts } from './attempt.ts';
import { type ModelView, modelNamed, viewModel } from './availability.ts';
import { createBacklog } from './backlog.ts';
import { startRunner } from './batch-runner.ts';
import { type BatchDesk, createBatchDesk } from './batches.ts';
import { startDeadlines } from './deadlines.ts';
import { type FileToServe, fileBehind, keepInput, type Sweeper, startSweeper } from './files.ts';
import { createHub, type Watched, type WatchFilter } from './hub.ts';
import { createOutlook } from './outlook.ts';
import { createRecorder, type Recorder } from './record.ts';
import { recover } from './recovery.ts';
import type { Rooms } from './rooms.ts';
import { startScheduler } from './scheduler.ts';
import { type SenderStats, startSender } from './sender.ts';
import type { Plan } from './settling.ts';
import { type Submitted, submit } from './submit.ts';
import { createViewer } from './view.ts';
import { createHookDesk, type HookDesk } from './webhooks.ts';

export type { NewKeyRequest, NewWorkspaceRequest } from './accounts.ts';
export { hashKey } from './accounts.ts';
export { type ModelView, type RouteView, viewModel } from './availability.ts';
export type { BatchDesk, BatchNow, BatchReport } from './batches.ts';
export type { FileToServe } from './files.ts';
export type { Watched, WatchFilter } from './hub.ts';
export type { Rooms, Settings } from './rooms.ts';
export type { Submitted } from './submit.ts';
export type { HookDesk, NewWebhook, WebhookNow } from './webhooks.ts';

export interface Stats {
  readonly queued: number;
  readonly running: number;
  readonly nodes: readonly NodeState[];
  readonly catalog: CatalogStatus;
  /** Finished since start, per model and status. */
  readonly finished: readonly { readonly model: string; readonly status: Status; readonly count: number }[];
  readonly creditsCharged: Millicredits;
  readonly commits: number;
  readonly webhooks: SenderStats;
  /** Those that have not come to their end, by what holds them up. */
  readonly batches: Readonly<Record<'running' | 'paused' | 'breaker_open', number>>;
}

export interface CancelOptions {
  /** Not if it has begun to run; it comes back as it is then. */
  readonly whileQueued?: true;
}

export interface Gateway {
  /** `hash`: sha256 of the key text, hex. Null: no such key, or expired. */
  authenticate(hash: string): Promise<Caller | null>;
  /** An admin acting in another workspace. Throws GatewayError 'forbidden' (no admin) or 'not_found'. */
  actIn(caller: Caller, workspaceId: WorkspaceId): Promise<Caller>;

  /** Durable before it resolves. Throws GatewayError with the contract's codes; a refused submit leaves nothing behind. */
  submit(caller: Caller, request: GenerationRequest): Promise<Submitted>;
  /** Throws GatewayError('not_found') for foreign ids too. */
  get(caller: Caller, id: GenerationId): Promise<Generation>;
  /** Resolves when final, or after `ms` with the state as it is then. */
  wait(caller: Caller, id: GenerationId, ms: Millis, signal: AbortSignal): Promise<Generation>;
  list(
    caller: Caller,
    filter: Omit<ListFilter, 'workspaceId'>,
    limit: number,
    cursor?: string,
  ): Promise<Page<Generation>>;
  /** Idempotent; a final one comes back unchanged. Answers once committed; the node is cleaned up afterwards. */
  cancel(caller: Caller, id: GenerationId, options?: CancelOptions): Promise<Generation>;
  /** Progress, queue place, estimate and links of a generation now. `baseUrl` without trailing slash. */
  view(g: Generation, baseUrl: string): View;
  /** Replay from `cursor` (exclusive), then live; without one, live only. Throws GatewayError('invalid_request') on an unknown or expired cursor. A consumer that lags beyond its bound loses progress first; if it lags further the iterator throws GatewayError('rate_limited'). */
  watch(filter: WatchFilter, cursor: Cursor | null, signal: AbortSignal): AsyncIterable<Watched>;

  readonly batches: BatchDesk;
  readonly webhooks: HookDesk;

  models(): { readonly data: readonly ModelView[]; readonly catalog: CatalogStatus };
  model(id: string): ModelView;
  credits(caller: Caller): Promise<Credits>;
  readonly usdPerCredit: number;
  usage(
    caller: Caller,
    from: Millis,
    to: Millis,
    group: UsageGroup | null,
  ): Promise<{ readonly data: readonly UsageRow[]; readonly total: UsageRow }>;
  upload(caller: Caller, bytes: Readable, signal: AbortSignal): Promise<Upload>;
  /** Checks the link. Throws GatewayError 'forbidden' (forged, expired) or 'not_found' (swept). */
  file(
    id: GenerationId,
    index: number,
    what: 'output' | 'thumbnail',
    expires: Millis,
    signature: string,
  ): Promise<FileToServe>;

  nodes(): readonly NodeState[];
  addNode(spec: NodeSpec): Promise<NodeState>;
  drainNode(id: NodeId): Promise<NodeState>;
  resumeNode(id: NodeId): Promise<NodeState>;
  removeNode(id: NodeId): Promise<void>;

  createWorkspace(w: NewWorkspaceRequest): Promise<Workspace>;
  workspace(id: WorkspaceId): Promise<Workspace>;
  workspaces(limit: number, cursor?: string): Promise<Page<Workspace>>;
  deleteWorkspace(id: WorkspaceId): Promise<void>;
  /** The key text is in the answer and nowhere else. */
  createKey(workspaceId: WorkspaceId, key: NewKeyRequest): Promise<{ readonly key: Key; readonly secret: string }>;
  keys(workspaceId: WorkspaceId, limit: number, cursor?: string): Promise<Page<Key>>;
  deleteKey(workspaceId: WorkspaceId, keyId: string): Promise<void>;
  grant(workspaceId: WorkspaceId, amount: Millicredits, note: string | null): Promise<Credits>;
  creditsOf(workspaceId: WorkspaceId): Promise<Credits>;

  /** Can something run? With the reason when not. */
  ready(): Promise<{ readonly ok: boolean; readonly reason: string | null }>;
  readonly draining: boolean;
  stats(): Stats;
  /** No new work; running work may finish for `drainMs`, the rest is handed over. Asking and watching go on. Idempotent. */
  stop(): Promise<void>;
}

/** Opens the engine: recovers what a former process left, then schedules. `adminKey` null: whatever key was set up before stands. */
export async function openGateway(rooms: Rooms, adminKey: string | null): Promise<Gateway> {
  const { store, fleet, catalog, media, system, settings } = rooms;
  const { clock, log } = system;
  const backlog = createBacklog(store.generations);
  const meters = new Meters();
  const hub = createHub(store.events);
  const recorder = createRecorder(store, backlog, hub);
  const accounts = createAccounts(rooms, recorder, await foundStudio(rooms, adminKey));
  if (findModel(catalog.current, settings.defaultModel) === undefined) {
    log.warn(
      { default_model: settings.defaultModel },
      'default_model is not in the catalog: requests must name a model',
    );
  }
  await media.recover();
  await backlog.load();
  /** Meters count time on the studio's own boxes; what is hosted costs credits. */
  const meter = (g: Generation, { route }: Plan, ms: Millis) => {
    if (!isHosted(route.backend)) meters.charge(g.workspaceId, ms);
  };
  const attempts: Attempts = createAttempts({
    rooms,
    recorder,
    hub,
    onStart: (g, plan) => meter(g, plan, plan.expectMs),
    onEnd: (g, plan, tookMs) => meter(g, plan, tookMs - plan.expectMs),
  });
  const recovering = new AbortController();
  const recovered = await recover(rooms, recorder, attempts, recovering.signal);
  if (recovered.resumed + recovered.requeued + recovered.waiting > 0) log.info(recovered, 'recovered what was running');
  const workspace = accounts.workspaceOf;
  const runner = await startRunner({ rooms, recorder, attempts, workspace });
  const scheduler = startScheduler({ rooms, recorder, backlog, attempts, meters, workspace, holds: runner.holds });
  const deadlines = startDeadlines(rooms, recorder);
  recorder.onMove((recorded) => {
    if (recorded.some((one) => one.type === 'generation' && isDueSometime(one.generation))) deadlines.wake();
  });
  const sweeper = await startSweeper(rooms);
  const outlook = createOutlook(rooms);
  const view = createViewer({
    rooms,
    recorder,
    backlog,
    attempts,
    outlook,
    batches: runner,
    workspaceNow: accounts.workspaceNow,
    swept: sweeper.swept,
  });
  const sender = await startSender({
    rooms,
    generation: recorder.get,
    async link(g, baseUrl) {
      await sweeper.remember(g);
      return view(g, baseUrl).link(0, 'output');
    },
  });
  recorder.onMove((recorded) => {
    if (recorded.some((one) => one.deliveries > 0)) sender.wake();
  });
  let draining: Promise<void> | null = null;
  let stopping: Promise<void> | null = null;
  const drain = () => {
    recovering.abort();
    draining ??= Promise.all([runner.stop(), scheduler.stop(), deadlines.stop(), sweeper.stop()]).then(() => {});
    return draining;
  };

  const admitting = () => {
    if (draining) throw new GatewayError('shutting_down', 'The gateway is shutting down.', { retryAfterSeconds: 5 });
  };

  const mine = async (caller: Caller, id: GenerationId) => {
    const g = await recorder.get(id);
    if (g === null || g.workspaceId !== caller.workspace.id)
      throw new GatewayError('not_found', `There is no generation ${id}.`);
    await sweeper.remember(g);
    return g;
  };

  return {
    usdPerCredit: settings.usdPerCredit,
    get draining() {
      return draining !== null;
    },
    authenticate: accounts.authenticate,
    actIn: accounts.actIn,
    async submit(caller, request) {
      admitting();
      return submit(rooms, caller, request);
    },
    get: mine,
    wait: (caller, id, ms, signal) =>
      waitFor(
        () => mine(caller, id),
        (wake) => hub.onChange(id, wake),
        rooms,
        ms,
        signal,
      ),
    async list(caller, filter, limit, cursor) {
      const page = await store.generations.list({ ...filter, workspaceId: caller.workspace.id }, limit, cursor);
      for (const g of page.data) await sweeper.remember(g);
      return page;
    },
    async cancel(caller, id, options = {}) {
      return cancel(await mine(caller, id), recorder, attempts, clock.now(), options);
    },
    view,
    watch: (filter, cursor, signal) => remembering(hub.watch(filter, cursor, signal), sweeper),
    batches: createBatchDesk({ rooms, runner, outlook, remember: sweeper.remember, admitting }),
    webhooks: createHookDesk(rooms, sender),
    models: () => ({
      data: [...catalog.current.models.values()].map((m) => viewModel(catalog, fleet, m)),
      catalog: catalog.status,
    }),
    model: (id) => viewModel(catalog, fleet, modelFor(rooms, id)),
    credits: (caller) => store.ledger.credits(caller.workspace.id),
    usage: (caller, from, to, group) => store.ledger.usage(caller.workspace.id, from, to, group),
    upload: (caller, bytes, signal) => keepInput(rooms, caller.workspace.id, bytes, signal),
    file: (id, index, what, expires, signature) => fileBehind(rooms, { id, index, what, expires }, signature),
    nodes: () => fleet.nodes(),
    addNode: (spec) => fleet.add(spec),
    drainNode: (id) => fleet.drain(id),
    resumeNode: (id) => fleet.resume(id),
    removeNode: (id) => fleet.remove(id),
    createWorkspace: accounts.createWorkspace,
    workspace: accounts.workspace,
    workspaces: (limit, cursor) => store.accounts.workspaces(limit, cursor),
    deleteWorkspace: accounts.deleteWorkspace,
    createKey: accounts.createKey,
    keys: (workspaceId, limit, cursor) => store.accounts.keys(workspaceId, limit, cursor),
    deleteKey: accounts.deleteKey,
    grant: accounts.grant,
    async creditsOf(workspaceId) {
      await accounts.workspace(workspaceId);
      return store.ledger.credits(workspaceId);
    },
    async ready() {
      if (draining) return { ok: false, reason: 'shutting down' };
      const usable = [...catalog.current.models.values()].some((m) => viewModel(catalog, fleet, m).usable);
      return { ok: usable, reason: usable ? null : 'no model of the catalog can run on any node or account now' };
    },
    stats: () => ({
      queued: backlog.queued(),
      running: recorder.running(),
      nodes: fleet.nodes(),
      catalog: catalog.status,
      finished: [...recorder.finished].map(([key, count]) => {
        const [model = '', status] = key.split('\n');
        return { model, status: status as Status, count };
      }),
      creditsCharged: recorder.charged,
      commits: store.commits,
      webhooks: sender.stats,
      batches: runner.open(),
    }),
    stop() {
      stopping ??= (async () => {
        await drain();
        if (!(await attempts.idle(settings.drainMs)))
          log.info({ running: attempts.size }, 'handing over what still runs');
        await attempts.stop();
        await sender.stop();
      })();
      return stopping;
    },
  };
}

/** Waits, and may wait too long. */
const isDueSometime = (g: Generation): boolean => g.startBy !== null && g.state.status === 'queued';

const modelFor = (rooms: Rooms, id: string) => {
  try {
    return modelNamed(rooms.catalog, id);
  } catch {
    throw new GatewayError('not_found', `There is no model ${id}.`);
  }
};

/** Cancelling is committed first; the node is cleaned up afterwards and a late picture is thrown away. */
async function cancel(
  g: Generation,
  recorder: Recorder,
  attempts: Attempts,
  at: Millis,
  { whileQueued }: CancelOptions,
): Promise<Generation> {
  const why = failure('cancelled_by_caller', 'It was cancelled on request.');
  const event = { type: 'cancelled', at, failure: why } as const;
  if (whileQueued) return cancelQueued(g, event, recorder);
  const result = await recorder.insist(g.id, event);
  if (result === null) throw new GatewayError('not_found', `There is no generation ${g.id}.`);
  if (result.moved) attempts.abort(g.id, new GatewayError(why));
  return result.generation;
}

/** Whoever starts it first wins. */
async function cancelQueued(g: Generation, event: GenerationEvent, recorder: Recorder): Promise<Generation> {
  let now = g;
  while (now.state.status === 'queued') {
    const next = await recorder.append(now, event);
    if (next !== null) return next;
    now = (await recorder.get(g.id)) ?? now;
  }
  return now;
}

/** The generation once it is final, or as it is after `ms`. */
async function waitFor(
  get: () => Promise<Generation>,
  listen: (wake: () => void) => Disposable,
  { system }: Rooms,
  ms: Millis,
  signal: AbortSignal,
): Promise<Generation> {
  const over = new AbortController();
  using _timer = system.clock.timer(ms, () => over.abort());
  const either = AbortSignal.any([signal, over.signal]);
  for (;;) {
    const changed = Promise.withResolvers<void>();
    using _listening = listen(changed.resolve);
    const g = await get();
    if (isFinal(g) || either.aborted) return g;
    const stop = () => changed.resolve();
    either.addEventListener('abort', stop, { once: true });
    await changed.promise;
    either.removeEventListener('abort', stop);
  }
}

/** Replayed successes may be of files that were swept since. */
async function* remembering(source: AsyncIterable<Watched>, sweeper: Sweeper): AsyncIterable<Watched> {
  for await (const watched of source) {
    if (watched.type === 'event') await sweeper.remember(watched.generation);
    yield watched;
  }
}

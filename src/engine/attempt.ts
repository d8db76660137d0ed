// One attempt: a running generation on one node, from the first byte sent to its settling event. Deadline, cancel, node
// loss and shutdown are one AbortSignal whose reason is a GatewayError. The slot is given back when the render ends;
// fetching, verifying and thumbnailing overlap the next render.

import { type Connection, type Job, Refusal } from '../backends/backend.ts';
import { recipeFor } from '../catalog/catalog.ts';
import { FAILURES, type Failure, GatewayError, toFailure } from '../domain/failure.ts';
import type { Generation, Output, RemoteRef } from '../domain/generation.ts';
import type { Model, Route } from '../domain/model.ts';
import { matches } from '../domain/node.ts';
import { seedOfOutput } from '../domain/params.ts';
import { settle } from '../domain/retry.ts';
import { type GenerationId, type Millis, type NodeId, toTimestamp } from '../domain/units.ts';
import type { Slot } from '../fleet/fleet.ts';
import type { Ingested, Provenance } from '../media/media.ts';
import type { Hub } from './hub.ts';
import { openInputs } from './inputs.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

/** Where and as what an attempt runs. */
export interface Plan {
  readonly node: NodeId;
  readonly model: Model;
  readonly route: Route;
  readonly residency: string;
  readonly warm: boolean;
  readonly expectMs: Millis;
}

export interface Progress {
  readonly fraction: number;
  readonly message: string;
}

/** An attempt under way. */
export interface Running {
  readonly plan: Plan;
  readonly startedAt: Millis;
  readonly progress: Progress;
}

export interface Attempts {
  start(g: Generation, slot: Slot, plan: Plan, resume?: RemoteRef): void;
  get(id: GenerationId): Running | undefined;
  /** Breaks an attempt off; its node is cleaned up behind it. */
  abort(id: GenerationId, why: GatewayError): void;
  /** Resolves when no attempt is left, or after `ms`. */
  idle(ms: Millis): Promise<boolean>;
  stop(): Promise<void>;
  readonly size: number;
}

export interface AttemptsOptions {
  readonly rooms: Rooms;
  readonly recorder: Recorder;
  readonly hub: Hub;
  /** The node time an attempt really took, against what was expected of it. */
  readonly onEnd: (g: Generation, plan: Plan, tookMs: Millis) => void;
}

const DOWNLOAD_TRIES = 3;
const CLEAN_UP_MS = 30_000;
const STARTING: Progress = { fraction: 0, message: 'starting' };

/** The generation moved on without us (it was cancelled); whatever we hold is thrown away. */
class MovedOn extends Error {}

interface Live {
  readonly plan: Plan;
  readonly startedAt: Millis;
  readonly controller: AbortController;
  progress: Progress;
  done: Promise<void>;
}

export function createAttempts({ rooms, recorder, hub, onEnd }: AttemptsOptions): Attempts {
  const { clock, random, log } = rooms.system;
  const live = new Map<GenerationId, Live>();

  /** Runs to the settling event. Never rejects. */
  const run = async (first: Generation, slot: Slot, plan: Plan, mine: Live, resume?: RemoteRef) => {
    const { signal } = mine.controller;
    using _slot = slot;
    using _deadline = clock.timer(Math.max(0, mine.startedAt + first.runWithinMs - clock.now()), () =>
      mine.controller.abort(
        new GatewayError(
          'run_timeout',
          `It ran longer than the ${Math.round(first.runWithinMs / 1000)} s it was given.`,
        ),
      ),
    );
    const tale = createTale(first, resume ?? null);
    try {
      const connection = rooms.fleet.connection(plan.node);
      if (connection === undefined) throw new GatewayError('node_lost', `Node ${plan.node} is gone.`);
      tale.connection = connection;
      const job = await workOrder(first, plan, signal);
      const events = resume === undefined ? connection.run(job, signal) : connection.resume(job, resume, signal);
      for await (const event of abortable(events, signal)) {
        switch (event.type) {
          case 'intent':
          case 'accepted':
            await noteRemote(tale, event.remote);
            break;
          case 'progress':
            mine.progress = {
              fraction: Math.max(mine.progress.fraction, Math.min(1, event.fraction)),
              message: event.message,
            };
            hub.progress({
              type: 'progress',
              id: first.id,
              workspaceId: first.workspaceId,
              batchId: first.batchId,
              ...mine.progress,
            });
            break;
          case 'warning':
            tale.warnings.push(event.message);
            break;
          case 'rendered':
            rendered(tale, slot, plan, mine);
            break;
          case 'file':
            tale.files.push(settled(ingest(tale.g, plan, event.file.open, signal)));
            break;
          case 'preview':
            break;
        }
      }
      rendered(tale, slot, plan, mine);
      await succeed(tale, mine);
    } catch (thrown) {
      await fail(tale, plan, mine, signal.aborted ? signal.reason : thrown);
    }
  };

  const rendered = (tale: Tale, slot: Slot, plan: Plan, mine: Live) => {
    if (tale.renderMs !== null) return;
    tale.renderMs = clock.now() - mine.startedAt;
    slot.release();
    if (tale.resumed) return; // how long it took before we came is not known
    rooms.fleet.learned(plan.node, {
      residency: plan.residency,
      warm: plan.warm,
      renderMs: tale.renderMs,
      failure: null,
    });
  };

  const noteRemote = async (tale: Tale, remote: RemoteRef) => {
    if (tale.remote !== null && JSON.stringify(tale.remote) === JSON.stringify(remote)) return;
    tale.remote = remote;
    const next = await recorder.append(tale.g, { type: 'submitted_to_node', at: clock.now(), remote });
    if (next === null) throw new MovedOn();
    tale.g = next;
  };

  const workOrder = async (g: Generation, plan: Plan, signal: AbortSignal): Promise<Job> => ({
    id: g.id,
    attempt: g.state.status === 'running' ? g.state.attempt : 1,
    kind: g.kind,
    route: plan.route,
    recipe: recipeFor(rooms.catalog.current, plan.route, g.params),
    params: g.params,
    files: await openInputs(rooms, g.params, signal),
    previews: false,
  });

  /** A broken download is repeated; it never renders again. */
  const ingest = async (
    g: Generation,
    plan: Plan,
    open: Parameters<Rooms['media']['ingest']>[0],
    signal: AbortSignal,
  ): Promise<Ingested> => {
    const provenance = await provenanceOf(g, plan);
    for (let attempt = 1; ; attempt++) {
      try {
        return await rooms.media.ingest(open, { signal, expect: g.kind, output: g.params.output, provenance });
      } catch (error) {
        if (signal.aborted || attempt >= DOWNLOAD_TRIES || toFailure(error).code !== 'node_lost') throw error;
        await clock.sleep(250 * 2 ** attempt, signal);
      }
    }
  };

  const provenanceOf = async (g: Generation, plan: Plan): Promise<Provenance | null> => {
    const workspace = await rooms.store.accounts.workspace(g.workspaceId);
    if (!rooms.settings.provenance || workspace?.provenance === false) return null;
    const recipe = recipeFor(rooms.catalog.current, plan.route, g.params);
    const { prompt, negativePrompt, seed, steps, guidance } = g.params;
    return {
      generation: g.id,
      model: plan.model.id,
      prompt,
      negativePrompt,
      seed,
      steps,
      guidance,
      node: plan.node,
      workflowHash: recipe?.hash ?? null,
      createdAt: toTimestamp(clock.now()),
      software: rooms.settings.software,
    };
  };

  const succeed = async (tale: Tale, mine: Live) => {
    const stored = await Promise.all(tale.files.map(async (file) => unwrap(await file)));
    if (stored.length === 0) throw new GatewayError('model_error', 'The node finished without an output.');
    const at = clock.now();
    const outputs = stored.map(
      (file, index): Output => ({
        ...file,
        index,
        seed: seedOfOutput(tale.g.params.seed, index),
        expiresAt: at + rooms.settings.linkMs,
      }),
    );
    const nodeMs = tale.renderMs ?? at - mine.startedAt;
    await recorder.append(tale.g, { type: 'succeeded', at, outputs, nodeMs, warnings: tale.warnings });
  };

  const fail = async (tale: Tale, plan: Plan, mine: Live, thrown: unknown) => {
    const why = thrown instanceof MovedOn ? null : toFailure(thrown);
    const resumable = why?.code === 'shutting_down' && tale.remote !== null && tale.connection?.resumable === true;
    if (resumable) return; // stays running in the store: the next gateway takes it up by its reference
    if (why !== null) {
      logFailure(tale.g, plan, why, thrown);
      await settleFailure(tale, plan, mine, why, thrown instanceof Refusal);
    }
    await cleanUp(tale, why);
  };

  const settleFailure = async (tale: Tale, plan: Plan, mine: Live, why: Failure, refused: boolean) => {
    const ours = mine.controller.signal.aborted && FAILURES[why.code].blame !== 'node';
    if (tale.renderMs === null && !ours) {
      rooms.fleet.learned(plan.node, {
        residency: plan.residency,
        warm: plan.warm,
        renderMs: null,
        failure: refused ? null : why,
      });
    }
    const { g } = tale;
    if ((await recorder.get(g.id))?.seq !== g.seq) return;
    const elsewhere = rooms.fleet
      .views()
      .some(
        (n) =>
          n.id !== plan.node &&
          !g.avoid.includes(n.id) &&
          n.status === 'online' &&
          plan.model.routes.some((r) => matches(n, r)),
      );
    await recorder.append(g, settle(g, why, { now: clock.now(), elsewhere, refused, chance: random.fraction() }));
  };

  /** After a break-off the node may still be at it: make sure it is not, before the slot is used again. */
  const cleanUp = async (tale: Tale, why: Failure | null) => {
    if (tale.remote === null || tale.connection === undefined || tale.renderMs !== null) return;
    if (why !== null && (why.code === 'model_error' || why.code === 'out_of_memory' || why.code === 'safety_filter'))
      return;
    try {
      await tale.connection.cancel(tale.remote, AbortSignal.timeout(CLEAN_UP_MS));
    } catch (error) {
      log.warn({ err: error, generation: tale.g.id }, 'could not confirm that the node stopped');
    }
  };

  const logFailure = (g: Generation, plan: Plan, why: Failure, thrown: unknown) => {
    const quiet = why.code.startsWith('cancelled') || why.code === 'shutting_down';
    const fields = { generation: g.id, node: plan.node, code: why.code, reason: why.message };
    if (why.code === 'internal') log.error({ ...fields, err: thrown }, 'attempt failed on a fault of ours');
    else if (quiet) log.info(fields, 'attempt stopped');
    else log.warn({ ...fields, err: (thrown as Error).cause }, 'attempt failed');
  };

  return {
    get size() {
      return live.size;
    },
    get: (id) => live.get(id),
    abort: (id, why) => live.get(id)?.controller.abort(why),
    start(g, slot, plan, resume) {
      const startedAt = g.state.status === 'running' ? g.state.startedAt : clock.now();
      const mine: Live = {
        plan,
        startedAt,
        controller: new AbortController(),
        progress: STARTING,
        done: Promise.resolve(),
      };
      live.set(g.id, mine);
      mine.done = run(g, slot, plan, mine, resume)
        .catch((error) => log.error({ err: error, generation: g.id }, 'attempt could not be settled'))
        .finally(() => {
          if (live.get(g.id) === mine) live.delete(g.id);
          onEnd(g, plan, clock.now() - startedAt);
        });
    },
    async idle(ms) {
      const over = clock.sleep(ms).then(() => false);
      return await Promise.race([over, Promise.all([...live.values()].map((l) => l.done)).then(() => true)]);
    },
    async stop() {
      const all = [...live.values()];
      for (const l of all) l.controller.abort(new GatewayError('shutting_down', 'The gateway is shutting down.'));
      await Promise.all(all.map((l) => l.done));
    },
  };
}

/** What an attempt has so far. */
interface Tale {
  g: Generation;
  /** Taken up after a restart. */
  readonly resumed: boolean;
  remote: RemoteRef | null;
  connection: Connection | undefined;
  renderMs: Millis | null;
  readonly files: Promise<PromiseSettledResult<Ingested>>[];
  readonly warnings: string[];
}

const createTale = (g: Generation, remote: RemoteRef | null): Tale => ({
  g,
  resumed: remote !== null,
  remote,
  connection: undefined,
  renderMs: null,
  files: [],
  warnings: [],
});

/** A promise that never rejects, so that one started early cannot go unhandled. */
const settled = async <T>(promise: Promise<T>): Promise<PromiseSettledResult<T>> => {
  const [result] = await Promise.allSettled([promise]);
  return result as PromiseSettledResult<T>;
};

function unwrap<T>(result: PromiseSettledResult<T>): T {
  if (result.status === 'rejected') throw result.reason;
  return result.value;
}

/** Ends the iteration at once when aborted, even if the source does not notice. */
async function* abortable<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  const aborted = Promise.withResolvers<never>();
  aborted.promise.catch(() => {});
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    for (;;) {
      const next = await Promise.race([iterator.next(), aborted.promise]);
      if (next.done) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    void Promise.resolve(iterator.return?.()).catch(() => {});
  }
}

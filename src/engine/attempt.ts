// One attempt: a running generation on one node, from the first byte sent to its settling event. Deadline, cancel, node
// loss and shutdown are one AbortSignal whose reason is a GatewayError. The slot is given back when the render ends;
// fetching, verifying and thumbnailing overlap the next render.

import type { Job, RemoteFile } from '../backends/backend.ts';
import { recipeFor } from '../catalog/catalog.ts';
import { GatewayError, toFailure } from '../domain/failure.ts';
import type { Generation, Output, RemoteRef } from '../domain/generation.ts';
import { seedOfOutput } from '../domain/params.ts';
import { type GenerationId, type Millis, toTimestamp } from '../domain/units.ts';
import type { Slot } from '../fleet/fleet.ts';
import type { Ingested, Provenance } from '../media/media.ts';
import { abortable, settled, unwrap } from './abortable.ts';
import type { Hub } from './hub.ts';
import { openInputs } from './inputs.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';
import { createSettling, createTale, MovedOn, type Plan, type Tale } from './settling.ts';

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
  /** It holds a node from now on. */
  readonly onStart: (g: Generation, plan: Plan) => void;
  /** The node time an attempt really took, against what was expected of it. */
  readonly onEnd: (g: Generation, plan: Plan, tookMs: Millis) => void;
}

const DOWNLOAD_TRIES = 3;
/** What is paid for is tried for so long: file hosts have their bad minutes. */
const DOWNLOAD_MS = 60_000;
const LONGEST_DOWNLOAD_PAUSE_MS = 15_000;
/** As many as a request may ask for. */
const MAX_OUTPUTS = 8;
/** What is paid for is asked after at least this long once we are back, however long we were away. */
const RESUMED_MS = 60_000;
const STARTING: Progress = { fraction: 0, message: 'starting' };

interface Live {
  readonly plan: Plan;
  readonly startedAt: Millis;
  /** On the monotonic clock, which no one sets back. */
  readonly begunAt: Millis;
  readonly controller: AbortController;
  progress: Progress;
  done: Promise<void>;
}

export function createAttempts({ rooms, recorder, hub, onStart, onEnd }: AttemptsOptions): Attempts {
  const { clock, log } = rooms.system;
  const settling = createSettling(rooms, recorder);
  const live = new Map<GenerationId, Live>();
  let stopped = false;

  /** Runs to the settling event. Never rejects. */
  const run = async (first: Generation, slot: Slot, plan: Plan, mine: Live, resume?: RemoteRef) => {
    const { signal } = mine.controller;
    using _slot = slot;
    const connection = rooms.fleet.connection(plan.node);
    const atLeast = resume !== undefined && connection?.paid === true ? RESUMED_MS : 0;
    using _deadline = clock.timer(Math.max(atLeast, mine.startedAt + first.runWithinMs - clock.now()), () =>
      mine.controller.abort(
        new GatewayError(
          'run_timeout',
          `It ran longer than the ${Math.round(first.runWithinMs / 1000)} s it was given.`,
        ),
      ),
    );
    const tale = createTale(first, resume ?? null);
    try {
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
              fraction: Math.max(mine.progress.fraction, Math.min(1, Math.round(event.fraction * 1000) / 1000)),
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
          case 'trouble':
            if (event.failure !== null && tale.trouble === null) settling.warn(tale, plan, event.failure);
            tale.trouble = event.failure;
            break;
          case 'warning':
            tale.warnings.push(event.message);
            break;
          case 'rendered':
            rendered(tale, slot, plan, mine);
            break;
          case 'file':
            if (tale.files.length >= MAX_OUTPUTS) tooMany(tale);
            else tale.files.push({ seed: event.file.seed, stored: settled(ingest(tale.g, plan, event.file, signal)) });
            break;
          case 'preview':
            break;
        }
      }
      rendered(tale, slot, plan, mine);
      await succeed(tale, signal, tale.renderMs ?? 0);
    } catch (thrown) {
      if (await salvaged(tale, mine)) return;
      await settling.failed(tale, plan, signal.aborted, signal.aborted ? signal.reason : thrown);
    }
  };

  const rendered = (tale: Tale, slot: Slot, plan: Plan, mine: Live) => {
    if (tale.renderMs !== null) return;
    tale.renderMs = Math.max(0, clock.monotonic() - mine.begunAt);
    slot.release();
    if (tale.resumed) return; // how long it took before we came is not known
    rooms.fleet.learned(plan.node, {
      residency: plan.residency,
      warm: plan.warm,
      renderMs: tale.renderMs,
      failure: null,
    });
  };

  /** More files than a generation can have: a graph that saves everything, or a node that lies. */
  const tooMany = (tale: Tale) => {
    const message = `The node made more than ${MAX_OUTPUTS} files; the rest was left there.`;
    if (!tale.warnings.includes(message)) tale.warnings.push(message);
  };

  const noteRemote = async (tale: Tale, remote: RemoteRef) => {
    if (tale.remote !== null && JSON.stringify(tale.remote) === JSON.stringify(remote)) return;
    tale.remote = remote;
    const next = await settling.append(tale.g, { type: 'submitted_to_node', at: clock.now(), remote });
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
    files: await openInputs(rooms, g, signal),
    previews: false,
  });

  /** A broken download is repeated; it never renders again. */
  const ingest = async (g: Generation, plan: Plan, file: RemoteFile, signal: AbortSignal): Promise<Ingested> => {
    const provenance = await provenanceOf(g, plan);
    const expect = file.mediaType === 'text/plain' ? 'text' : g.kind;
    const until = rooms.fleet.connection(plan.node)?.paid === true ? clock.monotonic() + DOWNLOAD_MS : 0;
    for (let attempt = 1; ; attempt++) {
      try {
        return await rooms.media.ingest(file.open, { signal, expect, output: g.params.output, provenance });
      } catch (error) {
        const enough = attempt >= DOWNLOAD_TRIES && clock.monotonic() >= until;
        if (signal.aborted || enough || toFailure(error).code !== 'node_lost') throw error;
        await clock.sleep(Math.min(LONGEST_DOWNLOAD_PAUSE_MS, 250 * 2 ** attempt), signal);
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
      model: g.model,
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

  const succeed = async (tale: Tale, signal: AbortSignal, nodeMs: Millis) => {
    const all = await Promise.all(
      tale.files.map(async ({ seed, stored }, k) => ({
        seed: seed ?? seedOfOutput(tale.g.params.seed, k),
        stored: await stored,
      })),
    );
    const kept = all.filter(({ stored }) => stored.status === 'fulfilled');
    const missing = all.length - kept.length;
    if (missing > 0 && (kept.length === 0 || !keeps(tale, signal))) for (const { stored } of all) unwrap(stored);
    if (kept.length === 0) throw new GatewayError('model_error', 'The node finished without an output.');
    if (missing > 0) tale.warnings.push(`${missing} of the ${all.length} files made could not be fetched`);
    const at = clock.now();
    const seeds = Array.from({ length: MAX_OUTPUTS }, (_, k) => seedOfOutput(tale.g.params.seed, k));
    const inOrder = kept.toSorted((a, b) => seeds.indexOf(a.seed) - seeds.indexOf(b.seed));
    const outputs = inOrder.map(
      ({ seed, stored }, index): Output => ({
        ...unwrap(stored),
        index,
        seed,
        expiresAt: at + rooms.settings.linkMs,
      }),
    );
    await settling.append(tale.g, { type: 'succeeded', at, outputs, nodeMs, warnings: tale.warnings });
  };

  /** What is paid for is not thrown away for the sake of a file that cannot be had, nor because time is up. */
  const keeps = ({ connection }: Tale, signal: AbortSignal): boolean =>
    connection?.paid === true && (!signal.aborted || toFailure(signal.reason).code === 'run_timeout');

  /** At the deadline, what was paid for and is there by then is delivered, and the rest is stopped. */
  const salvaged = async (tale: Tale, { controller: { signal }, begunAt }: Live): Promise<boolean> => {
    if (!signal.aborted || tale.renderMs !== null || !keeps(tale, signal)) return false;
    const stored = await Promise.all(tale.files.map((file) => file.stored));
    if (stored.every(({ status }) => status === 'rejected')) return false;
    const { n } = tale.g.params;
    const missing = n - stored.length;
    const are = missing === 1 ? 'is' : 'are';
    if (missing > 0) tale.warnings.push(`${missing} of the ${n} pictures ${are} missing: time was up`);
    await succeed(tale, signal, clock.monotonic() - begunAt);
    await settling.cleanUp(tale);
    return true;
  };

  return {
    get size() {
      return live.size;
    },
    get: (id) => live.get(id),
    abort: (id, why) => live.get(id)?.controller.abort(why),
    start(g, slot, plan, resume) {
      if (stopped) return slot[Symbol.dispose](); // it stays running in the store: the next start takes it up
      onStart(g, plan);
      const startedAt = g.state.status === 'running' ? g.state.startedAt : clock.now();
      const mine: Live = {
        plan,
        startedAt,
        // taken up after a restart: what the wall clock says it has been at it
        begunAt: clock.monotonic() - Math.max(0, clock.now() - startedAt),
        controller: new AbortController(),
        progress: STARTING,
        done: Promise.resolve(),
      };
      live.set(g.id, mine);
      mine.done = run(g, slot, plan, mine, resume)
        .catch((error) => log.error({ err: error, generation: g.id }, 'attempt could not be settled'))
        .finally(() => {
          if (live.get(g.id) === mine) live.delete(g.id);
          onEnd(g, plan, clock.monotonic() - mine.begunAt);
        });
    },
    async idle(ms) {
      const done = new AbortController();
      const over = clock.sleep(ms, done.signal).then(
        () => false,
        () => true,
      );
      const idle = Promise.all([...live.values()].map((l) => l.done)).then(() => true);
      const was = await Promise.race([over, idle]);
      done.abort();
      return was;
    },
    async stop() {
      const all = [...live.values()];
      stopped = true;
      settling.stop();
      for (const l of all) l.controller.abort(new GatewayError('shutting_down', 'The gateway is shutting down.'));
      await Promise.all(all.map((l) => l.done));
    },
  };
}

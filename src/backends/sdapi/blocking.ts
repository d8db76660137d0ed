// Jobs on servers whose one request *is* the job: nothing comes back until the picture is done, hanging up does not stop
// it, and interrupting stops whatever runs. So a request once sent is held to its end whoever still wants it: that is
// the only way to know when the server is free, and which work an interrupt would hit. What nobody wants is discarded.

import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import type { RemoteRef } from '../../domain/generation.ts';
import type { Bytes, Millis } from '../../domain/units.ts';
import type { HttpResponse, System } from '../../system/system.ts';
import type { Job, RunEvent } from '../backend.ts';
import { withPictures } from './body.ts';
import { faultOf } from './faults.ts';
import type { Installed } from './installed.ts';
import { createLane } from './lane.ts';
import {
  type Expected,
  isBusy,
  isProbablyOurs,
  lookAtServer,
  lookAtTask,
  type Running,
  tellPreview,
  tellProgress,
} from './progress.ts';
import type { Shelf } from './shelf.ts';
import { compare, type Order, orderOf, parseInfo, webRequest } from './translate.ts';
import { type Body, isAmbiguous, json, type Wire, within } from './wire.ts';

export interface Blocking {
  run(job: Job, installed: Installed, signal: AbortSignal): AsyncGenerator<RunEvent, void, void>;
  cancel(remote: RemoteRef, installed: Installed, signal: AbortSignal): Promise<void>;
  /** Does the server work on something that is not ours? */
  worksForOthers(signal: AbortSignal): Promise<boolean>;
  close(): void;
}

export interface BlockingOptions {
  readonly system: System;
  readonly wire: Wire;
  readonly shelf: Shelf;
  /** The server will fail every job from here on. */
  readonly onPoisoned: (why: string) => Promise<void>;
}

/** A request on its way. */
interface Shot {
  readonly task: string;
  readonly expected: Expected;
  /** Rejects when the connection broke. */
  readonly outcome: Promise<Settled>;
  /** Aborted when `outcome` is settled. */
  readonly over: AbortSignal;
}

interface Settled {
  readonly response: HttpResponse;
  /** What the server said of itself right after. */
  readonly after: Running | null;
}

const POLL_MS: Millis = 1_000;
/** The engine's own limit ends a run long before. */
const LONGEST_MS: Millis = 6 * 60 * 60_000;
const MAX_ANSWER: Bytes = 1024 * 1024 * 1024;
/** How long a broken-off job may go on before the node is given up on for now. */
const REST_MS: Millis = 10 * 60_000;

const Remote = z.object({ task: z.string(), session: z.string() });
const Answer = z.object({ images: z.array(z.string()), info: z.string().nullish() });
const Upscaled = z.object({ image: z.string() }).transform(({ image }) => ({ images: [image], info: null }));

export function createBlocking({ system, wire, shelf, onPoisoned }: BlockingOptions): Blocking {
  const { clock } = system;
  const lane = createLane();
  const closing = new AbortController();
  const session = system.random.uuid();
  const shots = new Map<string, Shot>();
  /** Tasks whose connection broke: the server may still be at them. */
  const adrift = new Set<string>();
  /** Time stamp of a failed job that the server goes on showing as if it ran. */
  let ghost: string | null = null;

  async function* run(job: Job, installed: Installed, signal: AbortSignal): AsyncGenerator<RunEvent, void, void> {
    const order = orderOf(job, installed);
    if (order.loras.length > 0 && installed.loras === null) {
      yield { type: 'warning', message: 'The node does not tell which LoRAs it has; an unknown one has no effect.' };
    }
    const task = `${job.id}-${job.attempt}`;
    const remote = { task, session };
    yield { type: 'intent', remote };
    const shot = yield* shoot(task, job, order, installed, signal);
    try {
      yield { type: 'accepted', remote };
      yield* watch(shot, job, installed, signal);
      const { response, after } = await shot.outcome;
      signal.throwIfAborted();
      if (after?.state.interrupted || after?.state.skipped) {
        throw new GatewayError('node_lost', 'The run was interrupted on the node.');
      }
      if (!response.ok) throw await failed(task, response, signal);
      yield { type: 'rendered' };
      yield* deliver(response, job, order, signal);
    } finally {
      void shot.outcome.then(({ response }) => response.discard()).catch(() => undefined);
    }
  }

  /** Waits for its turn and for the server to be at rest, then sends. */
  async function* shoot(task: string, job: Job, order: Order, installed: Installed, signal: AbortSignal) {
    const place = await lane.enter(signal);
    let shot: Shot | null = null;
    try {
      yield* rest(signal);
      const running = await lookAtServer(wire, signal);
      const before = isBusy(running, ghost) ? (running?.state.job_timestamp ?? null) : null;
      const { path, fields, pictures } = webRequest(job, order, installed, task);
      const body = await withPictures(fields, pictures);
      signal.throwIfAborted();
      shot = fire(task, path, body, { steps: order.steps, n: job.params.n, before }, place);
      return shot;
    } finally {
      if (!shot) place[Symbol.dispose]();
    }
  }

  const fire = (task: string, path: string, post: Body, expected: Expected, place: Disposable): Shot => {
    const over = new AbortController();
    const conclude = async (): Promise<Settled> => {
      try {
        const how = { signal: closing.signal, post, timeoutMs: LONGEST_MS, maxBytes: MAX_ANSWER };
        const response = await wire.ask(path, how);
        const after = await lookAtServer(wire, closing.signal).catch(() => null);
        ghost = !response.ok && isBusy(after, null) ? (after?.state.job_timestamp ?? null) : null;
        return { response, after };
      } catch (error) {
        if (isAmbiguous(error)) adrift.add(task);
        throw error;
      } finally {
        shots.delete(task);
        place[Symbol.dispose]();
        over.abort();
      }
    };
    const shot = { task, expected, outcome: conclude(), over: over.signal };
    shot.outcome.catch(() => undefined);
    shots.set(task, shot);
    return shot;
  };

  /** Tells progress until the request is answered. Never rejects for a failed look. */
  async function* watch(shot: Shot, job: Job, { tasks }: Installed, signal: AbortSignal) {
    let furthest = 0;
    let preview = job.previews ? -1 : null;
    while (!(await within(shot.over, POLL_MS, clock, signal))) {
      const seen = await observe(shot, tasks, preview, AbortSignal.any([signal, shot.over])).catch(() => null);
      signal.throwIfAborted();
      if (seen === null) continue;
      const progress = tellProgress(seen.progress, shot.expected);
      if (progress.type === 'progress' && progress.fraction >= furthest) {
        furthest = progress.fraction;
        yield progress;
      }
      const picture = tellPreview(seen.picture);
      if (picture) yield picture;
      preview = seen.preview ?? preview;
    }
  }

  /** Null while our job is not the one that runs. */
  const observe = async (shot: Shot, tasks: boolean, preview: number | null, signal: AbortSignal) => {
    if (tasks) {
      const task = await lookAtTask(wire, shot.task, signal, preview);
      if (!task?.active) return null;
      return { progress: task.progress ?? 0, picture: task.live_preview, preview: task.id_live_preview };
    }
    const running = await lookAtServer(wire, signal, preview !== null);
    if (!running || !isBusy(running, ghost) || !isProbablyOurs(running, shot.expected)) return null;
    return { progress: running.progress, picture: running.current_image, preview: null };
  };

  const failed = async (task: string, response: HttpResponse, signal: AbortSignal): Promise<GatewayError> => {
    const body = await shelf.harvest(response.stream(), signal).then(
      (harvest) => harvest.body,
      () => null,
    );
    const { error, poisoned, unsettled } = faultOf(response.status, body, response.header('retry-after'));
    if (unsettled) adrift.add(task);
    if (poisoned) await onPoisoned(poisoned);
    return error;
  };

  async function* deliver(response: HttpResponse, job: Job, order: Order, signal: AbortSignal) {
    const { body, picture } = await shelf.harvest(response.stream(), signal);
    const parsed = (order.work === 'upscale' ? Upscaled : Answer).safeParse(body);
    if (!parsed.success) throw new GatewayError('node_lost', 'The node sent an answer that cannot be read.');
    const info = parseInfo(parsed.data.info ?? '');
    compare(info, order, job);
    const wanted = order.work === 'upscale' ? 1 : job.params.n;
    const first = info.index_of_first_image ?? 0;
    const files = parsed.data.images.slice(first, first + wanted).flatMap((name) => picture(name) ?? []);
    if (files.length === 0) throw new GatewayError('model_error', 'The node finished without an output.');
    if (files.length < wanted) throw new GatewayError('node_lost', 'The node stopped before all pictures were made.');
    for (const file of files) yield { type: 'file', file } as const;
  }

  /** Returns once nothing of ours can be running on the server any more. */
  async function* rest(signal: AbortSignal): AsyncGenerator<RunEvent, void, void> {
    const since = clock.monotonic();
    for (let idle = 0; adrift.size > 0; ) {
      idle = isBusy(await lookAtServer(wire, signal), ghost) ? 0 : idle + 1;
      if (idle === 2) return adrift.clear();
      if (clock.monotonic() - since > REST_MS) {
        throw new GatewayError('node_lost', 'The node is still busy with work that was broken off.');
      }
      yield { type: 'progress', fraction: 0, message: 'waiting for the node to come to rest' };
      await clock.sleep(POLL_MS, signal);
    }
  }

  const interrupt = async (signal: AbortSignal) =>
    (await wire.ask('/sdapi/v1/interrupt', { signal, post: json({}) })).discard();

  /** Interrupts only while our own request is the one that runs; again and again, since an early one is lost. */
  const stop = async (shot: Shot, { tasks }: Installed, signal: AbortSignal) => {
    do {
      const running = await observe(shot, tasks, null, AbortSignal.any([signal, shot.over])).catch(() => null);
      if (running && !shot.over.aborted) await interrupt(signal);
    } while (!(await within(shot.over, POLL_MS, clock, signal)));
  };

  /** The same for work whose request is gone: only its task id tells that it is ours. */
  const stopAdrift = async (task: string, { tasks }: Installed, signal: AbortSignal) => {
    adrift.add(task);
    for await (const _ of rest(signal)) {
      const mine = tasks ? await lookAtTask(wire, task, signal) : null;
      if (mine?.active) await interrupt(signal);
    }
  };

  return {
    run,
    async cancel(remote, installed, signal) {
      const { success, data } = Remote.safeParse(remote);
      if (!success) return;
      const shot = shots.get(data.task);
      if (shot) await stop(shot, installed, signal);
      else if (data.session !== session || adrift.has(data.task)) await stopAdrift(data.task, installed, signal);
    },
    async worksForOthers(signal) {
      return shots.size === 0 && isBusy(await lookAtServer(wire, signal), ghost);
    },
    close: () => closing.abort(new GatewayError('shutting_down', 'The connection was closed.')),
  };
}

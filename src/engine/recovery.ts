// After a restart: generations the store calls running are taken up again by their reference where the node can still
// have them, and put back in the queue with their attempt number where it cannot. Nothing is rendered twice for it.

import { modelIn, wasAsked } from '../backends/backend.ts';
import { findModel } from '../catalog/catalog.ts';
import type { GenerationEvent } from '../domain/event.ts';
import type { Generation } from '../domain/generation.ts';
import { laneOf } from '../domain/lane.ts';
import { type BackendKind, isHosted, type Route, residencyKey } from '../domain/model.ts';
import { matches, type NodeSpec } from '../domain/node.ts';
import { abandoned, orphaned } from '../domain/retry.ts';
import type { Millis } from '../domain/units.ts';
import type { Attempts } from './attempt.ts';
import { needsOf } from './availability.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

/** How long nodes that have not answered may still tell what they kept. */
const LATE_PROBE_MS = 12_000;
const RETRY_MS = 1_000;
const CLEAN_UP_MS = 30_000;

export interface Recovered {
  readonly resumed: number;
  readonly requeued: number;
  /** Their node has not answered yet; decided when it has, or is certainly down. */
  readonly waiting: number;
}

export async function recover(
  rooms: Rooms,
  recorder: Recorder,
  attempts: Attempts,
  signal: AbortSignal,
): Promise<Recovered> {
  const count = { resumed: 0, requeued: 0, waiting: 0 };
  const running = await rooms.store.generations.running();
  for (const g of running) recorder.adopt(g);
  const undecided: Generation[] = [];
  for (const g of running) {
    if (resume(rooms, attempts, g)) count.resumed++;
    else if (mayStillTell(rooms, g)) undecided.push(g);
    else {
      await recorder.append(g, unresumed(g, rooms.system.clock.now()));
      count.requeued++;
    }
  }
  count.waiting = undecided.length;
  if (undecided.length > 0) {
    decideLater(rooms, recorder, attempts, undecided, signal).catch((error: unknown) => {
      if (!signal.aborted) rooms.system.log.error({ err: error }, 'recovery broke off');
    });
  }
  return count;
}

/** Some kinds of node say only when probed whether they kept the work: those not heard of yet get more time. */
function mayStillTell({ fleet }: Rooms, g: Generation): boolean {
  if (g.state.status !== 'running' || g.state.remote === undefined) return false;
  const node = fleet.node(g.state.node);
  return node !== undefined && node.report === null && fleet.connection(node.spec.id) !== undefined;
}

/** Decides each as soon as its node was probed, and the rest when time is up. */
async function decideLater(
  rooms: Rooms,
  recorder: Recorder,
  attempts: Attempts,
  late: readonly Generation[],
  signal: AbortSignal,
): Promise<void> {
  const { fleet, system } = rooms;
  const over = system.clock.sleep(LATE_PROBE_MS, signal).then(() => true);
  over.catch(() => {});
  let open = late;
  for (let timeIsUp = false; open.length > 0; ) {
    const changed = Promise.withResolvers<boolean>();
    using _listening = fleet.onChange(() => changed.resolve(false));
    const decidable = timeIsUp ? open : open.filter((g) => !mayStillTell(rooms, g));
    open = open.filter((g) => !decidable.includes(g));
    for (const g of decidable) await decide(rooms, recorder, attempts, g, signal);
    if (open.length > 0) timeIsUp = await Promise.race([changed.promise, over]);
  }
}

/** Tries again while the store cannot take it: a running generation without an attempt would stay so. */
async function decide(
  rooms: Rooms,
  recorder: Recorder,
  attempts: Attempts,
  g: Generation,
  signal: AbortSignal,
): Promise<void> {
  const { clock, log } = rooms.system;
  for (;;) {
    signal.throwIfAborted();
    try {
      if ((await recorder.get(g.id))?.seq !== g.seq) return letGo(rooms, g);
      if (!resume(rooms, attempts, g)) await recorder.append(g, unresumed(g, clock.now()));
      return;
    } catch (error) {
      log.error(
        { err: error, generation: g.id, retry_in_ms: RETRY_MS },
        'could not decide what becomes of it; trying again',
      );
      await clock.sleep(RETRY_MS, signal);
    }
  }
}

/** It was cancelled while it waited: its node may still be at it. */
function letGo({ fleet, system }: Rooms, g: Generation): void {
  if (g.state.status !== 'running' || g.state.remote === undefined) return;
  fleet
    .connection(g.state.node)
    ?.cancel(g.state.remote, AbortSignal.timeout(CLEAN_UP_MS))
    .catch((error: unknown) =>
      system.log.warn({ err: error, generation: g.id }, 'could not confirm that the node stopped'),
    );
}

/** What was about to be paid for elsewhere is never begun again without knowing; what says that nothing was asked may be. */
function unresumed(g: Generation, now: Millis): GenerationEvent {
  const last = g.attempts.at(-1)?.backend as BackendKind | undefined;
  const asked = g.state.status === 'running' && g.state.remote !== undefined && wasAsked(g.state.remote);
  return asked && last !== undefined && isHosted(last) ? abandoned(now) : orphaned(now);
}

function resume({ fleet, catalog }: Rooms, attempts: Attempts, g: Generation): boolean {
  if (g.state.status !== 'running' || g.state.remote === undefined) return false;
  const { node, remote } = g.state;
  const spec = fleet.node(node)?.spec;
  // a reference means something only to the kind of server that gave it
  if (spec === undefined || spec.kind !== g.attempts.at(-1)?.backend) return false;
  const model = findModel(catalog.current, g.model) ?? null;
  const needs = model === null ? [] : needsOf(catalog, model, laneOf(g).pictures);
  const routes = needs.map((r) => r.route).filter((r) => matches(spec, r));
  const asked = modelIn(remote);
  const route = routes.find((r) => asked === null || r.remote === asked) ?? routeGone(spec);
  if (route === null || fleet.connection(node)?.resumable !== true) return false;
  const residency = residencyKey(route);
  const expectMs = model?.estimateMs ?? 0;
  const slot = fleet.adopt(node, { residency, expectMs });
  if (slot === null) return false;
  attempts.start(g, slot, { node, model, route, residency, warm: true, expectMs }, remote);
  return true;
}

/** An account is asked by its reference alone: what is paid for is fetched also where the catalog no longer offers it. */
const routeGone = ({ id, kind }: NodeSpec): Route | null =>
  isHosted(kind) ? { backend: kind, labels: [], checkpoint: null, workflow: null, remote: null, account: id } : null;

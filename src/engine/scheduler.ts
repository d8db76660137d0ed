// Moves queued generations onto nodes: reads lane heads and the fleet's view, asks pure `place`, takes the slot, appends
// `started`. A lost race drops the slot and goes on. Wakes on submit, freed slot, node up, or the next due retry.

import { findModel } from '../catalog/catalog.ts';
import type { Workspace } from '../domain/caller.ts';
import { failure } from '../domain/failure.ts';
import type { Lane } from '../domain/lane.ts';
import type { Meters } from '../domain/meters.ts';
import type { Model } from '../domain/model.ts';
import { canRun, type LaneView, overflowsAt, type Placement, place } from '../domain/placement.ts';
import type { GenerationId, Millis, WorkspaceId } from '../domain/units.ts';
import type { Slot } from '../fleet/fleet.ts';
import { type Loop, startLoop } from '../system/system.ts';
import type { Attempts } from './attempt.ts';
import { isOver, needsOf, overText } from './availability.ts';
import type { Backlog, Head } from './backlog.ts';
import { isLimited, servedBy, standInsFor } from './fallback.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 15_000;
/** After a start the nodes get this long to be heard of before another model may stand in for theirs. */
const HEARSAY_MS = 15_000;

export interface Scheduler {
  stop(): Promise<void>;
}

export interface SchedulerOptions {
  readonly rooms: Rooms;
  readonly recorder: Recorder;
  readonly backlog: Backlog;
  readonly attempts: Attempts;
  readonly meters: Pick<Meters, 'get' | 'enter' | 'raise'>;
  readonly workspace: (id: WorkspaceId) => Promise<Workspace | null>;
  /** Lanes whose batch is paused. */
  readonly holds: (lane: Lane) => boolean;
}

export function startScheduler(options: SchedulerOptions): Scheduler {
  const { rooms, recorder, backlog, attempts, meters, workspace, holds } = options;
  const { system, fleet, catalog, settings } = rooms;
  const { clock, log } = system;
  /** Starts under way: their stubs are still in the backlog. */
  const claimed = new Map<GenerationId, WorkspaceId>();
  const claims = { has: (id: GenerationId) => claimed.has(id) } as ReadonlySet<GenerationId>;
  const begunAt = clock.monotonic();
  let waiting = new Set<WorkspaceId>();
  const trouble = { until: 0, pauseMs: FIRST_PAUSE_MS };

  const tick = async (): Promise<Millis | null> => {
    let overflow = Infinity;
    for (;;) {
      const now = clock.now();
      if (clock.monotonic() < trouble.until) return trouble.until - clock.monotonic();
      await backlog.refill(now, claims);
      const heads = backlog.heads(now, claims).filter(({ lane }) => !holds(lane));
      enter(heads);
      const lanes = await lanesOf(heads);
      const placement = place({
        now,
        lanes,
        nodes: fleet.views(),
        meter: (w) => meters.get(w),
        policy: settings.policy,
      });
      overflow = Math.min(...lanes.map((lane) => overflowsAt(lane, settings.policy)).filter((at) => at >= now));
      if (placement === null) break;
      const slot = fleet.acquire(placement.node, placement);
      if (slot === null) break;
      claim(placement, slot);
    }
    const due = backlog.nextDue(clock.now());
    const waits = [
      due === null ? Infinity : due - clock.now(),
      backlog.queued() > 0 ? patience() : Infinity,
      overflow + 1 - clock.now(),
    ];
    return Math.min(...waits) === Infinity ? null : Math.max(1, Math.min(...waits));
  };

  /** A workspace that had nothing waiting enters at the floor: idling earns no credit. */
  const enter = (heads: readonly Head[]) => {
    const now = new Set(heads.map((h) => h.lane.workspaceId));
    for (const id of now) if (!waiting.has(id)) meters.enter(id);
    meters.raise(now);
    waiting = now;
  };

  const lanesOf = async (heads: readonly Head[]): Promise<readonly LaneView[]> => {
    const lanes: LaneView[] = [];
    const open = new Map<WorkspaceId, boolean>();
    for (const head of heads) {
      const { workspaceId } = head.lane;
      if (!open.has(workspaceId)) open.set(workspaceId, await hasRoom(workspaceId));
      if (!open.get(workspaceId)) continue;
      const model = findModel(catalog.current, head.lane.model);
      const serving = model && (await standIn(head, model));
      if (serving === undefined || isOver(fleet, serving) || !(await canServe(head, serving)))
        await modelGone(head, serving);
      else lanes.push({ ...head, model: serving, routes: needsOf(catalog, serving, head.lane.pictures) });
    }
    return lanes;
  };

  /** The model itself while any online node can run it (and did not say "no more" to this very one); else the first equivalent that one can and that can make this. */
  const standIn = async ({ head, lane }: Head, model: Model): Promise<Model> => {
    if (!lane.fallback) return model;
    const limited = lane.avoid.length > 0 && isLimited(await recorder.get(head.id));
    const over = isOver(fleet, model);
    if (!limited && !over && patience() !== Infinity) return model;
    if (runs(model, limited ? lane : { ...lane, avoid: [] })) return model;
    const g = await recorder.get(head.id);
    const able = g === null ? [] : standInsFor(catalog, model, g);
    const now = able.find((m) => runs(m, { ...lane, avoid: [] }));
    return now ?? (over ? able[0] : undefined) ?? model;
  };
  /** A renamed model may differ from what was asked for so much that it cannot make it. */
  const canServe = async ({ head, lane }: Head, model: Model): Promise<boolean> => {
    if (model.id === lane.model) return true;
    const g = await recorder.get(head.id);
    return g === null || servedBy(g, model) !== null;
  };
  const runs = (model: Model, lane: Lane): boolean =>
    fleet
      .views()
      .filter((n) => n.limited !== true)
      .some((n) => needsOf(catalog, model, lane.pictures).some((needs) => canRun(n, needs, lane)));

  const hasRoom = async (id: WorkspaceId) => {
    const starting = [...claimed.values()].filter((w) => w === id).length;
    const limits = (await workspace(id))?.limits ?? settings.limits;
    return recorder.running(id) + starting < limits.concurrency;
  };

  /** Until another model may stand in; Infinity afterwards. */
  const patience = () => {
    const left = HEARSAY_MS - (clock.monotonic() - begunAt);
    return left > 0 ? left : Infinity;
  };

  const modelGone = async ({ head, lane }: Head, model: Model | undefined) => {
    const how =
      model !== undefined && isOver(fleet, model) ? overText(model) : `${lane.model} is no longer in the catalog`;
    const why = failure('model_gone', `The model ${how}.`);
    await recorder.insist(head.id, { type: 'failed', at: clock.now(), failure: why });
  };

  const claim = (placement: Placement, slot: Slot) => {
    const { id } = placement.head;
    claimed.set(id, placement.lane.workspaceId);
    start(placement, slot)
      .then(() => {
        trouble.pauseMs = FIRST_PAUSE_MS;
      })
      .catch((error) => {
        slot[Symbol.dispose]();
        pause(id, error);
      })
      .finally(() => {
        claimed.delete(id);
        loop.wake();
        if (claimed.size === 0) idle();
      });
  };
  /** Called when the last start under way is over. */
  let idle = () => {};

  /** The store cannot take a start (a full disk): nothing is started for a while. */
  const pause = (id: GenerationId, error: unknown) => {
    if (clock.monotonic() < trouble.until) return;
    log.error({ err: error, generation: id, retry_in_ms: trouble.pauseMs }, 'could not start a generation; pausing');
    trouble.until = clock.monotonic() + trouble.pauseMs;
    trouble.pauseMs = Math.min(LONGEST_PAUSE_MS, trouble.pauseMs * 2);
  };

  const start = async (placement: Placement, slot: Slot) => {
    const { head, node, route, residency, warm, expectMs } = placement;
    const g = await recorder.get(head.id);
    const model = findModel(catalog.current, placement.model);
    if (g?.state.status !== 'queued') {
      backlog.drop(placement.lane, head.id);
      return slot[Symbol.dispose]();
    }
    const served = model === undefined || model.id === g.model ? null : servedBy(g, model);
    if (model === undefined || (model.id !== g.model && served === null)) return slot[Symbol.dispose]();
    const next = await recorder.append(g, {
      type: 'started',
      at: clock.now(),
      node,
      backend: route.backend,
      ...(served && { served }),
    });
    if (next === null) return slot[Symbol.dispose]();
    attempts.start(next, slot, { node, model, route, residency, warm, expectMs });
  };

  const loop: Loop = startLoop({ name: 'scheduler', clock, log, tick });
  recorder.onMove(() => loop.wake());
  const subscriptions = [fleet.onChange(loop.wake), catalog.onChange(loop.wake)];
  return {
    async stop() {
      for (const s of subscriptions) s[Symbol.dispose]();
      await loop.stop();
      if (claimed.size > 0) await new Promise<void>((resolve) => (idle = resolve));
    },
  };
}

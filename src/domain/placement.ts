// Placement: the pure answer to "which generation goes to which node now". Metered affinity: every workspace has a
// meter of node time spent on it; a free node serves the lowest price = meter + a surcharge for the swap it would
// cause. The surcharge keeps models where they are, the meter keeps people fed, patience melts the surcharge. Only
// lane heads are looked at, so a decision costs lanes × nodes, never the backlog.

import type { Lane, QueuedStub } from './lane.ts';
import { bareModelName, isHosted, type Model, normalizeModelName, placeOf, type Route, residencyKey } from './model.ts';
import { hasCheckpoint, matches, type NodeReport, type NodeView } from './node.ts';
import type { Millis, NodeId, WorkspaceId } from './units.ts';

export interface Policy {
  /** A: a swap must be worth this many times its own seconds. */
  readonly swapWorth: number;
  /** P: the time over which waiting melts the surcharge. */
  readonly patienceMs: Millis;
  /** Where one of two routes is hosted: how long a workspace waits for the earlier while it could serve. Null: as long as it takes. */
  readonly overflowMs: (workspace: WorkspaceId) => Millis | null;
}

export const DEFAULT_POLICY: Policy = { swapWorth: 3, patienceMs: 300_000, overflowMs: () => null };

/** What a route asks of a node besides kind and labels. */
export interface RouteNeeds {
  readonly route: Route;
  /** ComfyUI node classes of its workflow. */
  readonly classes: readonly string[];
  /** Model files its workflow names itself: [class_type, input, file]. */
  readonly files: readonly (readonly [classType: string, input: string, file: string])[];
  /** The input pictures it is to take. Absent: asked about no request in particular. */
  readonly pictures?: Lane['pictures'];
}

/** A lane as placement sees it: its head, and how much waits behind it. */
export interface LaneView {
  readonly lane: Lane;
  readonly head: QueuedStub;
  readonly queued: number;
  readonly lastServedAt: Millis | null;
  readonly model: Pick<Model, 'id' | 'estimateMs' | 'coldMs'>;
  readonly routes: readonly RouteNeeds[];
}

export interface Placement {
  readonly lane: Lane;
  readonly head: QueuedStub;
  readonly model: string;
  readonly node: NodeId;
  readonly route: Route;
  readonly residency: string;
  readonly warm: boolean;
  /** Loading and rendering, as far as is known. */
  readonly expectMs: Millis;
}

export interface Question {
  readonly now: Millis;
  readonly lanes: readonly LaneView[];
  readonly nodes: readonly NodeView[];
  /** Node time spent per workspace, divided by its weight. */
  readonly meter: (workspace: WorkspaceId) => Millis;
  readonly policy: Policy;
}

/** Why a node never serves a route with this, whatever its health and its files; null when it may. */
export function barred(
  node: NodeView,
  { route, pictures }: Pick<RouteNeeds, 'route' | 'pictures'>,
  loras: readonly string[],
): string | null {
  if (!matches(node, route)) return 'is of another kind or lacks a label';
  return pictures === undefined ? null : (node.refuses?.(route, { pictures, loras }) ?? null);
}

/** Why a node cannot serve a route now; null when it can. The order of checks is the order people care about. */
export function obstacle(node: NodeView, needs: RouteNeeds, loras: readonly string[] = []): string | null {
  const bar = barred(node, needs, loras);
  if (bar !== null) return bar;
  if (node.status !== 'online') return `is ${node.status}`;
  const { report } = node;
  if (report === null) return 'has not been probed yet';
  if (hasLost(node, needs.route)) return `no longer has ${needs.route.remote}`;
  const lacking = remembered(report, needs);
  if (lacking !== null) return lacking;
  const lora = loras.find((name) => !hasLora(node, name));
  return lora === undefined ? null : `lacks the LoRA ${lora}`;
}

/** The account said not long ago that its provider no longer has this. */
export const hasLost = (node: NodeView, route: Route): boolean => node.gone?.(route)?.due === false;

/** Could this node run it if it were online, as far as is known of it? */
export function suits(node: NodeView, needs: RouteNeeds, loras: readonly string[]): boolean {
  return obstacle({ ...node, status: 'online' }, needs, loras) === null;
}

/** Can this node serve the route now, and has it not failed this work by it? */
export function canRun(node: NodeView, needs: RouteNeeds, { avoid, loras }: Pick<Lane, 'avoid' | 'loras'>): boolean {
  return !avoid.includes(placeOf(node.id, needs.route)) && obstacle(node, needs, loras) === null;
}

/** A report never changes, so what it lacks for a route is worked out once. */
const known = new WeakMap<NodeReport, WeakMap<RouteNeeds, string | null>>();

function remembered(report: NodeReport, needs: RouteNeeds): string | null {
  const answers = known.get(report) ?? new WeakMap<RouteNeeds, string | null>();
  known.set(report, answers);
  const found = answers.get(needs);
  if (found !== undefined) return found;
  const answer = lacks(report, needs);
  answers.set(needs, answer);
  return answer;
}

function lacks(report: NodeReport, needs: RouteNeeds): string | null {
  const { checkpoint } = needs.route;
  if (checkpoint !== null && !hasCheckpoint(report, checkpoint)) return `lacks the checkpoint ${checkpoint}`;
  if (report.classes !== null) {
    const missing = needs.classes.find((c) => !report.classes?.includes(c));
    if (missing !== undefined) return `lacks the node class ${missing}`;
  }
  for (const [classType, input, file] of needs.files) {
    const have = report.files?.[`${classType}.${input}`];
    if (have && !have.some((f) => normalizeModelName(f) === normalizeModelName(file))) return `lacks the file ${file}`;
  }
  return null;
}

/** LoRAs are named with or without their file ending. */
export function hasLora(node: NodeView, wanted: string): boolean {
  return node.report?.loras?.some((have) => bareModelName(have) === bareModelName(wanted)) ?? true;
}

/** The first route of a lane that this node can serve now. */
function routeOn(node: NodeView, lane: LaneView): RouteNeeds | undefined {
  return lane.routes.find((needs) => obstacle(node, needs, lane.lane.loras) === null);
}

interface Offer {
  readonly placement: Placement;
  readonly price: number;
  readonly overdue: boolean;
  readonly cost: Millis;
  readonly rank: number;
}

/** The best pair of lane head and free node, or null when nothing should start now. */
export function place(question: Question): Placement | null {
  const free = question.nodes.filter((n) => n.freeSlots > 0 && n.status === 'online');
  if (free.length === 0) return null;
  const scene = survey(question);
  let best: Offer | null = null;
  for (const lane of question.lanes) {
    if (best !== null && question.meter(lane.lane.workspaceId) > best.price) continue;
    const routeFor = choice(lane, question.nodes);
    for (const node of free) {
      const needs = routeFor(node);
      const offer = needs === undefined ? null : offerOf(lane, node, needs, question, scene);
      if (offer !== null && (best === null || before(offer, best))) best = offer;
    }
  }
  return best?.placement ?? null;
}

/** What a node would serve a lane by: places that failed this work are left out while any other that is online could run it. */
function choice(lane: LaneView, all: readonly NodeView[]): (node: NodeView) => RouteNeeds | undefined {
  if (lane.lane.avoid.length === 0) return (node) => routeOn(node, lane);
  const fresh = (node: NodeView) => lane.routes.find((needs) => canRun(node, needs, lane.lane));
  return all.some((n) => fresh(n) !== undefined) ? fresh : (node) => routeOn(node, lane);
}

interface Scene {
  /** Waiting milliseconds of work by residency key. */
  readonly work: ReadonlyMap<string, Millis>;
  readonly holders: ReadonlyMap<string, readonly NodeView[]>;
  readonly lanesOf: ReadonlyMap<string, readonly LaneView[]>;
}

function survey({ lanes, nodes }: Question): Scene {
  const work = new Map<string, Millis>();
  const lanesOf = new Map<string, LaneView[]>();
  const holders = new Map<string, NodeView[]>();
  for (const lane of lanes) {
    for (const key of new Set(lane.routes.map((r) => residencyKey(r.route)))) {
      work.set(key, (work.get(key) ?? 0) + lane.queued * lane.model.estimateMs);
      push(lanesOf, key, lane);
    }
  }
  for (const node of nodes) if (node.status === 'online') for (const key of node.resident) push(holders, key, node);
  return { work, lanesOf, holders };
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}

function offerOf(lane: LaneView, node: NodeView, needs: RouteNeeds, q: Question, scene: Scene): Offer | null {
  if (waitsForEarlier(lane, needs, q)) return null;
  const residency = residencyKey(needs.route);
  const warm = isHosted(node.kind) || node.resident.includes(residency);
  const { renderMs, loadMs } = times(node, residency, lane);
  const load = warm ? 0 : loadMs;
  const cost = node.remainingMs + load + renderMs;
  if (soonerElsewhere(lane, node, residency, cost, q, scene)) return null;
  const swap = warm ? 0 : load + evictionCost(node, residency, lane, scene);
  const since = Math.max(lane.head.createdAt, lane.lastServedAt ?? 0);
  const waited = Math.min(1, Math.max(0, q.now - since) / q.policy.patienceMs);
  const earned = node.renderedSinceLoadMs >= q.policy.swapWorth * swap;
  const surcharge = warm ? 0 : q.policy.swapWorth * swap * (earned ? 1 - waited : 1);
  const placement: Placement = {
    lane: lane.lane,
    head: lane.head,
    model: lane.model.id,
    node: node.id,
    route: needs.route,
    residency,
    warm,
    expectMs: load + renderMs,
  };
  return {
    placement,
    price: q.meter(lane.lane.workspaceId) + surcharge,
    overdue: earned && waited >= 1,
    cost,
    rank: rankOf(lane, residency, node, scene),
  };
}

/**
 * The studio's order of routes decides where money is spent: while a node or account of an earlier route could serve,
 * the work waits for it, however busy it is; but for a busy one only as long as the workspace tolerates, and not at all
 * where it is known to take longer. Among the studio's own boxes the order says nothing: whoever is free takes it.
 */
function waitsForEarlier(lane: LaneView, needs: RouteNeeds, { now, nodes, policy }: Question): boolean {
  const earlier = lane.routes.slice(0, lane.routes.indexOf(needs));
  const hosted = isHosted(needs.route.backend);
  const before = earlier.filter(({ route }) => hosted || isHosted(route.backend));
  if (before.length === 0) return false;
  const until = overflowsAt(lane, policy);
  return nodes
    .filter((n) => n.freeSlots > 0 || (now + n.remainingMs <= until && !n.onTrial && !n.limited))
    .some((n) => before.some((r) => canRun(n, r, lane.lane)));
}

/** Until then it waits for a busy earlier route. A batch's items are all as old as the batch: theirs counts from when they came to the head. */
export function overflowsAt({ lane, head, lastServedAt }: LaneView, policy: Policy): Millis {
  const overflowMs = policy.overflowMs(lane.workspaceId);
  if (overflowMs === null) return Infinity;
  const since = lane.priority === 'batch' ? Math.max(head.createdAt, lastServedAt ?? 0) : head.createdAt;
  return since + overflowMs;
}

/** People go by age and before batches; batches by the model that would take longest to drain (most negative first). */
function rankOf(lane: LaneView, residency: string, node: NodeView, scene: Scene): number {
  if (lane.lane.priority === 'interactive') return lane.head.createdAt - Number.MAX_SAFE_INTEGER;
  const holders = scene.holders.get(residency) ?? [];
  const speed = holders.length + (holders.includes(node) ? 0 : 1);
  return -(scene.work.get(residency) ?? 0) / speed;
}

/** Would a node that already holds the model finish this sooner, counting the work ahead of it there? */
function soonerElsewhere(
  lane: LaneView,
  node: NodeView,
  residency: string,
  cost: Millis,
  q: Question,
  scene: Scene,
): boolean {
  const holders = (scene.holders.get(residency) ?? []).filter((h) => h !== node && routeOn(h, lane) !== undefined);
  if (holders.length === 0) return false;
  const soonest = Math.min(...holders.map((h) => h.remainingMs + times(h, residency, lane).renderMs));
  const slack = (cost - 1e-6 - soonest) * holders.length;
  if (slack <= 0) return false;
  const mine = q.meter(lane.lane.workspaceId);
  let ahead = 0;
  for (const other of scene.lanesOf.get(residency) ?? []) {
    const waiting = other.queued * other.model.estimateMs;
    ahead +=
      other === lane
        ? 0
        : Math.min(
            waiting,
            Math.max(0, mine - q.meter(other.lane.workspaceId)) + (sameButOlder(other, lane) ? waiting : 0),
          );
    if (ahead >= slack) return false;
  }
  return true;
}

const sameButOlder = (a: LaneView, b: LaneView): boolean =>
  a.lane.workspaceId === b.lane.workspaceId && a.head.createdAt < b.head.createdAt;

/** Reloading what a load pushes out is part of the swap, shared over the copies there are. */
function evictionCost(node: NodeView, residency: string, lane: LaneView, scene: Scene): Millis {
  const surplus = node.resident.length + 1 - node.capacity;
  let cost = 0;
  for (const evicted of node.resident.slice(0, Math.max(0, surplus))) {
    if (evicted === residency || !(scene.work.get(evicted) ?? 0)) continue;
    const copies = scene.holders.get(evicted)?.length ?? 1;
    cost += (node.timing(evicted)?.loadMs ?? lane.model.coldMs) / copies;
  }
  return cost;
}

const times = (node: NodeView, residency: string, lane: LaneView) =>
  node.timing(residency) ?? { renderMs: lane.model.estimateMs, loadMs: lane.model.coldMs };

function before(a: Offer, b: Offer): boolean {
  const order =
    a.price - b.price ||
    Number(b.overdue) - Number(a.overdue) ||
    a.rank - b.rank ||
    a.cost - b.cost ||
    compare(a.placement.head.id, b.placement.head.id) ||
    compare(a.placement.node, b.placement.node);
  return order < 0;
}

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

// A node: a place that can run a generation, a box of the studio or an account at a hosted provider. Spec = what the
// operator wrote, Report = what the last probe saw, View = what placement may look at.

import type { Lane } from './lane.ts';
import type { BackendKind, Route } from './model.ts';
import { normalizeModelName } from './model.ts';
import type { Bytes, Millis, NodeId } from './units.ts';

export interface NodeSpec {
  readonly id: NodeId;
  readonly kind: BackendKind;
  /** Base URL without trailing slash; '' for sketch, and for an account at its provider's own address. */
  readonly url: string;
  readonly labels: readonly string[];
  readonly auth: { readonly username: string; readonly password: string } | null;
  /** Attempts that may render at once. ComfyUI and A1111 render one. */
  readonly slots: number;
  /** An account's key. Never shown, never logged. */
  readonly token?: string;
}

export type NodeStatus = 'online' | 'offline' | 'draining' | 'wedged';

/** What a probe found. `null` lists mean "this server does not tell": do not refuse on them. */
export interface NodeReport {
  /** comfyui a1111 forge sdnext sdcpp sketch */
  readonly flavour: string;
  readonly version: string | null;
  readonly device: string | null;
  readonly memory: { readonly totalBytes: Bytes; readonly freeBytes: Bytes } | null;
  readonly checkpoints: readonly string[] | null;
  readonly loras: readonly string[] | null;
  readonly samplers: readonly string[] | null;
  readonly schedulers: readonly string[] | null;
  readonly upscalers: readonly string[] | null;
  /** ComfyUI node classes installed. */
  readonly classes: readonly string[] | null;
  /** Model files per "class_type.input" as loaders list them (ComfyUI), for workflows that name files themselves. */
  readonly files: Readonly<Record<string, readonly string[]>> | null;
  /** Work on the node that is not ours, when it can be told. */
  readonly foreignQueue: number;
}

/** Alternative names of checkpoints (title, model name, short hash, sha256 on sdapi) are all listed in `checkpoints`. */
export function hasCheckpoint(report: NodeReport, wanted: string): boolean {
  if (report.checkpoints === null) return true;
  const name = normalizeModelName(wanted);
  return report.checkpoints.some((have) => normalizeModelName(have) === name);
}

/** Could this configured node ever serve this route (kind, labels, account)? Says nothing about its health or files. */
export function matches(
  spec: { readonly id: NodeId; readonly kind: BackendKind; readonly labels: readonly string[] },
  route: Route,
): boolean {
  return (
    spec.kind === route.backend &&
    (route.account === null || route.account === spec.id) &&
    route.labels.every((label) => spec.labels.includes(label))
  );
}

/** A model that its provider no longer has. `due`: long enough ago to ask again. */
export interface Gone {
  readonly since: Millis;
  readonly due: boolean;
}

/** What a request brings besides its parameters. */
export interface Given {
  readonly pictures: Lane['pictures'];
  /** Their names. */
  readonly loras: readonly string[];
}

/** A node as placement sees it, at one moment. */
export interface NodeView {
  readonly id: NodeId;
  readonly kind: BackendKind;
  readonly labels: readonly string[];
  readonly status: NodeStatus;
  /** Offline because its breaker is open, not because it is gone. */
  readonly setAside?: boolean;
  /** Online, but takes one attempt at a time until one succeeds, or (`limited`) none for a while because it said so: other routes need not wait for it. */
  readonly onTrial?: boolean;
  readonly limited?: boolean;
  /** What an account said of a route's model when it was last asked for it: it no longer has that. Null: nothing of the kind. */
  readonly gone?: (route: Route) => Gone | null;
  readonly report: NodeReport | null;
  /** Why it never serves this route with what is given, whatever its health; null or absent: it may. */
  readonly refuses?: (route: Route, given: Given) => string | null;
  /** Attempts that may start now. */
  readonly freeSlots: number;
  /** Residency keys in least-recently-used order (last = newest). */
  readonly resident: readonly string[];
  /** How many residency keys fit; a load beyond it evicts the oldest. */
  readonly capacity: number;
  /** Expected milliseconds until the running attempt ends; 0 when idle. */
  readonly remainingMs: Millis;
  /** Milliseconds rendered since the last load, for "has this node earned a swap". */
  readonly renderedSinceLoadMs: Millis;
  /** Learned times; undefined where nothing was learned. */
  readonly timing: (residency: string) => Timing | undefined;
}

/** Learned per (residency, node): moving averages. */
export interface Timing {
  readonly renderMs: Millis;
  readonly loadMs: Millis;
}

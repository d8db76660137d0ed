// Meters of node time per workspace. Idling earns no credit: whoever had nothing waiting re-enters at the lowest meter
// of those that do.

import type { Millis, WorkspaceId } from './units.ts';

export class Meters {
  #spent = new Map<WorkspaceId, Millis>();
  #floor = 0;

  get(workspace: WorkspaceId): Millis {
    return this.#spent.get(workspace) ?? this.#floor;
  }

  /** Charges (or, negative, corrects) node time. */
  charge(workspace: WorkspaceId, ms: Millis): void {
    this.#spent.set(workspace, this.get(workspace) + ms);
  }

  /** A workspace that had nothing waiting has work again. */
  enter(workspace: WorkspaceId): void {
    this.#spent.set(workspace, Math.max(this.get(workspace), this.#floor));
  }

  /** Raises the floor to the lowest meter among those with work waiting. The floor never falls. */
  raise(waiting: Iterable<WorkspaceId>): void {
    let lowest = Number.POSITIVE_INFINITY;
    for (const workspace of waiting) lowest = Math.min(lowest, this.get(workspace));
    if (Number.isFinite(lowest)) this.#floor = Math.max(this.#floor, lowest);
  }
}

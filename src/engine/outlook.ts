// How the fleet stands to a generation: which nodes could run it, and how long it should take. Asked on every poll of a
// queued generation, so it is remembered until the fleet or the catalog changes.

import { findModel } from '../catalog/catalog.ts';
import type { QueueReason } from '../contract/generations.ts';
import type { Generation } from '../domain/generation.ts';
import { laneOf } from '../domain/lane.ts';
import { residencyKey } from '../domain/model.ts';
import { barred, obstacle } from '../domain/placement.ts';
import type { Millis } from '../domain/units.ts';
import { needsOf } from './availability.ts';
import type { Rooms } from './rooms.ts';

export interface Outlook {
  /** `able`: nodes that could run it now. */
  standing(g: Generation): { readonly reason: QueueReason; readonly able: number };
  expected(g: Generation): { readonly renderMs: Millis; readonly loadMs: Millis };
}

export function createOutlook({ fleet, catalog }: Pick<Rooms, 'fleet' | 'catalog'>): Outlook {
  const stands = new Map<string, { readonly reason: QueueReason; readonly able: number }>();
  fleet.onChange(() => stands.clear());
  catalog.onChange(() => stands.clear());

  return {
    standing(g) {
      const { model: id, pictures, loras } = laneOf(g);
      const key = JSON.stringify([id, pictures, loras]);
      const known = stands.get(key);
      if (known) return known;
      const model = findModel(catalog.current, id);
      const needs = model ? needsOf(catalog, model, pictures) : [];
      const kin = fleet.views().filter((n) => needs.some((r) => barred(n, r, loras) === null));
      const online = kin.filter((n) => n.status === 'online');
      const ready = online.filter((n) => needs.some((r) => obstacle(n, r, loras) === null));
      const able = ready.length;
      const setAside = kin.some((n) => n.setAside === true);
      const reason: QueueReason =
        able > 0
          ? ready.every((n) => n.limited === true)
            ? 'rate_limited'
            : 'waiting_for_slot'
          : setAside
            ? 'breaker_open'
            : online.length > 0
              ? 'model_not_installed'
              : 'no_node_online';
      const made = { reason, able };
      stands.set(key, made);
      return made;
    },
    expected(g) {
      const model = findModel(catalog.current, g.model);
      const fallback = { renderMs: model?.estimateMs ?? 10_000, loadMs: model?.coldMs ?? 0 };
      const route = model?.routes[0];
      const one = route ? fleet.estimate(residencyKey(route), null, fallback) : fallback;
      return { renderMs: one.renderMs, loadMs: one.loadMs };
    },
  };
}

// One consistent reading of the catalog's files. A snapshot never changes: whoever holds one sees models, aliases and
// recipes that fit together, whatever is edited meanwhile. When a model's last day has come, another snapshot follows.

import type { Model, Recipe } from '../domain/model.ts';
import type { Millis, ModelId } from '../domain/units.ts';

/** One consistent reading of the files; never changes. */
export interface Snapshot {
  readonly models: ReadonlyMap<ModelId, Model>;
  /** Retired or alternative names → canonical id. */
  readonly aliases: ReadonlyMap<string, ModelId>;
  readonly recipes: ReadonlyMap<string, Recipe>;
  readonly loadedAt: Millis;
}

/** Canonical model for a name, following aliases. Undefined: nobody knows it. */
export function findModel(snapshot: Pick<Snapshot, 'models' | 'aliases'>, name: string): Model | undefined {
  return snapshot.models.get(snapshot.aliases.get(name) ?? name);
}

/** The snapshot as of `now`: models whose day has come are marked. The same object where none was added. */
export function asOf(snapshot: Snapshot, now: Millis): Snapshot {
  const due = [...snapshot.models.values()].filter(
    (m) => m.retired !== true && m.retiresAt !== null && m.retiresAt <= now,
  );
  if (due.length === 0) return snapshot;
  const marked = due.map((m) => [m.id, { ...m, retired: true }] as const);
  return { ...snapshot, models: new Map([...snapshot.models, ...marked]) };
}

/** When the next model retires; Infinity: none is known to. */
export const nextRetirement = ({ models }: Snapshot): Millis =>
  Math.min(...[...models.values()].map((m) => (m.retired === true ? Infinity : (m.retiresAt ?? Infinity))));

// One consistent reading of the catalog's files. A snapshot never changes: whoever holds one sees models, aliases and
// recipes that fit together, whatever is edited meanwhile.

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

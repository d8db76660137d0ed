// models.yaml and workflows → models, limits, recipes, prices. The last good catalog keeps serving when an edit is bad.

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

export interface CatalogStatus {
  readonly ok: boolean;
  /** `models.yaml:LINE: PATH: expected …` of the refused edit, or null. */
  readonly error: string | null;
  readonly loadedAt: Millis;
}

export interface Catalog {
  readonly current: Snapshot;
  readonly status: CatalogStatus;
  /** Called after every successful reload. */
  onChange(listener: () => void): Disposable;
  close(): Promise<void>;
}

/** Canonical model for a name, following aliases. Undefined: nobody knows it. */
export function findModel(snapshot: Snapshot, name: string): Model | undefined {
  return snapshot.models.get(snapshot.aliases.get(name) ?? name);
}

// What a node has in memory, as far as can be known from outside: the models it rendered with last, least recently
// used first. A guess that errs on the side of "not loaded": a node that was away has nothing.

import { type BackendKind, isHosted, type LocalBackend } from '../domain/model.ts';
import type { Millis } from '../domain/units.ts';

export interface Residency {
  /** A render with this key ended well. */
  used(key: string): void;
  /** Milliseconds rendered with what is loaded; a load starts the count anew. */
  rendered(ms: Millis, loaded: boolean): void;
  /** Everything was unloaded. */
  clear(): void;
  /** Least recently used first; what is `rendering` counts as loaded and newest. */
  keys(rendering: readonly string[]): readonly string[];
  readonly capacity: number;
  readonly renderedSinceLoadMs: Millis;
}

/** A1111 keeps one checkpoint; ComfyUI keeps what memory allows, two by experience; sketch and hosted accounts load nothing. */
const CAPACITY: Readonly<Record<LocalBackend, number>> = { sdapi: 1, comfyui: 2, sketch: Number.POSITIVE_INFINITY };

export function createResidency(kind: BackendKind): Residency {
  const capacity = isHosted(kind) ? Number.POSITIVE_INFINITY : CAPACITY[kind];
  let loaded: readonly string[] = [];
  let renderedMs = 0;
  const touch = (keys: readonly string[], key: string) =>
    [...keys.filter((k) => k !== key), key].slice(-Math.min(capacity, keys.length + 1));
  return {
    capacity,
    used(key) {
      loaded = touch(loaded, key);
    },
    rendered(ms, load) {
      renderedMs = load ? ms : renderedMs + ms;
    },
    clear() {
      loaded = [];
      renderedMs = 0;
    },
    keys: (rendering) => rendering.reduce(touch, loaded),
    get renderedSinceLoadMs() {
      return renderedMs;
    },
  };
}

// Names that are like the one somebody wrote: for "did you mean", and for checkpoints that are there under another name.

import { normalizeModelName } from '../domain/model.ts';

/** How alike two names must be to be worth naming. */
const ALIKE = 0.4;
const MOST_NAMED = 3;

/** Names most like this one, best first. */
export function nearest(name: string, among: readonly string[]): readonly string[] {
  const scored = [...new Set(among)].map((other) => ({ other, score: likeness(name, other) }));
  return scored
    .filter(({ score }) => score >= ALIKE)
    .sort((a, b) => b.score - a.score)
    .slice(0, MOST_NAMED)
    .map(({ other }) => other);
}

/** Shared pairs of letters (Dice), of the bare file names. */
function likeness(a: string, b: string): number {
  const [one, two] = [pairs(a), pairs(b)];
  const shared = [...one].filter((p) => two.has(p)).length;
  return one.size + two.size === 0 ? 0 : (2 * shared) / (one.size + two.size);
}

function pairs(name: string): Set<string> {
  const bare = normalizeModelName(name)
    .replace(/^.*\//, '')
    .replace(/\.\w+$/, '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]/g, '');
  return new Set(Array.from({ length: Math.max(0, bare.length - 1) }, (_, i) => bare.slice(i, i + 2)));
}

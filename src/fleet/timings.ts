// How long things take, learned: moving averages of warm renders and of loads, per node and residency. A load is what a
// cold run took beyond a warm one, so a cold run that comes first waits until a warm one is known.

import { z } from 'zod';
import type { Timing } from '../domain/node.ts';
import type { Millis, NodeId } from '../domain/units.ts';

const span = z.number().nonnegative().nullable();

/** What was learned about one residency on one node. Null: not known yet. */
export const Learned = z.strictObject({
  node: z.string(),
  residency: z.string(),
  renderMs: span,
  loadMs: span,
  /** A cold run that came before any warm one. */
  coldMs: span,
});
export type Learned = z.infer<typeof Learned>;

/** No render takes longer: a longer one, or one of less than nothing, is a clock that was set, or a machine that slept. */
const LONGEST_MS = 24 * 60 * 60 * 1000;
/** Weight of the newest sample. */
const ALPHA = 0.3;
/** A warm run shorter than this share of the average was served from a cache … */
const CACHED_SHARE = 0.2;
/** … unless it happens so often in a row: then the work itself became smaller. */
const CACHED_RUNS = 3;

export interface Timings {
  /**
   * A render of this length was seen. Returns the part of it that was rendering, not loading, as far as is known. What
   * cannot be the length of a render is ignored, and no part of it counts.
   */
  learn(node: NodeId, residency: string, renderMs: Millis, warm: boolean): Millis;
  /** On this node, else over all nodes; null where nothing was learned. */
  of(node: NodeId | null, residency: string): { readonly renderMs: Millis | null; readonly loadMs: Millis | null };
  /** Both spans known, on this node or over all. */
  timing(node: NodeId, residency: string): Timing | undefined;
  forget(node: NodeId): void;
  rows(): readonly Learned[];
}

export function createTimings(known: readonly Learned[]): Timings {
  /** By residency, then node. */
  const book = new Map<string, Map<NodeId, Learned>>();
  const shortRuns = new Map<string, number>();
  const put = (row: Learned) => {
    const nodes = book.get(row.residency) ?? new Map<NodeId, Learned>();
    book.set(row.residency, nodes.set(row.node, row));
  };
  for (const row of known) put(row);

  const looksCached = (row: Learned, ms: Millis): boolean => {
    const key = JSON.stringify([row.node, row.residency]);
    const short = row.renderMs !== null && ms < CACHED_SHARE * row.renderMs;
    const inARow = short ? (shortRuns.get(key) ?? 0) + 1 : 0;
    shortRuns.set(key, inARow);
    return short && inARow < CACHED_RUNS;
  };
  const overAll = (residency: string, span: 'renderMs' | 'loadMs'): Millis | null => {
    const spans = [...(book.get(residency)?.values() ?? [])].flatMap((row) => row[span] ?? []);
    return spans.length === 0 ? null : spans.reduce((a, b) => a + b) / spans.length;
  };
  const of: Timings['of'] = (node, residency) => {
    const here = node === null ? undefined : book.get(residency)?.get(node);
    return {
      renderMs: here?.renderMs ?? overAll(residency, 'renderMs'),
      loadMs: here?.loadMs ?? overAll(residency, 'loadMs'),
    };
  };

  return {
    learn(node, residency, ms, warm) {
      if (!(ms >= 0 && ms <= LONGEST_MS)) return 0;
      const row = book.get(residency)?.get(node) ?? { node, residency, renderMs: null, loadMs: null, coldMs: null };
      if (!looksCached(row, ms)) put(warm ? withWarm(row, ms) : withCold(row, ms));
      return warm ? ms : Math.min(ms, of(node, residency).renderMs ?? 0);
    },
    of,
    timing(node, residency) {
      const { renderMs, loadMs } = of(node, residency);
      return renderMs === null || loadMs === null ? undefined : { renderMs, loadMs };
    },
    forget(node) {
      for (const nodes of book.values()) nodes.delete(node);
    },
    rows: () => [...book.values()].flatMap((nodes) => [...nodes.values()]),
  };
}

const average = (old: Millis | null, sample: Millis): Millis => (old === null ? sample : old + ALPHA * (sample - old));

function withWarm(row: Learned, ms: Millis): Learned {
  const renderMs = average(row.renderMs, ms);
  if (row.coldMs === null) return { ...row, renderMs };
  return { ...row, renderMs, loadMs: average(row.loadMs, Math.max(0, row.coldMs - renderMs)), coldMs: null };
}

function withCold(row: Learned, ms: Millis): Learned {
  if (row.renderMs === null) return { ...row, coldMs: average(row.coldMs, ms) };
  return { ...row, loadMs: average(row.loadMs, Math.max(0, ms - row.renderMs)) };
}

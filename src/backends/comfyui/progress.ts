// From "node 3 is at step 7 of 20" to a fraction of the whole run and a message. The server counts per node only, so nodes
// get weights: sampling dominates. The fraction never falls (a second sampler pass counts from zero again), and a
// report is due on a new phase, after ten per cent, or after a second.

import type { Graph } from '../../domain/model.ts';
import type { Hint } from './frames.ts';

type Phase = 'sampler' | 'loader' | 'decoder' | 'saver' | 'other';
const WEIGHTS: Readonly<Record<Phase, number>> = { sampler: 80, loader: 8, decoder: 6, saver: 2, other: 1 };
const DUE_FRACTION = 0.1;
const DUE_MS = 1_000;
/** The end is told by the result, not by a number. */
const ALMOST = 0.99;

export interface Report {
  readonly fraction: number;
  readonly message: string;
}

export interface Progress {
  /** Takes in what the socket says of this prompt. */
  note(hint: Hint): void;
  /** What is worth telling now, once. */
  due(now: number): Report | null;
  /** Between two steps of a sampler: silence should be short here. Anything else may be loading a model. */
  readonly stepping: boolean;
  /** The node class at work. */
  readonly at: string | null;
}

export function phaseOf(classType: string): Phase {
  if (/sampler/i.test(classType) && !/select|^sampler(?!custom)/i.test(classType)) return 'sampler';
  if (/loader/i.test(classType)) return 'loader';
  if (/decode/i.test(classType)) return 'decoder';
  if (/^(save|preview)|videocombine/i.test(classType)) return 'saver';
  return 'other';
}

export function createProgress(graph: Graph): Progress {
  const phases = new Map(Object.entries(graph).map(([id, node]) => [id, phaseOf(node.class_type)]));
  const total = [...phases.values()].reduce((sum, phase) => sum + WEIGHTS[phase], 0) || 1;
  const done = new Set<string>();
  let loadersCached = false;
  let current: string | null = null;
  let steps: { readonly value: number; readonly max: number } | null = null;
  let best = 0;
  let told: { readonly at: number; readonly fraction: number; readonly message: string } | null = null;

  /** Nodes of expanded sub-graphs are called like "5.0.1"; the visible one comes first. */
  const known = (id: string) => (phases.has(id) ? id : (id.split('.')[0] ?? id));
  const phase = (): Phase => (current === null ? 'other' : (phases.get(current) ?? 'other'));
  const enter = (id: string) => {
    if (id === current) return;
    if (current !== null) done.add(current);
    current = id;
    steps = null;
  };
  const measure = () => {
    let weight = steps && steps.max > 0 ? WEIGHTS[phase()] * Math.min(1, steps.value / steps.max) : 0;
    for (const id of done) if (id !== current) weight += WEIGHTS[phases.get(id) ?? 'other'];
    best = Math.min(ALMOST, Math.max(best, weight / total));
  };
  const describe = (): string => {
    const count = steps && steps.max > 1 && steps.value > 0 ? ` ${steps.value}/${steps.max}` : '';
    switch (phase()) {
      case 'sampler':
        return count ? `denoising step${count}` : loadersCached ? 'denoising' : 'loading model';
      case 'loader':
        return 'loading model';
      case 'decoder':
        return 'decoding';
      case 'saver':
        return 'saving';
      case 'other':
        return `preparing${count}`;
    }
  };

  return {
    note(hint) {
      if (hint.type === 'started') {
        for (const id of hint.cached) done.add(known(id));
        loadersCached ||= hint.cached.some((id) => phases.get(known(id)) === 'loader');
      }
      if (hint.type === 'node') enter(known(hint.node));
      if (hint.type === 'step') {
        enter(known(hint.node));
        steps = hint;
      }
      measure();
    },
    due(now) {
      if (current === null) return null;
      const message = describe();
      const moved = told && message.replace(/[\d/ ]+$/, '') === told.message.replace(/[\d/ ]+$/, '');
      if (told && moved && best - told.fraction < DUE_FRACTION && (now - told.at < DUE_MS || message === told.message))
        return null;
      told = { at: now, fraction: best, message };
      return { fraction: best, message };
    },
    get stepping() {
      return phase() === 'sampler' && steps !== null && steps.value > 0;
    },
    get at() {
      return current === null ? null : (graph[current]?.class_type ?? null);
    },
  };
}

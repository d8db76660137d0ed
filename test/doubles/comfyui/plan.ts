// Pure questions about a graph: what a node's result depends on (its cache signature), in which order nodes run, and what
// shape flows out of each. No weights are involved: a flow is a size, a count and a salt.

import { createHash } from 'node:crypto';
import type { NodeTable } from './nodes.ts';
import { type Graph, type GraphNode, isLink, type Link } from './validate.ts';

/** What a node hands on. `salt` differs whenever anything upstream does: seed, prompt, file, model. */
export interface Flow {
  readonly width: number;
  readonly height: number;
  readonly batch: number;
  readonly frames: number;
  readonly seconds: number;
  readonly salt: string;
  /** Set when a blocker sits upstream; says whether the error was already told. */
  readonly blocked: 'no' | 'fresh' | 'told';
}

/** No size yet: a loader, a text. */
const NOTHING: Flow = { width: 0, height: 0, batch: 1, frames: 1, seconds: 1, salt: '', blocked: 'no' };

export const links = (node: GraphNode | undefined): Link[] =>
  Object.values(node?.inputs ?? {}).filter((value): value is Link => isLink(value) && value.length === 2);

/** Signatures by node id: class, literals, and those of all ancestors; a LoadImage by its file's content. */
export function signatures(graph: Graph, fileDigest: (name: string) => string, unique: string): Map<string, string> {
  const known = new Map<string, string>();
  const sign = (id: string): string => {
    const kept = known.get(id);
    if (kept !== undefined) return kept;
    const node = graph[id];
    const inputs = Object.entries(node?.inputs ?? {})
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => [name, isLink(value) ? [sign(String(value[0])), value[1]] : value]);
    const image = node?.class_type.startsWith('LoadImage') ? fileDigest(String(node.inputs.image)) : '';
    const never = node?.class_type === 'SaveImageWebsocket' ? unique : '';
    const text = JSON.stringify([node?.class_type, inputs, image, never]);
    const signature = createHash('sha256').update(text).digest('hex');
    known.set(id, signature);
    return signature;
  };
  for (const id of Object.keys(graph)) sign(id);
  return known;
}

/** The nodes that take part, in running order: outputs and their ancestors up to cached ones; outputs favoured early. */
export function runningOrder(
  graph: Graph,
  outputs: readonly string[],
  cached: (id: string) => boolean,
  table: NodeTable,
): string[] {
  const waiting = involved(graph, outputs, cached);
  const blocking = new Map<string, string[]>();
  for (const id of waiting) {
    for (const [from] of links(graph[id])) blocking.set(from, [...(blocking.get(from) ?? []), id]);
  }
  const isOutput = (id: string) => table[graph[id]?.class_type ?? '']?.output_node === true;
  const next = (id: string) => blocking.get(id) ?? [];
  const preferences = [
    isOutput,
    (id: string) => next(id).some(isOutput),
    (id: string) => next(id).some((after) => next(after).some(isOutput)),
    () => true,
  ];
  const order: string[] = [];
  const open = new Set(waiting);
  while (open.size > 0) {
    const ready = [...open].filter((id) => links(graph[id]).every(([from]) => !open.has(from)));
    const chosen = preferences.map((prefer) => ready.find(prefer)).find((id) => id !== undefined);
    if (chosen === undefined) break;
    open.delete(chosen);
    order.push(chosen);
  }
  return order;
}

function involved(graph: Graph, outputs: readonly string[], cached: (id: string) => boolean): string[] {
  const found = new Set<string>();
  for (const output of outputs) {
    const stack = [output];
    for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
      if (found.has(id)) continue;
      found.add(id);
      if (!cached(id))
        stack.push(
          ...links(graph[id])
            .map(([from]) => from)
            .filter((from) => !cached(from)),
        );
    }
  }
  return [...found];
}

/** The flow out of a node, from those into it and its own literals. */
export function flowOf(node: GraphNode, inputs: readonly Flow[], own: Partial<Flow>, signature: string): Flow {
  const widest = inputs.reduce((best, flow) => (flow.width * flow.height > best.width * best.height ? flow : best), {
    ...NOTHING,
    ...inputs[0],
  });
  const { width, height, batch_size, length, seconds, scale_by, amount } = numbers(node.inputs);
  const grow = node.class_type === 'ImageUpscaleWithModel' ? 4 : (scale_by ?? 1);
  const most = (pick: (flow: Flow) => number) => Math.max(...inputs.map(pick), 1);
  return {
    width: Math.round((width || widest.width) * grow),
    height: Math.round((height || widest.height) * grow),
    batch: (batch_size ?? most((flow) => flow.batch)) * (amount ?? 1),
    frames: length ?? most((flow) => flow.frames),
    seconds: seconds ?? most((flow) => flow.seconds),
    blocked: inputs.some((flow) => flow.blocked === 'told')
      ? 'told'
      : (inputs.find((f) => f.blocked !== 'no')?.blocked ?? 'no'),
    ...own,
    salt: signature,
  };
}

function numbers(inputs: Readonly<Record<string, unknown>>): Record<string, number | undefined> {
  return Object.fromEntries(
    Object.entries(inputs).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );
}

/** Model files are named by these inputs; what takes seconds to load is the first three kinds. */
const HEAVY_FILES = ['ckpt_name', 'unet_name'] as const;

/** The checkpoint a loader names; null for other nodes. */
export function checkpointOf(node: GraphNode | undefined): string | null {
  for (const input of HEAVY_FILES) {
    const name = node?.inputs[input];
    if (typeof name === 'string') return name;
  }
  return null;
}

/** The first checkpoint named anywhere in the graph: what this prompt needs resident. */
export const checkpointIn = (graph: Graph): string | null =>
  Object.values(graph)
    .map(checkpointOf)
    .find((name) => name !== null) ?? null;

export const prefixIn = (graph: Graph): string | null => {
  const prefixes = Object.values(graph).map((node) => node.inputs?.filename_prefix);
  return (prefixes.find((prefix) => typeof prefix === 'string') as string | undefined) ?? null;
};

/** Steps of a node that works with progress; 0 for one that does not. */
export function stepsOf(graph: Graph, node: GraphNode): number {
  const { steps, start_at_step = 0, end_at_step = Number.POSITIVE_INFINITY } = numbers(node.inputs ?? {});
  switch (node.class_type) {
    case 'KSampler':
      return steps ?? 1;
    case 'KSamplerAdvanced':
      return Math.max(1, Math.min(steps ?? 1, end_at_step) - start_at_step);
    case 'SamplerCustomAdvanced': {
      const sigmas = node.inputs.sigmas;
      const scheduler = isLink(sigmas) ? graph[sigmas[0]] : undefined;
      return numbers(scheduler?.inputs ?? {}).steps ?? 20;
    }
    case 'ImageUpscaleWithModel':
      return 4;
    default:
      return 0;
  }
}

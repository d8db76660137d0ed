// The pending queue as Python keeps it: a binary heap of (number, id, graph, …) compared member by member. Its raw order
// is what GET /queue shows, and a tie down to the graph is the comparison that kills the worker.

import type { FaultSetting } from '../faults.ts';
import type { Graph } from './validate.ts';

export interface Prompt {
  readonly number: number;
  readonly id: string;
  readonly graph: Graph;
  readonly extra: Readonly<Record<string, unknown>>;
  readonly outputs: readonly string[];
  /** The misfortunes drawn for this prompt when it was accepted. */
  readonly faults: ReadonlyMap<string, FaultSetting>;
}

/** Two entries were equal in number and id: Python raises, with the new one already inserted. */
export class NotOrderable extends Error {}

export interface PromptHeap {
  readonly size: number;
  /** Throws NotOrderable after inserting. */
  push(prompt: Prompt): void;
  pop(): Prompt | undefined;
  remove(id: string): boolean;
  clear(): void;
  /** Raw heap order. */
  list(): readonly Prompt[];
}

export function promptHeap(): PromptHeap {
  const heap: Prompt[] = [];
  const at = (i: number): Prompt => heap[i] as Prompt;
  const swap = (i: number, j: number) => {
    [heap[i], heap[j]] = [at(j), at(i)];
  };
  const rise = (start: number) => {
    for (let i = start; i > 0; ) {
      const parent = (i - 1) >> 1;
      if (!before(at(i), at(parent))) return;
      swap(i, parent);
      i = parent;
    }
  };
  const sink = () => {
    for (let i = 0; ; ) {
      const [left, right] = [2 * i + 1, 2 * i + 2];
      if (left >= heap.length) return;
      const least = right < heap.length && before(at(right), at(left)) ? right : left;
      if (!before(at(least), at(i))) return;
      swap(i, least);
      i = least;
    }
  };
  const rebuild = () => {
    const all = heap.splice(0);
    for (const prompt of all) {
      heap.push(prompt);
      rise(heap.length - 1);
    }
  };
  return {
    get size() {
      return heap.length;
    },
    push(prompt) {
      heap.push(prompt);
      rise(heap.length - 1);
      if (heap.some((other) => other !== prompt && other.number === prompt.number && other.id === prompt.id)) {
        throw new NotOrderable("'<' not supported between instances of 'dict' and 'dict'");
      }
    },
    pop() {
      const first = heap[0];
      const last = heap.pop();
      if (heap.length > 0 && last) {
        heap[0] = last;
        sink();
      }
      return first;
    },
    remove(id) {
      const i = heap.findIndex((prompt) => prompt.id === id);
      if (i < 0) return false;
      heap.splice(i, 1);
      rebuild();
      return true;
    },
    clear: () => void heap.splice(0),
    list: () => [...heap],
  };
}

const before = (a: Prompt, b: Prompt): boolean => a.number < b.number || (a.number === b.number && a.id < b.id);

// Tells everyone who watches. Stored events arrive in commit order; a watcher subscribes first, then replays from the
// store, then goes live, so nothing is missed and nothing comes twice. A slow watcher loses progress first (only the
// newest per generation is kept), then its place; it never slows the engine.

import { setImmediate as turn } from 'node:timers/promises';
import { BATCH_ANNOUNCED, type StoredBatchEvent } from '../domain/batch.ts';
import { ANNOUNCED, type StoredEvent } from '../domain/event.ts';
import { GatewayError } from '../domain/failure.ts';
import type { Generation } from '../domain/generation.ts';
import type { Cursor, GenerationId, WorkspaceId } from '../domain/units.ts';
import type { Events, Recorded } from '../store/store.ts';

export interface ProgressNote {
  readonly type: 'progress';
  readonly id: GenerationId;
  readonly workspaceId: WorkspaceId;
  readonly batchId: string | null;
  readonly fraction: number;
  readonly message: string;
}

export type Watched =
  /** `generation`: as it was right after the event. */
  | { readonly type: 'event'; readonly stored: StoredEvent; readonly generation: Generation }
  /** `batch`, `tally`: as they were right after the event. */
  | { readonly type: 'batch'; readonly stored: StoredBatchEvent }
  | ProgressNote
  /** Replay is done; live from here. */
  | { readonly type: 'ready'; readonly cursor: Cursor };

export interface WatchFilter {
  readonly workspaceId: WorkspaceId;
  readonly generationIds?: readonly GenerationId[];
  readonly batchId?: string;
  readonly progress: boolean;
}

export interface Hub {
  /** Called with each commit, in cursor order. */
  publish(recorded: readonly Recorded[]): void;
  progress(note: ProgressNote): void;
  watch(filter: WatchFilter, cursor: Cursor | null, signal: AbortSignal): AsyncIterable<Watched>;
  /** Calls back after the next change of this generation or batch. */
  onChange(id: GenerationId, listener: () => void): Disposable;
}

/** Undelivered events a watcher may pile up before it is cut off. */
const MAX_BEHIND = 10_000;
const REPLAY_PAGE = 200;

class Subscription {
  readonly filter: WatchFilter;
  readonly #ids: ReadonlySet<GenerationId> | null;
  readonly #events: Recorded[] = [];
  readonly #progress = new Map<GenerationId, ProgressNote>();
  #overrun = false;
  #wake: (() => void) | null = null;

  constructor(filter: WatchFilter) {
    this.filter = filter;
    this.#ids = filter.generationIds ? new Set(filter.generationIds) : null;
  }

  #wants(workspaceId: WorkspaceId, id: GenerationId, batchId: string | null): boolean {
    const { filter } = this;
    if (workspaceId !== filter.workspaceId) return false;
    if (this.#ids) return this.#ids.has(id);
    return filter.batchId === undefined || filter.batchId === batchId;
  }

  event(recorded: Recorded): void {
    const { workspaceId, batchId } = recorded.stored;
    const id = recorded.type === 'generation' ? recorded.generation.id : recorded.batch.id;
    if (!this.#wants(workspaceId, id, batchId)) return;
    this.#progress.delete(id);
    if (this.#events.length >= MAX_BEHIND) this.#overrun = true;
    else this.#events.push(recorded);
    this.#wake?.();
  }

  note(note: ProgressNote): void {
    if (!this.filter.progress || !this.#wants(note.workspaceId, note.id, note.batchId)) return;
    this.#progress.set(note.id, note);
    this.#wake?.();
  }

  /** Everything waiting; waits for something when there is nothing. Events before progress. */
  async take(signal: AbortSignal): Promise<readonly (Recorded | ProgressNote)[]> {
    while (this.#events.length === 0 && this.#progress.size === 0 && !this.#overrun) {
      signal.throwIfAborted();
      await new Promise<void>((resolve) => {
        const done = () => {
          signal.removeEventListener('abort', done);
          this.#wake = null;
          resolve();
        };
        this.#wake = done;
        signal.addEventListener('abort', done, { once: true });
      });
      signal.throwIfAborted();
    }
    if (this.#overrun)
      throw new GatewayError('rate_limited', 'This watcher fell too far behind; reconnect with the last cursor.');
    const taken = [...this.#events.splice(0), ...this.#progress.values()];
    this.#progress.clear();
    return taken;
  }
}

export function createHub(events: Events): Hub {
  const subscriptions = new Set<Subscription>();
  const listeners = new Map<GenerationId, Set<() => void>>();

  return {
    publish(recorded) {
      for (const one of recorded) {
        for (const subscription of subscriptions) subscription.event(one);
        const id = one.type === 'generation' ? one.generation.id : one.batch.id;
        for (const listener of listeners.get(id) ?? []) listener();
      }
    },
    progress(note) {
      for (const subscription of subscriptions) subscription.note(note);
    },
    onChange(id, listener) {
      const mine = listeners.get(id) ?? new Set();
      listeners.set(id, mine.add(listener));
      return {
        [Symbol.dispose]() {
          mine.delete(listener);
          if (mine.size === 0 && listeners.get(id) === mine) listeners.delete(id);
        },
      };
    },
    async *watch(filter, cursor, signal) {
      const subscription = new Subscription(filter);
      subscriptions.add(subscription);
      try {
        let at = cursor ?? (await events.latest());
        if (cursor !== null) {
          for await (const watched of replay(events, filter, cursor)) {
            at = watched.stored.cursor;
            yield watched;
          }
        }
        yield { type: 'ready', cursor: at };
        for (;;) {
          for (const item of await subscription.take(signal)) {
            if (item.type === 'progress') yield item;
            else if (item.stored.cursor > at) yield* told(item);
          }
        }
      } finally {
        subscriptions.delete(subscription);
      }
    },
  };
}

function* told(one: Recorded): Iterable<Watched> {
  if (one.type === 'batch') {
    if (BATCH_ANNOUNCED[one.stored.event.type] !== null) yield { type: 'batch', stored: one.stored };
  } else if (ANNOUNCED[one.stored.event.type] !== null) {
    yield { type: 'event', stored: one.stored, generation: one.generation };
  }
}

async function* replay(events: Events, filter: WatchFilter, from: Cursor) {
  let at = from;
  for (;;) {
    const page = await events.after(at, filter, REPLAY_PAGE);
    if (page === null)
      throw new GatewayError('invalid_request', 'The cursor is unknown or expired; start without one.');
    for (const stored of page) {
      at = stored.cursor;
      if ('batch' in stored) {
        if (BATCH_ANNOUNCED[stored.event.type] !== null) yield { type: 'batch', stored } as const;
        continue;
      }
      if (ANNOUNCED[stored.event.type] === null) continue;
      const generation = await events.generationAt(stored.generationId, stored.seq);
      if (generation !== null) yield { type: 'event', stored, generation } as const;
    }
    if (page.length < REPLAY_PAGE) return;
    await turn();
  }
}

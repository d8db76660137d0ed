// Every change of a generation passes here: append it, and once it is committed, keep the backlog, the running set and
// the cache of recent generations in step and tell the hub. Nothing unstored is ever told.

import type { GenerationEvent } from '../domain/event.ts';
import { accepts } from '../domain/event.ts';
import { type Generation, isFinal, isHeld } from '../domain/generation.ts';
import type { GenerationId, WorkspaceId } from '../domain/units.ts';
import type { Moved, Recorded, Store } from '../store/store.ts';
import type { Backlog } from './backlog.ts';
import type { Hub } from './hub.ts';

/** Recent generations kept in memory, for polls. */
const RECENT = 2_000;

export interface Recorder {
  get(id: GenerationId): Promise<Generation | null>;
  /** The newest known state without asking the store; undefined when it is not among the recent. */
  recent(id: GenerationId): Generation | undefined;
  /** Appends to this very state; null when someone moved first. */
  append(current: Generation, event: GenerationEvent): Promise<Generation | null>;
  /** Appends to whatever state it is in now, trying again when someone moves first; the unchanged generation when the event no longer applies. */
  insist(
    id: GenerationId,
    event: GenerationEvent,
  ): Promise<{ readonly generation: Generation; readonly moved: boolean } | null>;
  running(workspace?: WorkspaceId): number;
  /** Takes note of generations found running at start. */
  adopt(g: Generation): void;
  /** Something moved that the scheduler may care about. */
  onMove(listener: (recorded: readonly Recorded[]) => void): void;
  readonly finished: ReadonlyMap<string, number>;
  readonly charged: number;
}

export function createRecorder(store: Store, backlog: Backlog, hub: Hub): Recorder {
  const recent = new Map<GenerationId, Generation>();
  const running = new Map<GenerationId, WorkspaceId>();
  const perWorkspace = new Map<WorkspaceId, number>();
  const finished = new Map<string, number>();
  const listeners: ((recorded: readonly Recorded[]) => void)[] = [];
  let charged = 0;

  const remember = (g: Generation) => {
    recent.delete(g.id);
    recent.set(g.id, g);
    if (recent.size > RECENT) recent.delete(recent.keys().next().value as GenerationId);
  };
  const runs = (g: Generation, on: boolean) => {
    if (running.has(g.id) === on) return;
    if (on) running.set(g.id, g.workspaceId);
    else running.delete(g.id);
    perWorkspace.set(g.workspaceId, (perWorkspace.get(g.workspaceId) ?? 0) + (on ? 1 : -1));
  };
  const keepUp = ({ before, generation, stored }: Moved) => {
    if (before !== null || !isHeld(generation)) remember(generation);
    const waited = before?.state.status === 'queued' && !isHeld(before);
    const waits = generation.state.status === 'queued' && !isHeld(generation);
    if (waited && before) backlog.removed(before, stored.event.type === 'started' ? stored.event.at : null);
    if (waits) backlog.added(generation);
    runs(generation, generation.state.status === 'running');
    if (isFinal(generation)) {
      const key = `${generation.model}\n${generation.state.status}`;
      finished.set(key, (finished.get(key) ?? 0) + 1);
      charged += generation.charged;
    }
  };
  store.onCommit((recorded) => {
    for (const one of recorded) if (one.type === 'generation') keepUp(one);
    hub.publish(recorded);
    for (const listener of listeners) listener(recorded);
  });

  const append = async (current: Generation, event: GenerationEvent) => {
    const moved = await store.generations.append(current, event);
    if (moved === null) recent.delete(current.id);
    return moved?.generation ?? null;
  };
  const get = async (id: GenerationId) => {
    const known = recent.get(id);
    if (known) return known;
    const stored = await store.generations.get(id);
    const raced = recent.get(id);
    if (raced) return raced;
    if (stored) remember(stored);
    return stored;
  };

  return {
    get,
    recent: (id) => recent.get(id),
    append,
    async insist(id, event) {
      for (;;) {
        const current = await get(id);
        if (current === null) return null;
        if (!accepts(current, event.type)) return { generation: current, moved: false };
        const next = await append(current, event);
        if (next !== null) return { generation: next, moved: true };
      }
    },
    running: (workspace) => (workspace === undefined ? running.size : (perWorkspace.get(workspace) ?? 0)),
    adopt(g) {
      remember(g);
      runs(g, true);
    },
    onMove: (listener) => void listeners.push(listener),
    finished,
    get charged() {
      return charged;
    },
  };
}

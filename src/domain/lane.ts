// Lanes: waiting work that is alike for placement (one workspace, class, batch, model and set of needs). The
// scheduler looks at the head of each lane only, so a decision costs the same whatever the backlog.

import type { Generation, Priority } from './generation.ts';
import type { GenerationId, Millis, ModelId, WorkspaceId } from './units.ts';

export interface Lane {
  readonly key: string;
  readonly workspaceId: WorkspaceId;
  readonly priority: Priority;
  readonly batchId: string | null;
  readonly model: ModelId;
  /** LoRA names every node must have, sorted. */
  readonly loras: readonly string[];
  /** Input pictures given: they decide which routes and workflows fit. */
  readonly pictures: readonly ('init_image' | 'mask')[];
  /** May an equivalent model stand in? */
  readonly fallback: boolean;
  /** Places (`placeOf`) that failed this work before. */
  readonly avoid: readonly string[];
  /** Items of a batch, which may hold them back; `batchId` is only a label otherwise. */
  readonly items: boolean;
}

/** The lane of a queued generation. The key is stored, so `parseLane` can read it back without the generation. */
export function laneOf(
  g: Pick<Generation, 'workspaceId' | 'priority' | 'batchId' | 'model' | 'params' | 'fallback' | 'avoid' | 'item'>,
): Lane {
  const loras = g.params.loras.map((l) => l.name).sort();
  const avoid = [...g.avoid].sort();
  const pictures = [
    ...(g.params.initImage === null ? [] : ['init_image' as const]),
    ...(g.params.mask === null ? [] : ['mask' as const]),
  ];
  const fallback = g.fallback === 'model';
  const items = g.item !== null;
  const parts = [g.workspaceId, g.priority, g.batchId, g.model, loras, pictures, fallback, avoid];
  const key = JSON.stringify(items ? [...parts, items] : parts);
  return {
    key,
    workspaceId: g.workspaceId,
    priority: g.priority,
    batchId: g.batchId,
    model: g.model,
    loras,
    pictures,
    fallback,
    avoid,
    items,
  };
}

export function parseLane(key: string): Lane {
  const [workspaceId, priority, batchId, model, loras, pictures, fallback, avoid, items = false] = JSON.parse(key) as [
    WorkspaceId,
    Priority,
    string | null,
    ModelId,
    string[],
    Lane['pictures'],
    boolean,
    string[],
    true?,
  ];
  return { key, workspaceId, priority, batchId, model, loras, pictures, fallback, avoid, items };
}

/** A queued generation as the scheduler holds it. */
export interface QueuedStub {
  readonly id: GenerationId;
  readonly createdAt: Millis;
  readonly notBefore: Millis;
  readonly startBy: Millis | null;
}

/** No retry is postponed for longer. */
export const LONGEST_POSTPONEMENT_MS = 300_000;

/** May it start now? One postponed for longer than any retry is was postponed by a clock that was set back since. */
export const isDue = (stub: QueuedStub, now: Millis): boolean =>
  stub.notBefore <= now || stub.notBefore > now + LONGEST_POSTPONEMENT_MS;

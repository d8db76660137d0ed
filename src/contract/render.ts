// Generation → wire body. Pure: what it cannot know from the generation comes in as `View`.

import type { Generation } from '../domain/generation.ts';
import { toCredits, toTimestamp } from '../domain/units.ts';
import { renderGenerationError } from './errors.ts';
import type { GenerationBody, QueueReason } from './generations.ts';

/** What changes without an event: progress, place in the queue, estimates, links. */
export interface View {
  readonly progress: { readonly fraction: number; readonly message: string } | null;
  readonly queue: { readonly position: number | null; readonly reason: QueueReason } | null;
  /** Seconds from now until done, ≥ 1; null when final. */
  readonly estimatedSeconds: number | null;
  readonly pollAfterSeconds: number | null;
  /** Absolute URL of an output or thumbnail; null when the file is gone or there is none. */
  readonly link: (index: number, what: 'output' | 'thumbnail') => string | null;
}

export function renderGeneration(g: Generation, view: View): GenerationBody {
  const { params: p, state } = g;
  const outputs =
    state.status === 'succeeded'
      ? state.outputs.map((o) => ({
          index: o.index,
          url: view.link(o.index, 'output'),
          thumbnail_url: o.thumbnail === null ? null : view.link(o.index, 'thumbnail'),
          media_type: o.mediaType,
          kind: o.kind,
          width: o.width,
          height: o.height,
          bytes: o.bytes,
          sha256: o.sha256,
          seed: o.seed,
          expires_at: toTimestamp(o.expiresAt),
        }))
      : [];
  const final = state.status !== 'queued' && state.status !== 'running';
  const first = outputs[0]?.url ?? null;
  const startedAt = g.attempts.at(-1)?.startedAt;
  return {
    id: g.id,
    status: state.status,
    model: g.model,
    ...(g.requestedModel === null ? {} : { requested_model: g.requestedModel }),
    created_at: toTimestamp(g.createdAt),
    ...(startedAt === undefined ? {} : { started_at: toTimestamp(startedAt) }),
    ...(final ? { finished_at: toTimestamp(state.finishedAt) } : {}),
    ...(view.estimatedSeconds === null ? {} : { estimated_seconds: view.estimatedSeconds }),
    ...(view.pollAfterSeconds === null ? {} : { poll_after_seconds: view.pollAfterSeconds }),
    ...(state.status === 'queued' && view.queue
      ? { queue_position: view.queue.position, queue_reason: view.queue.reason }
      : {}),
    ...(state.status === 'running' && view.progress ? { progress: { ...view.progress } } : {}),
    ...(state.status === 'succeeded' ? { url: first, output_url: first } : {}),
    outputs,
    prompt: p.prompt,
    negative_prompt: p.negativePrompt,
    seed: p.seed,
    width: p.width,
    height: p.height,
    steps: p.steps,
    guidance: p.guidance,
    sampler: p.sampler,
    scheduler: p.scheduler,
    strength: p.strength,
    n: p.n,
    loras: p.loras.map((l) => ({ ...l })),
    inputs: { ...p.inputs },
    priority: g.priority,
    batch_id: g.batchId,
    metadata: { ...g.metadata },
    ...(g.previousId === null ? {} : { previous_id: g.previousId }),
    ...(final ? { credits_charged: toCredits(g.charged) } : { credits_reserved: toCredits(g.reserved) }),
    ...(state.status === 'failed' || state.status === 'timeout' || state.status === 'cancelled'
      ? { reason: state.failure.message, error: renderGenerationError(state.failure) }
      : {}),
    attempts: g.attempts.map((a) => ({
      n: a.n,
      node: a.node,
      backend: a.backend,
      model: a.model,
      started_at: toTimestamp(a.startedAt),
      finished_at: a.finishedAt === null ? null : toTimestamp(a.finishedAt),
      outcome: a.outcome,
    })),
    warnings: [...g.warnings],
  };
}

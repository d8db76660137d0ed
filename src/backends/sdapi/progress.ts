// How far a server is, and with whose work. /internal/progress answers for one task; /sdapi/v1/progress describes
// whatever runs, somebody's own picture included, so what it says counts as ours only when it can hardly be another's.

import { z } from 'zod';
import type { RunEvent } from '../backend.ts';
import { json, type Wire } from './wire.ts';

const Running = z.object({
  progress: z.number(),
  state: z.object({
    skipped: z.boolean().optional(),
    interrupted: z.boolean().optional(),
    job: z.string().nullish(),
    job_count: z.number().optional(),
    job_no: z.number().optional(),
    job_timestamp: z.string().nullish(),
    sampling_step: z.number().optional(),
    sampling_steps: z.number().optional(),
  }),
  current_image: z.string().nullish(),
});
export type Running = z.infer<typeof Running>;

const Task = z.object({
  active: z.boolean(),
  queued: z.boolean(),
  completed: z.boolean(),
  progress: z.number().nullish(),
  live_preview: z.string().nullish(),
  id_live_preview: z.number().nullish(),
});
export type Task = z.infer<typeof Task>;

/** Null where the server has no such route. */
export const lookAtServer = (wire: Wire, signal: AbortSignal, previews = false): Promise<Running | null> =>
  wire.find(`/sdapi/v1/progress?skip_current_image=${!previews}`, Running, { signal });

export const lookAtTask = (
  wire: Wire,
  task: string,
  signal: AbortSignal,
  preview: number | null = null,
): Promise<Task | null> =>
  wire.find('/internal/progress', Task, {
    signal,
    post: json({ id_task: task, id_live_preview: preview ?? -1, live_preview: preview !== null }),
  });

/** Is it working? `ghost`: the time stamp of a job known to be over, which some servers go on showing after a failure. */
export function isBusy(running: Running | null, ghost: string | null): boolean {
  if (running === null) return false;
  const { job, job_count, job_timestamp } = running.state;
  const works = running.progress > 0 || Boolean(job) || (job_count ?? 0) !== 0;
  return works && (ghost === null || job_timestamp !== ghost);
}

/** What is known of the job whose progress is wanted. */
export interface Expected {
  readonly steps: number;
  readonly n: number;
  /** The time stamp of the work that ran before ours was sent. */
  readonly before: string | null;
}

/** May what the server runs be taken for the expected job? */
export function isProbablyOurs({ state }: Running, { steps, before }: Expected): boolean {
  if (state.job?.startsWith('task(')) return false;
  if (before !== null && state.job_timestamp === before) return false;
  return (state.sampling_steps ?? 0) <= steps + 1;
}

/** `progress` of either route runs over all pictures of the job. */
export function tellProgress(progress: number, { steps, n }: Expected): RunEvent {
  const fraction = Math.min(1, Math.max(0, progress));
  const done = fraction * n;
  const picture = Math.min(n, Math.floor(done) + 1);
  const step = Math.min(steps, Math.round((done - (picture - 1)) * steps));
  const of = n > 1 ? ` of picture ${picture}/${n}` : '';
  const message = step === 0 && picture === 1 ? 'loading model' : `denoising step ${step}/${steps}${of}`;
  return { type: 'progress', fraction: fraction * 0.95, message };
}

const MAX_PREVIEW_LETTERS = 4 * 1024 * 1024;

/** A live preview, with or without `data:` in front. */
export function tellPreview(letters: string | null | undefined): RunEvent | null {
  if (!letters || letters.length > MAX_PREVIEW_LETTERS) return null;
  const [, declared, bare] = /^(?:data:([\w/+.-]+);base64,)?(.*)$/s.exec(letters) ?? [];
  return { type: 'preview', mediaType: declared ?? 'image/png', bytes: Buffer.from(bare ?? '', 'base64') };
}

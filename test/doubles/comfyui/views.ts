// What the box shows of its queue and history: queue items, history entries, and the newer jobs API over the same two.

import type { Box, HistoryEntry } from './box.ts';
import { withoutSecrets } from './prompts.ts';
import type { Prompt } from './queue.ts';
import type { Profile } from './settings.ts';

export function queueView(box: Box, profile: Profile): unknown {
  const item = (prompt: Prompt) => {
    const extra = profile === 'B' ? withoutSecrets(prompt.extra) : prompt.extra;
    return [prompt.number, prompt.id, prompt.graph, extra, prompt.outputs];
  };
  return {
    queue_running: box.running ? [item(box.running)] : [],
    queue_pending: box.pending.list().map(item),
  };
}

export function historyView({ prompt, outcome }: HistoryEntry, profile: Profile): unknown {
  const success = outcome.ended === 'success';
  return {
    prompt: [prompt.number, prompt.id, prompt.graph, withoutSecrets(prompt.extra), prompt.outputs],
    outputs: outcome.outputs,
    status: { status_str: success ? 'success' : 'error', completed: success, messages: outcome.messages },
    ...(profile === 'old' ? {} : { meta: outcome.meta }),
  };
}

interface JobView {
  readonly id: string;
  readonly status: 'pending' | 'in_progress' | 'completed' | 'failed' | 'cancelled';
  readonly create_time?: number;
  readonly execution_start_time?: number;
  readonly execution_end_time?: number;
  readonly [more: string]: unknown;
}

const ENDED = { success: 'completed', error: 'failed', interrupted: 'cancelled' } as const;

export function jobViews(box: Box): JobView[] {
  const done = [...box.history.values()].map(finishedJob);
  const live = box.running ? [openJob(box.running, 'in_progress')] : [];
  return [...done, ...live, ...box.pending.list().map((prompt) => openJob(prompt, 'pending'))];
}

/** One job with its outputs and graph; null when the box knows nothing of it. */
export function jobView(box: Box, id: string): unknown {
  const job = jobViews(box).find((one) => one.id === id);
  if (!job) return null;
  const entry = box.history.get(id);
  const prompt = entry?.prompt ?? [box.running, ...box.pending.list()].find((one) => one?.id === id);
  const { graph = {}, extra = {} } = prompt ?? {};
  const ended = entry ? { outputs: entry.outcome.outputs, execution_status: statusOf(entry) } : {};
  return { ...job, ...ended, workflow: { prompt: graph, extra_data: withoutSecrets(extra) } };
}

const statusOf = (entry: HistoryEntry) => (historyView(entry, 'B') as { status: unknown }).status;

const openJob = (prompt: Prompt, status: 'pending' | 'in_progress'): JobView => ({
  id: prompt.id,
  status,
  priority: prompt.number,
  create_time: Number(prompt.extra.create_time ?? 0),
  outputs_count: 0,
  ...workflowId(prompt),
});

function finishedJob({ prompt, outcome }: HistoryEntry): JobView {
  const times = outcome.messages.map(([, data]) => Number(data.timestamp ?? 0));
  const [type, failure] = outcome.messages.at(-1) ?? [];
  const files = Object.entries(outcome.outputs).flatMap(([nodeId, ui]) =>
    Object.entries(ui as Record<string, unknown[]>).flatMap(([mediaType, items]) =>
      items
        .filter((item): item is object => item !== null && typeof item === 'object')
        .map((item) => ({ ...item, nodeId, mediaType })),
    ),
  );
  return {
    id: prompt.id,
    status: ENDED[outcome.ended],
    priority: prompt.number,
    create_time: Number(prompt.extra.create_time ?? 0),
    execution_start_time: times[0] ?? 0,
    execution_end_time: times.at(-1) ?? 0,
    outputs_count: files.length,
    previewable_outputs_count: files.length,
    ...(files[0] ? { preview_output: files[0] } : {}),
    ...(type === 'execution_error' ? { execution_error: failure } : {}),
    ...workflowId(prompt),
  };
}

function workflowId({ extra }: Prompt): { workflow_id?: string } {
  const workflow = (extra.extra_pnginfo as { workflow?: { id?: string } } | undefined)?.workflow;
  return workflow?.id === undefined ? {} : { workflow_id: workflow.id };
}

const STATUSES = ['pending', 'in_progress', 'completed', 'failed', 'cancelled'];

/** GET /api/jobs. Returns a text instead where a parameter is wrong. */
export function jobList(box: Box, query: URLSearchParams): string | object {
  const wanted = query.get('status')?.split(',') ?? STATUSES;
  const odd = wanted.find((status) => !STATUSES.includes(status));
  if (odd !== undefined) return `Invalid status value(s): ${odd}`;
  const [limit, offset] = [Number(query.get('limit') ?? 1000), Number(query.get('offset') ?? 0)];
  if (!Number.isInteger(limit) || limit < 1) return 'limit must be a positive integer';
  if (!Number.isInteger(offset) || offset < 0) return 'offset must be a non-negative integer';
  const by = query.get('sort_by') ?? 'created_at';
  if (by !== 'created_at' && by !== 'execution_duration') return 'sort_by must be created_at or execution_duration';
  const value = (job: JobView) =>
    by === 'created_at' ? (job.create_time ?? 0) : (job.execution_end_time ?? 0) - (job.execution_start_time ?? 0);
  const sign = query.get('sort_order') === 'asc' ? 1 : -1;
  const workflow = query.get('workflow_id');
  const all = jobViews(box)
    .filter((job) => wanted.includes(job.status) && (workflow === null || job.workflow_id === workflow))
    .sort((a, b) => sign * (value(a) - value(b)));
  const jobs = all.slice(offset, offset + limit);
  return { jobs, pagination: { offset, limit, total: all.length, has_more: offset + jobs.length < all.length } };
}

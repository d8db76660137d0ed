// The HTTP face of one ComfyUI server: one function per endpoint used, always under /api, which every generation of the
// server (and its hosted kin) has. Every answer is bounded and parsed here; nothing above sees a URL.
// Transport failures leave as HttpError, unexpected answers as Unexpected; the callers decide what they mean.

import { openAsBlob } from 'node:fs';
import type { z } from 'zod';
import type { NodeSpec } from '../../domain/node.ts';
import { HttpError, type HttpRequest, type HttpResponse, type System } from '../../system/system.ts';
import {
  type AcceptedReply,
  acceptedReply,
  classReply,
  type HistoryEntry,
  historyReply,
  parseJson,
  queueReply,
  type RefusedReply,
  refusedReply,
  remainingReply,
  type StatsReply,
  statsReply,
  uploadReply,
} from './replies.ts';

const QUICK_MS = 10_000;
const SUBMIT_MS = 30_000;
const UPLOAD_MS = 120_000;
const FILE_MS = 600_000;
const CATALOG_MS = 300_000;
const RECORD_BYTES = 64 * 1024 * 1024;
const CATALOG_BYTES = 256 * 1024 * 1024;
const FILE_BYTES = 2 * 1024 * 1024 * 1024;

/** The server answered, but not what was asked for. */
export class Unexpected extends Error {
  readonly status: number;
  constructor(status: number, what: string) {
    super(`${what} (HTTP ${status})`);
    this.name = 'Unexpected';
    this.status = status;
  }
}

export interface QueueItem {
  readonly id: string;
  readonly graph: unknown;
}
export interface Queue {
  readonly running: readonly QueueItem[];
  readonly pending: readonly QueueItem[];
}

/** Where a file lies on the node, as its history tells. */
export interface Place {
  readonly filename: string;
  readonly subfolder: string;
  readonly type: string;
}

export interface Submission {
  readonly prompt: unknown;
  readonly prompt_id: string;
  readonly client_id: string;
  readonly extra_data?: { readonly preview_method: 'auto' | 'none' };
}
export type SubmitAnswer =
  | { readonly type: 'accepted'; readonly reply: AcceptedReply }
  | { readonly type: 'refused'; readonly reply: RefusedReply }
  | { readonly type: 'too_large' };

export type Server = ReturnType<typeof createServer>;

export function createServer(spec: NodeSpec, { http }: Pick<System, 'http'>) {
  const headers = authorization(spec);

  const request = (path: string, more: Partial<HttpRequest>): Promise<HttpResponse> =>
    http.request(`${spec.url}/api${path}`, {
      timeoutMs: QUICK_MS,
      maxBytes: RECORD_BYTES,
      ...more,
      trust: 'node',
      headers: { ...headers, ...more.headers },
    });
  const read = async <T>(schema: z.ZodType<T>, response: HttpResponse, what: string): Promise<T> => {
    const raw = await response.text();
    if (!response.ok) throw new Unexpected(response.status, what);
    return understand(schema, raw, response.status, what);
  };
  const getOnce = async <T>(schema: z.ZodType<T>, path: string, signal: AbortSignal): Promise<T> =>
    read(schema, await request(path, { signal }), `GET ${path.split('?')[0]}`);
  /** An idle connection may have been closed by the server at the moment we use it: asking again costs nothing. */
  const get = <T>(schema: z.ZodType<T>, path: string, signal: AbortSignal): Promise<T> =>
    getOnce(schema, path, signal).catch((error: unknown) => {
      if (error instanceof HttpError && error.kind === 'cut') return getOnce(schema, path, signal);
      throw error;
    });
  const post = (path: string, body: unknown, signal: AbortSignal, timeoutMs = QUICK_MS): Promise<HttpResponse> =>
    request(path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      timeoutMs,
      signal,
    });
  /** For endpoints that answer 200 with nothing in it. */
  const command = async (path: string, body: unknown, signal: AbortSignal): Promise<void> => {
    const response = await post(path, body, signal);
    response.discard();
    if (!response.ok) throw new Unexpected(response.status, `POST ${path}`);
  };

  return {
    stats: (signal: AbortSignal): Promise<StatsReply> => get(statsReply, '/system_stats', signal),
    remaining: async (signal: AbortSignal): Promise<number> =>
      (await get(remainingReply, '/prompt', signal)).exec_info.queue_remaining,
    /** Does it have the Jobs API (and with it an atomic cancel)? */
    async hasJobs(signal: AbortSignal): Promise<boolean> {
      const response = await request('/jobs?limit=1', { signal });
      response.discard();
      return response.ok;
    },
    async queue(signal: AbortSignal): Promise<Queue> {
      const { queue_running, queue_pending } = await get(queueReply, '/queue', signal);
      const item = ([, id, graph]: readonly [number, string, ...unknown[]]) => ({ id, graph });
      return { running: queue_running.map(item), pending: queue_pending.map(item) };
    },
    history: async (id: string, signal: AbortSignal): Promise<HistoryEntry | null> =>
      (await get(historyReply, `/history/${encodeURIComponent(id)}`, signal))[id] ?? null,
    /** The newest few, for finding a prompt whose id is not known. */
    recent: (signal: AbortSignal): Promise<Record<string, HistoryEntry>> =>
      get(historyReply, '/history?max_items=16', signal),
    /** The choices of every combo input of one node class; null when the server lacks the class. */
    async choices(className: string, signal: AbortSignal): Promise<Record<string, readonly string[]> | null> {
      const info = (await get(classReply, `/object_info/${className}`, signal))[className];
      return info ? combos({ ...info.input.optional, ...info.input.required }) : null;
    },
    /** Every node class. Tens of megabytes on a box full of custom nodes, and slow: to be read as a stream. */
    async catalog(signal: AbortSignal) {
      const response = await request('/object_info', { timeoutMs: CATALOG_MS, maxBytes: CATALOG_BYTES, signal });
      if (response.ok) return response.stream();
      response.discard();
      throw new Unexpected(response.status, 'GET /object_info');
    },
    async submit(submission: Submission, signal: AbortSignal): Promise<SubmitAnswer> {
      const response = await post('/prompt', submission, signal, SUBMIT_MS);
      const raw = await response.text();
      const reading = <T>(schema: z.ZodType<T>) => understand(schema, raw, response.status, 'POST /prompt');
      if (response.ok) return { type: 'accepted', reply: reading(acceptedReply) };
      if (response.status === 400) return { type: 'refused', reply: reading(refusedReply) };
      if (response.status === 413) return { type: 'too_large' };
      throw new Unexpected(response.status, 'POST /prompt');
    },
    dequeue: (id: string, signal: AbortSignal): Promise<void> => command('/queue', { delete: [id] }, signal),
    /** Stops `id` if it runs at this instant. Servers older than September 2025 ignore the id and stop whatever runs. */
    interrupt: (id: string, signal: AbortSignal): Promise<void> => command('/interrupt', { prompt_id: id }, signal),
    /** Cancels atomically, running or pending. False: this server has no such endpoint. */
    async cancelJob(id: string, signal: AbortSignal): Promise<boolean> {
      const response = await post(`/jobs/${encodeURIComponent(id)}/cancel`, {}, signal);
      response.discard();
      if (response.status === 404 || response.status === 405) return false;
      if (!response.ok) throw new Unexpected(response.status, 'POST /jobs/{id}/cancel');
      return true;
    },
    /** Returns the name under which LoadImage finds it. */
    async upload(path: string, name: string, mediaType: string, signal: AbortSignal): Promise<string> {
      const form = new FormData();
      form.append('image', await openAsBlob(path, { type: mediaType }), name);
      form.append('subfolder', 'darkroom');
      form.append('type', 'input');
      const response = await request('/upload/image', { method: 'POST', body: form, timeoutMs: UPLOAD_MS, signal });
      const saved = await read(uploadReply, response, 'POST /upload/image');
      return saved.subfolder ? `${saved.subfolder}/${saved.name}` : saved.name;
    },
    view: ({ filename, subfolder, type }: Place, signal: AbortSignal): Promise<HttpResponse> =>
      request(`/view?${new URLSearchParams({ filename, subfolder, type })}`, {
        timeoutMs: FILE_MS,
        maxBytes: FILE_BYTES,
        signal,
      }),
  };
}

function understand<T>(schema: z.ZodType<T>, raw: string, status: number, what: string): T {
  let body: unknown;
  try {
    body = parseJson(raw);
  } catch {
    throw new Unexpected(status, `${what} is not answered with JSON`);
  }
  const parsed = schema.safeParse(body);
  if (!parsed.success) throw new Unexpected(status, `${what} is answered in an unknown form`);
  return parsed.data;
}

/** A node behind a proxy may want a password; ComfyUI itself has none. */
export function authorization({ auth }: NodeSpec): Readonly<Record<string, string>> {
  if (!auth) return {};
  return { authorization: `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}` };
}

/** Nobody listens at that address: the process is gone, and with it its queue and its history. */
export function isProcessGone(error: unknown): boolean {
  return error instanceof HttpError && (error.cause as { code?: unknown } | undefined)?.code === 'ECONNREFUSED';
}

/** Both spellings of a combo: `[[choices], {…}]`, and the newer `["COMBO", {options: [choices]}]`. */
function combos(inputs: Record<string, unknown[]>): Record<string, readonly string[]> {
  const found: Record<string, readonly string[]> = {};
  for (const [name, [type, more]] of Object.entries(inputs)) {
    const listed = type === 'COMBO' ? (more as { options?: unknown } | undefined)?.options : type;
    if (Array.isArray(listed)) found[name] = listed.filter((choice) => typeof choice === 'string');
  }
  return found;
}

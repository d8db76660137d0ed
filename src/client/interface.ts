// The client as its users see it: options, calls, answers. Types only; client.ts hands them out.

import type { BatchBody, BatchRequest, DryRunBody, ReportBody } from '../contract/batches.ts';
import type { CreditsBody } from '../contract/credits.ts';
import type { GenerationBody, GenerationRequest } from '../contract/generations.ts';
import type { ModelBody } from '../contract/models.ts';
import type { Frame } from '../contract/socket.ts';

export interface ClientOptions {
  /** `http://127.0.0.1:8787`; with or without trailing slash. */
  readonly url: string;
  /** `dk_…` */
  readonly key: string;
  /** Instead of the platform's own. */
  readonly fetch?: typeof globalThis.fetch;
  readonly WebSocket?: typeof globalThis.WebSocket;
  /** Resolves after `ms`, rejects with the signal's reason when it aborts; for tests. */
  readonly sleep?: (ms: number, signal?: AbortSignal) => Promise<void>;
}

export interface Page<T> {
  readonly data: readonly T[];
  readonly next_cursor: string | null;
}

export interface CallOptions {
  readonly signal?: AbortSignal;
}

export interface GenerateOptions extends CallOptions {
  /** Each state it was seen in, progress included. */
  readonly onUpdate?: (generation: GenerationBody) => void;
}

export interface ListQuery {
  readonly limit?: number;
  readonly cursor?: string;
  readonly status?: string;
  readonly model?: string;
  readonly batch_id?: string;
  readonly since?: string;
  readonly metadata?: Readonly<Record<string, string>>;
}

export interface UsageQuery {
  readonly from?: string;
  readonly to?: string;
  readonly group_by?: string;
}

export interface UsageRow {
  readonly key: string | null;
  readonly jobs: number;
  readonly outputs: number;
  readonly credits: number;
  readonly node_seconds: number;
}

export interface ItemBody {
  readonly index: number;
  readonly key: string;
  readonly generation: GenerationBody;
}

/** What may be left out of a batch request has the gateway's defaults. */
export type NewBatch = Partial<Omit<BatchRequest, 'items' | 'dry_run' | 'breaker'>> & {
  readonly items?: readonly GenerationRequest[];
  /** False: never pauses. */
  readonly breaker?: false | Partial<Exclude<BatchRequest['breaker'], false>>;
};

export interface BatchCalls {
  create(request: NewBatch, options?: CallOptions): Promise<BatchBody>;
  dryRun(request: NewBatch, options?: CallOptions): Promise<DryRunBody>;
  get(id: string, options?: CallOptions): Promise<BatchBody>;
  list(query?: { readonly limit?: number; readonly cursor?: string }, options?: CallOptions): Promise<Page<BatchBody>>;
  /** In order of their index. */
  items(
    id: string,
    query?: { readonly limit?: number; readonly cursor?: string; readonly status?: string },
    options?: CallOptions,
  ): Promise<Page<ItemBody>>;
  append(id: string, items: readonly GenerationRequest[], options?: CallOptions): Promise<BatchBody>;
  pause(id: string, options?: CallOptions): Promise<BatchBody>;
  resume(id: string, options?: CallOptions): Promise<BatchBody>;
  cancel(id: string, options?: CallOptions): Promise<BatchBody>;
  retryFailed(id: string, options?: CallOptions): Promise<BatchBody>;
  report(id: string, options?: CallOptions): Promise<ReportBody>;
}

export interface WatchOptions extends CallOptions {
  readonly ids?: readonly string[];
  readonly batchId?: string;
  /** Of the last event seen; without it, live from now. */
  readonly cursor?: string;
  /** Default true. */
  readonly progress?: boolean;
}

export interface RunBatchOptions extends CallOptions {
  /** After every poll or event that changed something. */
  readonly onUpdate?: (batch: BatchBody) => void;
  /** Each item once, when it has ended. */
  readonly onItem?: (item: ItemBody) => void;
}

/** A submit's answer: the generation and what it left of the credits. */
export type Submitted = GenerationBody & { readonly replayed: boolean };

export interface Client {
  /** Answers at once with the id to poll. */
  submit(request: GenerationRequest, options?: CallOptions): Promise<Submitted>;
  /**
   * Submits and polls until it has succeeded. One that timed out is asked for once more; one that was refused only
   * with a `softened_prompt`, once; a cancelled one never. Otherwise throws DarkroomError with the generation.
   */
  generate(request: GenerationRequest, options?: GenerateOptions): Promise<GenerationBody>;
  /** `wait`: seconds to hold the answer until it is final, at most 60. */
  get(id: string, options?: CallOptions & { readonly wait?: number }): Promise<GenerationBody>;
  list(query?: ListQuery, options?: CallOptions): Promise<Page<GenerationBody>>;
  cancel(id: string, options?: CallOptions): Promise<GenerationBody>;
  credits(options?: CallOptions): Promise<CreditsBody>;
  models(options?: CallOptions): Promise<readonly ModelBody[]>;
  usage(
    query?: UsageQuery,
    options?: CallOptions,
  ): Promise<{ readonly data: readonly UsageRow[]; readonly total: Omit<UsageRow, 'key'> }>;
  readonly batches: BatchCalls;
  /** Durable events in order, none twice and none missed over reconnects, and progress between them. Ends when the signal aborts. */
  watch(options?: WatchOptions): AsyncIterable<Frame>;
  /** Makes the batch (or takes up the one named), follows it to its end, and answers with the report. */
  runBatch(request: NewBatch | { readonly id: string }, options?: RunBatchOptions): Promise<ReportBody>;
  /** Any other call of the API. `body` goes as JSON. Throws DarkroomError. */
  call<T>(method: string, path: string, body?: unknown, options?: CallOptions): Promise<T>;
  /** The bytes behind an output's URL; no key is sent. */
  download(url: string, options?: CallOptions): Promise<Response>;
}

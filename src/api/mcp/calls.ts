// What each tool does with arguments that were checked. A call that ends early never takes work with it: what was
// submitted stays, its id polls. Only a client of the current revision that goes away means its job too, and only while
// it waits in the queue.

import type { CallToolResult, ContentBlock } from '@modelcontextprotocol/server';
import type { z } from 'zod';
import { isFinal } from '../../contract/final.ts';
import type { GenerationBody } from '../../contract/generations.ts';
import { pageOf } from '../../contract/lists.ts';
import { GatewayError } from '../../domain/failure.ts';
import type { Clock } from '../../system/system.ts';
import { waitMs } from './arguments.ts';
import { generationBody, generationRow, modelMatches, modelRow, submittedBody } from './bodies.ts';
import { type ProgressValue, reportProgress } from './progress.ts';
import { answer, errorBody, links, pictures } from './results.ts';
import type { Studio } from './studio.ts';
import { taskCreated } from './tasks.ts';
import type { ARGUMENTS, ToolName } from './tools.ts';

export interface Call {
  readonly studio: Studio;
  readonly clock: Clock;
  /** Aborted when the client gave the call up or went away. */
  readonly signal: AbortSignal;
  /** Who goes away means its job: the current revision says so, the older ones say the opposite. */
  readonly leavingCancels: boolean;
  /** The client takes a task for an answer. */
  readonly takesTasks: boolean;
  /** Null: nobody asked for progress. */
  readonly notify: ((value: ProgressValue) => Promise<void>) | null;
  /** Told of errors that no answer carries. */
  readonly fault: (error: unknown) => void;
}

type Arguments<Name extends ToolName> = z.output<(typeof ARGUMENTS)[Name]>;
type Calls = { readonly [Name in ToolName]: (args: Arguments<Name>, call: Call) => Promise<CallToolResult> };

/** A picture inside a result; hosts cut results at a megabyte or less. */
const MAX_PREVIEW_BYTES = 150_000;

export const CALLS: Calls = {
  generate_image: generate,
  async get_generation({ id, wait, preview }, call) {
    const g = await heldById(id, waitMs(wait), call);
    const blocks = preview ? await previews(g, call.studio) : [];
    return blocks.length > 0 ? pictures(blocks, generationBody(g)) : answer(generationBody(g), links(g));
  },
  async list_recent_generations({ status, ...query }, { studio }) {
    const page = await studio.list({ ...given(query), ...(status ? { status: status.join(',') } : {}) });
    return answer({ data: page.data.map(generationRow), next_cursor: page.next_cursor });
  },
  get_credits: async (_args, { studio }) => answer({ ...(await studio.credits()) }),
  async list_models({ filter, ...query }, { studio }) {
    const models = await studio.models();
    const wanted = filter === undefined ? models : models.filter((m) => modelMatches(m, filter));
    const page = pageOf(wanted, (m) => m.id, query);
    if (page === null) throw new GatewayError('invalid_request', 'cursor: not one that this list gave out');
    return answer({ data: page.data.map(modelRow), next_cursor: page.next });
  },
  async cancel_generation({ id }, { studio }) {
    return answer(generationBody(await studio.cancel(id)));
  },
};

async function generate({ wait, ...request }: Arguments<'generate_image'>, call: Call): Promise<CallToolResult> {
  const arrivedAt = call.clock.monotonic();
  const { replayed, ...submitted } = await call.studio.submit(request);
  const ms = waitMs(wait) - (call.clock.monotonic() - arrivedAt);
  const g = await held(submitted, ms, call).catch((error) => {
    if (!call.signal.aborted) call.fault(error);
    return submitted; // it is accepted: whatever went wrong while waiting must not cost its id
  });
  if (call.signal.aborted && call.leavingCancels && !replayed) await withdraw(g.id, call);
  if (call.takesTasks && !isFinal(g)) return taskCreated(g);
  const credits_available = await left(submitted, g, call);
  const credits_reserved = g.credits_reserved ?? 0;
  return answer(submittedBody(g, { replayed, credits_reserved, credits_available }), links(g));
}

/** What is left of the credits: as the submit said, unless that is a while ago. */
async function left(submitted: GenerationBody, now: GenerationBody, { studio, fault }: Call): Promise<number> {
  const known = submitted.credits_available ?? 0;
  if (now === submitted) return known;
  return studio.credits().then(
    (credits) => credits.available,
    (error) => {
      fault(error);
      return known;
    },
  );
}

async function heldById(id: string, ms: number, call: Call): Promise<GenerationBody> {
  if (ms <= 0 || call.notify === null) return call.studio.get(id, { wait: ms / 1000, signal: call.signal });
  return held(await call.studio.get(id), ms, call);
}

/** The generation once it is final or `ms` are over, with progress on the way. */
async function held(g: GenerationBody, ms: number, call: Call): Promise<GenerationBody> {
  if (ms <= 0 || isFinal(g)) return g;
  using _progress = reportProgress(g, call);
  return await call.studio.get(g.id, { wait: ms / 1000, signal: call.signal });
}

/** Nobody will read the answer; it is paid for only if it has begun. */
async function withdraw(id: string, { studio, fault }: Call): Promise<void> {
  try {
    const { status } = await studio.get(id);
    if (status === 'queued') await studio.cancel(id, { whileQueued: true });
  } catch (error) {
    fault(error);
  }
}

/** The outputs as small pictures, as many as fit, where there is still something behind their links. */
async function previews(g: GenerationBody, studio: Studio): Promise<ContentBlock[]> {
  const blocks: ContentBlock[] = [];
  let room = MAX_PREVIEW_BYTES;
  for (const { thumbnail_url } of g.outputs) {
    const response = thumbnail_url === null ? null : await opened(thumbnail_url, studio);
    if (response === null) continue;
    const bytes = Buffer.from(await response.arrayBuffer());
    room -= bytes.length;
    if (room < 0) break;
    const mimeType = response.headers.get('content-type') ?? 'image/webp';
    blocks.push({ type: 'image', data: bytes.toString('base64'), mimeType });
  }
  return blocks;
}

/** Null: the link has expired, or the file was just swept. What is known of the generation is an answer all the same. */
async function opened(url: string, studio: Studio): Promise<Response | null> {
  try {
    return await studio.download(url);
  } catch (error) {
    if (['forbidden', 'not_found'].includes(errorBody(error).error.code)) return null;
    throw error;
  }
}

/** Without the keys that were not given. */
const given = <T extends object>(query: T) =>
  Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };

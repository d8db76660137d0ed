// One generation on one node: translate, announce, submit, watch, collect; prompt after prompt where the recipe cannot
// batch. Resuming is the same walk with the first prompts already known.

import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import type { RemoteRef } from '../../domain/generation.ts';
import type { Recipe } from '../../domain/model.ts';
import type { Job, RemoteFile, RunEvent } from '../backend.ts';
import { Refusal } from '../backend.ts';
import { collect } from './collect.ts';
import { openEar } from './ear.ts';
import { GpuLost, requireSuccess } from './outcome.ts';
import { findPrompt } from './presence.ts';
import type { HistoryEntry } from './replies.ts';
import { Unexpected } from './server.ts';
import type { Session } from './session.ts';
import { submit } from './submit.ts';
import { type Circumstances, prefixOf, promptsFor, translate } from './translate.ts';
import { watch } from './watch.ts';

/** What a generation's remote reference holds: its prompts so far, in the order of its outputs. */
const remoteRef = z.object({ promptIds: z.array(z.string().min(1)).min(1) });

/** The prompts a reference names; none when it is not one of ours. */
export const promptsIn = (remote: RemoteRef): readonly string[] => remoteRef.safeParse(remote).data?.promptIds ?? [];

export async function* resume(
  session: Session,
  job: Job,
  remote: RemoteRef,
  signal: AbortSignal,
): AsyncGenerator<RunEvent> {
  const known = promptsIn(remote);
  if (known.length === 0) throw new GatewayError('node_lost', 'Nothing is known about that work.');
  yield* run(session, job, known, signal);
}

interface Part {
  readonly session: Session;
  readonly job: Job;
  readonly recipe: Recipe;
  readonly part: number;
  readonly parts: number;
  /** Ids of all prompts so far; grows. */
  readonly ids: string[];
  readonly signal: AbortSignal;
}

/** `known`: prompts that were submitted in an earlier life. */
export async function* run(
  session: Session,
  job: Job,
  known: readonly string[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent> {
  const { recipe } = job;
  if (!recipe) throw new Refusal('model_error', 'A ComfyUI route needs a workflow.');
  const ids = [...known];
  try {
    const parts = promptsFor(job);
    const uploads: Uploads = {};
    const files: RemoteFile[] = [];
    for (let part = 0; part < parts; part++) {
      const work: Part = { session, job, recipe, part, parts, ids, signal };
      const entry = yield* part < known.length ? adopt(work) : perform(work, uploads);
      files.push(...outputsOf(work, entry));
    }
    yield { type: 'rendered' };
    for (const file of files) yield { type: 'file', file };
  } finally {
    for (const id of ids) session.ours.delete(id);
  }
}

type Uploads = Partial<Record<'init_image' | 'mask', string>>;

async function* perform(work: Part, uploads: Uploads): AsyncGenerator<RunEvent, HistoryEntry> {
  const { session, job, recipe, part, parts, ids, signal } = work;
  const id = session.system.random.uuid();
  remember(work, id);
  yield { type: 'intent', remote: { promptIds: [...ids] } };
  if (Object.keys(uploads).length === 0) await upload(session, job, uploads, signal);
  await session.socket.ready();
  const circumstances: Circumstances = { part, uploads, files: session.choices };
  const graph = translate(job, recipe, circumstances);
  using ear = openEar(session, { id, graph, previews: job.previews, part, parts });
  const prefix = prefixOf(job, part);
  const given = await submit(session, { id, graph, prefix, wanted: recipe.outputs, previews: job.previews }, signal);
  rename(work, given);
  ear.promptId = given;
  yield { type: 'accepted', remote: { promptIds: [...ids] } };
  return yield* watch(session, ear, signal, given === id ? session.limits.pollMs : 0);
}

/** Its events went to the socket of an earlier life, so it is found and polled. */
async function* adopt(work: Part): AsyncGenerator<RunEvent, HistoryEntry> {
  const { session, job, recipe, part, parts, ids, signal } = work;
  const id = ids[part] ?? '';
  const found = await findPrompt(session, id, prefixOf(job, part), signal).catch(() => null);
  signal.throwIfAborted();
  if (found !== null && found !== id) {
    ids[part] = found;
    yield { type: 'accepted', remote: { promptIds: [...ids] } };
  }
  session.ours.add(found ?? id);
  using ear = openEar(session, { id: found ?? id, graph: recipe.graph, previews: job.previews, part, parts });
  return yield* watch(session, ear, signal, 0);
}

function remember({ session, ids }: Part, id: string): void {
  ids.push(id);
  session.ours.add(id);
}

function rename({ session, ids, part }: Part, id: string): void {
  session.ours.delete(ids[part] ?? '');
  session.ours.add(id);
  ids[part] = id;
}

/** Named after their content, so that equal pictures meet and different ones never do. */
async function upload(session: Session, job: Job, uploads: Uploads, signal: AbortSignal): Promise<void> {
  for (const file of job.files) {
    const name = `${file.sha256}.${file.mediaType.split('/')[1] ?? 'png'}`;
    try {
      uploads[file.role] = await session.server.upload(file.path, name, file.mediaType, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof Unexpected && error.status === 413)
        throw new Refusal('model_error', 'The input picture is larger than this node accepts.');
      throw new GatewayError('node_lost', 'The input picture could not be handed to the node.', { cause: error });
    }
  }
}

function outputsOf({ session, job, recipe, ids, part }: Part, entry: HistoryEntry): RemoteFile[] {
  try {
    requireSuccess(entry, session.system.log.child({ generation: job.id, node: session.spec.id }));
  } catch (error) {
    if (error instanceof GpuLost)
      session.wedge = { reason: 'its GPU failed', until: 'prompt_left_history', promptId: ids[part] ?? '' };
    throw error;
  }
  const files = collect(session.server, entry, recipe.outputs);
  if (files.length === 0) throw new GatewayError('model_error', 'The workflow finished without an output.');
  return files;
}

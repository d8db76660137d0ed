// Jobs on stable-diffusion.cpp through its own asynchronous interface: the server gives the id, a waiting job can be
// taken back, a finished one can be fetched for ten minutes. What it never tells is how far it is.

import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import type { RemoteRef } from '../../domain/generation.ts';
import type { Bytes, Millis } from '../../domain/units.ts';
import type { HttpResponse, System } from '../../system/system.ts';
import type { Job, RemoteFile, RunEvent } from '../backend.ts';
import { withPictures } from './body.ts';
import { exception, faultOf } from './faults.ts';
import type { Installed } from './installed.ts';
import type { Shelf } from './shelf.ts';
import { nativeRequest, orderOf } from './translate.ts';
import { json, type Wire } from './wire.ts';

export interface Native {
  run(job: Job, installed: Installed, signal: AbortSignal): AsyncGenerator<RunEvent, void, void>;
  resume(job: Job, remote: RemoteRef, signal: AbortSignal): AsyncGenerator<RunEvent, void, void>;
  cancel(remote: RemoteRef, signal: AbortSignal): Promise<void>;
}

const POLL_MS: Millis = 1_000;
const MAX_ANSWER: Bytes = 1024 * 1024 * 1024;
const MAX_MISSES = 5;

const Remote = z.object({ job: z.string() });
const Accepted = z.object({ id: z.string().min(1).max(200) });
const JobState = z.object({
  status: z.enum(['queued', 'generating', 'completed', 'failed', 'cancelled']),
  queue_position: z.number().nullish(),
  result: z.object({ images: z.array(z.object({ index: z.number(), b64_json: z.string() })).nullish() }).nullish(),
  error: z.object({ code: z.string().nullish(), message: z.string().nullish() }).nullish(),
});
type JobState = z.infer<typeof JobState>;

interface Seen {
  readonly state: JobState;
  readonly picture: (name: string) => RemoteFile | undefined;
}

const jobPath = (id: string) => `/sdcpp/v1/jobs/${encodeURIComponent(id)}`;

export function createNative({ system, wire, shelf }: { system: System; wire: Wire; shelf: Shelf }): Native {
  const { clock } = system;

  async function* run(job: Job, installed: Installed, signal: AbortSignal): AsyncGenerator<RunEvent, void, void> {
    const { path, fields, pictures } = nativeRequest(job, orderOf(job, installed));
    yield { type: 'intent', remote: {} };
    // A look first, so that the POST never goes out on a connection the server is just giving up.
    await wire.find('/sdcpp/v1/capabilities', z.object({}), { signal });
    const response = await wire.ask(path, { signal, post: await withPictures(fields, pictures) });
    if (!response.ok) throw await refused(response, signal);
    const { body } = await shelf.harvest(response.stream(), signal);
    const accepted = Accepted.safeParse(body);
    if (!accepted.success) throw new GatewayError('node_lost', 'The node took the job but gave no id for it.');
    yield { type: 'accepted', remote: { job: accepted.data.id } };
    yield* follow(accepted.data.id, job.params.n, signal);
  }

  const refused = async (response: HttpResponse, signal: AbortSignal) => {
    const { body } = await shelf.harvest(response.stream(), signal).catch(() => ({ body: null }));
    return faultOf(response.status, body, response.header('retry-after')).error;
  };

  async function* follow(id: string, wanted: number, signal: AbortSignal): AsyncGenerator<RunEvent, void, void> {
    let told = '';
    for (;;) {
      const { state, picture } = await look(id, signal);
      if (state.status === 'completed') return yield* deliver(state, picture, wanted);
      if (state.status === 'failed') throw exception(`${state.error?.code} ${state.error?.message}`, state.error).error;
      if (state.status === 'cancelled') throw new GatewayError('node_lost', 'The job was cancelled on the node.');
      const message = state.status === 'queued' ? 'waiting in the queue of the node' : 'generating';
      if (message !== told) yield { type: 'progress', fraction: 0, message };
      told = message;
      await clock.sleep(POLL_MS, signal);
    }
  }

  /** A few looks may fail: the server answers late while it renders. */
  const look = async (id: string, signal: AbortSignal): Promise<Seen> => {
    for (let misses = 1; ; misses++) {
      try {
        return await lookOnce(id, signal);
      } catch (error) {
        signal.throwIfAborted();
        if (misses >= MAX_MISSES || error instanceof Gone) throw error;
        await clock.sleep(POLL_MS * misses, signal);
      }
    }
  };

  const lookOnce = async (id: string, signal: AbortSignal): Promise<Seen> => {
    const response = await wire.ask(jobPath(id), { signal, maxBytes: MAX_ANSWER });
    if (response.status === 404 || response.status === 410) {
      response.discard();
      throw new Gone('node_lost', 'The node no longer knows the job.');
    }
    const { body, picture } = await shelf.harvest(response.stream(), signal);
    const state = JobState.safeParse(body);
    if (!state.success) throw new GatewayError('node_lost', 'The node sent an answer that cannot be read.');
    return { state: state.data, picture };
  };

  function* deliver(state: JobState, picture: Seen['picture'], wanted: number): Generator<RunEvent, void, void> {
    yield { type: 'rendered' };
    const images = [...(state.result?.images ?? [])].sort((a, b) => a.index - b.index).slice(0, wanted);
    const files = images.flatMap(({ b64_json }) => picture(b64_json) ?? []);
    if (files.length === 0) throw new GatewayError('model_error', 'The node finished without an output.');
    for (const file of files) yield { type: 'file', file };
  }

  return {
    run,
    async *resume(job, remote, signal) {
      const { success, data } = Remote.safeParse(remote);
      if (!success) throw new GatewayError('node_lost', 'It is unknown whether the node ever took the job.');
      yield { type: 'accepted', remote };
      yield* follow(data.job, job.params.n, signal);
    },
    async cancel(remote, signal) {
      const { success, data } = Remote.safeParse(remote);
      if (!success) return;
      const response = await wire.ask(`${jobPath(data.job)}/cancel`, { signal, post: json({}) });
      response.discard();
      if (response.status !== 409) return;
      for (;;) {
        const seen = await lookOnce(data.job, signal).catch((error: unknown) => {
          if (error instanceof Gone) return null;
          throw error;
        });
        if (seen === null || (seen.state.status !== 'queued' && seen.state.status !== 'generating')) return;
        await clock.sleep(POLL_MS, signal);
      }
    },
  };
}

/** The server answered, and has no such job. */
class Gone extends GatewayError {}

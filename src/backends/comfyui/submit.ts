// POST /prompt, once. An answer that did not arrive does not mean that nothing was queued, and a repeated POST may run twice
// or kill the server's worker: so we look first, twice with a pause, and only repeat what is certainly not there.
// Never a `number`, never a null extra_data: both can kill the worker.

import { GatewayError } from '../../domain/failure.ts';
import type { Graph } from '../../domain/model.ts';
import { HttpError } from '../../system/system.ts';
import { cancelPrompt } from './cancel.ts';
import { findPrompt } from './presence.ts';
import { lostOutputs, refusalFrom, tooLarge } from './refusal.ts';
import type { AcceptedReply } from './replies.ts';
import { type Submission, Unexpected } from './server.ts';
import type { Session } from './session.ts';

const LOOKS = 2;
const LOOK_PAUSE_MS = 1_500;
const POSTS = 2;

export interface Work {
  readonly id: string;
  readonly graph: Graph;
  /** Occurs in this graph only. */
  readonly prefix: string;
  /** Output nodes that must be made. Empty: all. */
  readonly wanted: readonly string[];
  readonly previews: boolean;
}

/** Returns the id under which the server has it. Throws Refusal when it would not take it. */
export async function submit(session: Session, work: Work, signal: AbortSignal): Promise<string> {
  for (let post = 1; ; post++) {
    try {
      const reply = await send(session, work, signal);
      await refuseLosses(session, reply, work, signal);
      return reply.prompt_id;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof GatewayError) throw error;
      if (!isAmbiguous(error)) throw lost('The node could not be reached.', error);
      session.system.log.warn({ err: error, node: session.spec.id }, 'a submission was not answered; looking for it');
      const found = await reconcile(session, work, signal);
      if (found !== null) return found;
      if (post === POSTS) throw lost('The node does not take work.', error);
    }
  }
}

async function send(session: Session, work: Work, signal: AbortSignal): Promise<AcceptedReply> {
  const preview_method = work.previews ? 'auto' : 'none';
  const submission: Submission = {
    prompt: work.graph,
    prompt_id: work.id,
    client_id: session.socket.clientId,
    ...(session.jobsApi ? { extra_data: { preview_method } } : {}),
  };
  const answer = await session.server.submit(submission, signal);
  if (answer.type === 'refused') throw refusalFrom(answer.reply);
  if (answer.type === 'too_large') throw tooLarge();
  const { number } = answer.reply;
  if (number != null) {
    if (number < session.lastNumber) session.restarts++;
    session.lastNumber = number;
  }
  return answer.reply;
}

/** A 200 may hide that some outputs are not made. */
async function refuseLosses(session: Session, reply: AcceptedReply, work: Work, signal: AbortSignal): Promise<void> {
  const refusal = lostOutputs(reply.node_errors, work.wanted);
  if (!refusal) return;
  await cancelPrompt(session, reply.prompt_id, signal);
  throw refusal;
}

/** May the server have taken it? */
function isAmbiguous(error: unknown): boolean {
  if (error instanceof Unexpected) return error.status >= 500 || error.status < 300;
  return error instanceof HttpError && error.kind !== 'unsent' && error.kind !== 'refused_address';
}

async function reconcile(session: Session, work: Work, signal: AbortSignal): Promise<string | null> {
  try {
    for (let n = 1; n <= LOOKS; n++) {
      await session.system.clock.sleep(LOOK_PAUSE_MS, signal);
      const found = await findPrompt(session, work.id, work.prefix, signal);
      if (found !== null) return found;
    }
    return null;
  } catch (error) {
    signal.throwIfAborted();
    throw lost('The node stopped answering while work was handed to it.', error);
  }
}

const lost = (message: string, cause: unknown) => new GatewayError('node_lost', message, { cause });

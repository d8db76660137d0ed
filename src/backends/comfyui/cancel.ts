// Makes sure the node does not work on a prompt. The replies of delete and interrupt say nothing, an interrupt between
// dequeue and start is lost, and none lands while a model loads: so act, look, repeat with back-off until it is gone.
// An interrupt is only ever sent while the queue shows *our* id running, for old servers stop whatever runs.

import { GatewayError } from '../../domain/failure.ts';
import { isProcessGone } from './server.ts';
import type { Session } from './session.ts';

const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;
/** A submission may still be on its way in, so one empty queue proves little. */
const CLEAR_LOOKS = 2;

/** Resolves when the prompt is neither running nor waiting; throws GatewayError('node_lost') when that cannot be had in time. */
export async function cancelPrompt(
  session: Session,
  id: string,
  signal: AbortSignal,
  withinMs = session.limits.cancelMs,
): Promise<void> {
  const { clock } = session.system;
  const deadline = clock.monotonic() + withinMs;
  let clear = 0;
  let cause: unknown;
  for (let pause = FIRST_PAUSE_MS; clock.monotonic() < deadline; pause = Math.min(LONGEST_PAUSE_MS, pause * 2)) {
    try {
      clear = (await stopOnce(session, id, signal)) ? clear + 1 : 0;
      if (clear === CLEAR_LOOKS || (clear > 0 && (await session.server.history(id, signal)))) return;
    } catch (error) {
      signal.throwIfAborted();
      if (isProcessGone(error)) return;
      cause = error;
    }
    await clock.sleep(pause, signal);
  }
  throw new GatewayError('node_lost', 'The node did not stop the work in time.', { cause });
}

/** One round. True: the prompt was in neither list afterwards. */
async function stopOnce(session: Session, id: string, signal: AbortSignal): Promise<boolean> {
  const { server } = session;
  const atomic = session.jobsApi !== false && (await server.cancelJob(id, signal));
  if (session.jobsApi === null) session.jobsApi = atomic;
  if (!atomic) await server.dequeue(id, signal);
  const { running, pending } = await server.queue(signal);
  if (running.some((item) => item.id === id)) {
    await server.interrupt(id, signal);
    return false;
  }
  return !pending.some((item) => item.id === id);
}

// Follows one generation to its end. Polls are the truth; the socket only brings progress sooner, and a gateway that is
// away for a moment costs patience, not the generation.

import { setTimeout as pause } from 'node:timers/promises';
import type { Client } from '../client/client.ts';
import { isFinal } from '../contract/final.ts';
import type { GenerationBody } from '../contract/generations.ts';
import { type Board, createBoard } from './board.ts';
import { plain } from './words.ts';

/** How long one poll is held open. */
const HOLD_SECONDS = 20;
/** Polls in a row that may find nobody. */
const PATIENCE = 15;
const PAUSE_MS = 2_000;

/** Its end, whichever it is; progress goes to stderr. Rejects with the signal's reason, or when the gateway stays away. */
export async function follow(client: Client, first: GenerationBody, signal: AbortSignal): Promise<GenerationBody> {
  if (isFinal(first)) return first;
  const board = createBoard(process.stderr);
  try {
    return await followOn(board, client, first, signal);
  } finally {
    board.stop();
  }
}

/** The same, on a board that others may be on too. */
export async function followOn(
  board: Board,
  client: Client,
  first: GenerationBody,
  signal: AbortSignal,
): Promise<GenerationBody> {
  board.add(first.id, plain(first.prompt.replaceAll(/ ?\[\[.*?\]\]/g, '')) || first.model);
  board.state(first);
  const done = new AbortController();
  const told = tell(client, first.id, board, AbortSignal.any([signal, done.signal]));
  try {
    const last = await poll(client, first, signal);
    board.state(last);
    return last;
  } finally {
    done.abort();
    await told;
  }
}

async function poll(client: Client, first: GenerationBody, signal: AbortSignal): Promise<GenerationBody> {
  let last = first;
  for (let missed = 0; !isFinal(last); ) {
    try {
      last = await client.get(first.id, { wait: HOLD_SECONDS, signal });
      missed = 0;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      missed += 1;
      if (missed >= PATIENCE || !(error as { retryable?: boolean }).retryable) throw error;
      await pause(PAUSE_MS, undefined, { signal });
    }
  }
  return last;
}

/** Progress as it happens, where sockets get through; where they do not, the end is all there is to see. */
async function tell(client: Client, id: string, board: Board, signal: AbortSignal): Promise<void> {
  try {
    for await (const frame of client.watch({ ids: [id], signal })) {
      if (signal.aborted) return;
      if (frame.type === 'progress') board.progress(id, frame.progress);
      const moved = frame.type === 'event' && 'generation' in frame && !isFinal(frame.generation);
      if (moved) board.state(frame.generation);
    }
  } catch {
    return;
  }
}

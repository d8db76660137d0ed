// Where a prompt is, by the trust order history > queue. A prompt in neither may be between the two, so missing once means
// little; missing for a while, or after a restart, means lost.

import type { HistoryEntry } from './replies.ts';
import type { Session } from './session.ts';

export type Presence =
  | { readonly at: 'history'; readonly entry: HistoryEntry }
  | { readonly at: 'running' }
  /** `picture` changes whenever the queue moves. `idle`: nothing runs although this waits. */
  | { readonly at: 'pending'; readonly picture: string; readonly idle: boolean }
  | { readonly at: 'nowhere' };

export async function look({ server }: Session, id: string, signal: AbortSignal): Promise<Presence> {
  const entry = await server.history(id, signal);
  if (entry) return { at: 'history', entry };
  const { running, pending } = await server.queue(signal);
  if (running.some((item) => item.id === id)) return { at: 'running' };
  if (!pending.some((item) => item.id === id)) return { at: 'nowhere' };
  const picture = `${running.map((item) => item.id).join()}+${pending.length}`;
  return { at: 'pending', picture, idle: running.length === 0 };
}

/** Finds a prompt whose submission went wrong: by our id, or by the names its files would bear (old servers number by themselves). */
export async function findPrompt(
  { server }: Session,
  id: string,
  prefix: string,
  signal: AbortSignal,
): Promise<string | null> {
  const bears = (graph: unknown) => JSON.stringify(graph ?? null).includes(prefix);
  const { running, pending } = await server.queue(signal);
  const queued = [...running, ...pending].find((item) => item.id === id || bears(item.graph));
  if (queued) return queued.id;
  if (await server.history(id, signal)) return id;
  const recent = Object.entries(await server.recent(signal));
  return recent.find(([, entry]) => bears(entry.prompt?.[2]))?.[0] ?? null;
}

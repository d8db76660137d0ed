// What the socket says about one prompt, gathered until the watch takes it: the newest progress and preview (older ones
// are worth nothing), when it last moved, and whether it is time to look at the history. It is opened before the prompt
// is posted, for the first events may overtake the answer to the POST.

import type { Graph } from '../../domain/model.ts';
import type { Clock } from '../../system/system.ts';
import type { RunEvent } from '../backend.ts';
import type { Hint } from './frames.ts';
import { createProgress } from './progress.ts';
import type { Session } from './session.ts';

export interface Ear extends Disposable {
  /** The prompt listened for; old servers rename it. */
  promptId: string;
  /** Monotonic time of its last sign of life. */
  readonly heardAt: number;
  /** Do its events reach us? Then silence means something. */
  readonly hears: boolean;
  /** Between two sampler steps. */
  readonly stepping: boolean;
  /** How urgent a look is: its last event came (`soon`), or its history is written (`now`). */
  readonly urgency: 'none' | 'soon' | 'now';
  /** What is to be told, once. Fractions are of the whole generation. */
  take(now: number): RunEvent[];
  /** Resolves after `ms`, or when something was heard. Rejects with the signal's reason. */
  wait(ms: number, signal: AbortSignal): Promise<void>;
}

/** What is listened for. A prompt may be only one of the `parts` of its generation. */
export interface Listened {
  readonly id: string;
  readonly graph: Graph;
  readonly previews: boolean;
  readonly part: number;
  readonly parts: number;
}

export function openEar({ socket, system: { clock } }: Session, prompt: Listened): Ear {
  const progress = createProgress(prompt.graph);
  const bell = createBell(clock);
  let promptId = prompt.id;
  let heardAt = clock.monotonic();
  let hears = false;
  let urgency: Ear['urgency'] = 'none';
  let preview: RunEvent | null = null;

  const notePreview = (hint: Extract<Hint, { type: 'preview' }>) => {
    const classType = hint.node === null ? progress.at : prompt.graph[hint.node]?.class_type;
    if (!prompt.previews || !classType || isFinalPicture(classType)) return;
    preview = { type: 'preview', mediaType: hint.mediaType, bytes: hint.bytes };
    bell.ring();
  };
  const note = (hint: Hint) => {
    if (hint.type === 'deaf') {
      hears = false;
      return;
    }
    if (hint.promptId !== promptId) return;
    heardAt = clock.monotonic();
    hears = true;
    if (hint.type === 'preview') return notePreview(hint);
    progress.note(hint);
    if (hint.type === 'ended') urgency = 'now';
    if (hint.type === 'outcome' && urgency === 'none') urgency = 'soon';
    if (hint.type !== 'alive') bell.ring();
  };
  const listening = socket.listen(note);

  return {
    get promptId() {
      return promptId;
    },
    set promptId(id) {
      promptId = id;
    },
    get heardAt() {
      return heardAt;
    },
    get hears() {
      return hears;
    },
    get stepping() {
      return progress.stepping;
    },
    get urgency() {
      return urgency;
    },
    take(now) {
      const report = progress.due(now);
      const events: RunEvent[] = [];
      if (report)
        events.push({ type: 'progress', ...report, fraction: (prompt.part + report.fraction) / prompt.parts });
      if (preview) events.push(preview);
      preview = null;
      return events;
    },
    wait: bell.wait,
    [Symbol.dispose]: () => listening[Symbol.dispose](),
  };
}

/** This node sends its results over the socket, in the frames of previews. */
const isFinalPicture = (classType: string): boolean => /^SaveImageWebsocket/.test(classType);

function createBell(clock: Clock) {
  let rung = false;
  let wake: (() => void) | null = null;
  return {
    ring() {
      rung = true;
      wake?.();
    },
    async wait(ms: number, signal: AbortSignal): Promise<void> {
      signal.throwIfAborted();
      if (!rung) {
        const { promise, resolve, reject } = Promise.withResolvers<void>();
        using _timer = clock.timer(ms, resolve);
        const abort = () => reject(signal.reason);
        signal.addEventListener('abort', abort, { once: true });
        wake = resolve;
        await promise.finally(() => {
          wake = null;
          signal.removeEventListener('abort', abort);
        });
      }
      rung = false;
    },
  };
}

// Progress of one held call: the first note at once, then at a change of phase or a tenth of the way and never twice in a
// second, and a sign of life after 15 s of silence. The value only rises. A note that would wait behind an unfinished
// write is not sent: a newer one comes.

import type { GenerationBody } from '../../contract/generations.ts';
import type { Clock } from '../../system/system.ts';
import type { Studio } from './studio.ts';

const AT_MOST_EVERY_MS = 1_000;
const SILENCE_MS = 15_000;
/** A tenth, less what floating point takes from it. */
const STEP = 0.1 - 1e-9;
/** Of what is left, so that it never reaches the end. */
const HAIR = 0.001;
const MAX_MESSAGE = 120;

export interface ProgressValue {
  readonly progress: number;
  readonly total: 1;
  readonly message: string;
}

export interface ReportOptions {
  readonly studio: Pick<Studio, 'watch'>;
  readonly clock: Pick<Clock, 'monotonic' | 'timer'>;
  /** Null: nobody asked for progress. */
  readonly notify: ((value: ProgressValue) => Promise<void>) | null;
}

/** Reports until disposed. */
export function reportProgress(g: GenerationBody, { studio, clock, notify }: ReportOptions): Disposable {
  const over = new AbortController();
  let newest = stateOf(g, 0);
  let sent = { ...newest, value: -1, at: clock.monotonic() };
  let writing = false;
  let timer: Disposable | null = null;

  const arm = (ms: number) => {
    timer?.[Symbol.dispose]();
    timer = clock.timer(ms, look);
  };
  const send = () => {
    const value = Math.max(Math.min(newest.fraction, 1 - HAIR), sent.value + (1 - sent.value) * HAIR);
    sent = { ...newest, value, at: clock.monotonic() };
    writing = true;
    const done = () => {
      writing = false;
    };
    notify?.({ progress: value, total: 1, message: newest.message.slice(0, MAX_MESSAGE) }).then(done, done);
    arm(SILENCE_MS);
  };
  const matters = () =>
    phaseOf(newest.message) !== phaseOf(sent.message) || Math.abs(newest.fraction - sent.fraction) >= STEP;
  const look = () => {
    const silentMs = clock.monotonic() - sent.at;
    if (writing) arm(AT_MOST_EVERY_MS);
    else if (silentMs >= SILENCE_MS || (silentMs >= AT_MOST_EVERY_MS && matters())) send();
    else arm((matters() ? AT_MOST_EVERY_MS : SILENCE_MS) - silentMs);
  };
  const follow = async () => {
    for await (const frame of studio.watch({ ids: [g.id], signal: over.signal })) {
      if (over.signal.aborted) return;
      if (frame.type === 'event' && 'generation' in frame) {
        newest = stateOf(frame.generation, newest.fraction); // for the next sign of life
      } else if (frame.type === 'progress') {
        newest = frame.progress;
        if (matters()) look();
      }
    }
  };

  if (notify !== null) {
    send();
    follow().catch(() => undefined); // decoration: the answer tells the truth without it
  }
  return {
    [Symbol.dispose]() {
      over.abort();
      timer?.[Symbol.dispose]();
    },
  };
}

/** How far it is, or what it waits for. */
const stateOf = (g: GenerationBody, fraction: number): NonNullable<GenerationBody['progress']> =>
  g.progress ?? { fraction, message: g.queue_reason?.replaceAll('_', ' ') ?? g.status };

/** "denoising step 32/50" and "denoising step 33/50" are one phase. */
const phaseOf = (message: string): string => message.replaceAll(/[\d.,/%\s]+/g, ' ').trim();

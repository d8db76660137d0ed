// The board of a running batch: a few live lines where somebody looks, a plain line now and then where a log does. It
// writes to stderr, so that stdout carries the report alone.

import { MultiBar, Presets, type SingleBar } from 'cli-progress';
import type { BatchBody } from '../contract/batches.ts';
import {
  endedOf,
  number,
  type Pace,
  sayCounts,
  sayHold,
  sayPace,
  saySpend,
  sayStanding,
  workedOff,
} from './batch-text.ts';
import { styled } from './words.ts';

export interface Board {
  /** Somebody looks: worth asking more often. */
  readonly live: boolean;
  show(batch: BatchBody, also: { readonly last: string | null; readonly saved: number | null }): void;
  /** The gateway does not answer, or does again (null). */
  silence(reason: string | null): void;
  stop(): void;
}

type Now = () => number;

export function createBatchBoard(stream: NodeJS.WriteStream = process.stderr, now: Now = Date.now): Board {
  return stream.isTTY ? liveBoard(stream, now) : plainBoard(stream, now);
}

const MINUTE = 60_000;

/** Items worked off within the last minute, from what was seen. */
export function createPace(): (ended: number, at: number) => Pace {
  let samples: { readonly at: number; readonly ended: number }[] = [];
  return (ended, at) => {
    samples = [...samples.filter((s) => s.at > at - MINUTE && s.ended <= ended), { at, ended }];
    const first = samples[0] as { at: number; ended: number };
    const seconds = (at - first.at) / 1000;
    return { perMinute: seconds < 5 || ended === first.ended ? null : ((ended - first.ended) / seconds) * 60 };
  };
}

const LINES = ['counts', 'spend', 'last', 'hold'] as const;

function liveBoard(stream: NodeJS.WriteStream, now: Now): Board {
  const pace = createPace();
  const multi = new MultiBar(
    {
      format: '{bar} {percentage} %  {done}',
      barsize: 40,
      hideCursor: true,
      linewrap: false,
      stream,
      fps: 10,
      gracefulExit: false,
    },
    Presets.shades_classic,
  );
  let bar: SingleBar | undefined;
  const lines = new Map<string, SingleBar>();
  const set = (name: (typeof LINES)[number], text: string | null) => lines.get(name)?.update({ text: text ?? '' });
  const begin = (total: number) => {
    bar = multi.create(Math.max(total, 1), 0, { done: '' });
    for (const name of LINES) lines.set(name, multi.create(1, 0, { text: '' }, { format: '  {text}' }));
  };
  let held: string | null = null;
  let silent: string | null = null;
  const hold = () => {
    const text = silent ?? held;
    set('hold', text === null ? null : styled('red', text, stream));
  };
  return {
    live: true,
    show(batch, { last, saved }) {
      const ended = endedOf(batch);
      if (bar === undefined) begin(batch.total);
      bar?.setTotal(Math.max(batch.total, 1));
      bar?.update(ended, { done: `${number(ended)} of ${number(batch.total)}` });
      set('counts', sayCounts(batch));
      set(
        'spend',
        [saySpend(batch), sayPace(batch, pace(workedOff(batch), now()))].filter((s) => s !== '').join(' · '),
      );
      set('last', [saved === null ? '' : `${number(saved)} saved`, last ?? ''].filter((s) => s !== '').join(' · '));
      held = sayHold(batch);
      hold();
    },
    silence(reason) {
      silent = reason;
      hold();
    },
    stop: () => multi.stop(),
  };
}

const TELL_EVERY_MS = 30_000;

function plainBoard(stream: NodeJS.WriteStream, now: Now): Board {
  const pace = createPace();
  let tenth = -1;
  let at = Number.NEGATIVE_INFINITY;
  let held: string | null = null;
  return {
    live: false,
    show(batch) {
      const ended = endedOf(batch);
      const hold = sayHold(batch);
      if (hold !== null && hold !== held) stream.write(`${hold}\n`);
      held = hold;
      const reached = batch.total === 0 ? 10 : Math.floor((ended / batch.total) * 10);
      const said = pace(workedOff(batch), now());
      if (reached === tenth && now() - at < TELL_EVERY_MS) return;
      tenth = reached;
      at = now();
      stream.write(`${sayStanding(batch, said)}\n`);
    },
    silence: (reason) => void stream.write(`${reason ?? 'The gateway answers again.'}\n`),
    stop: () => {},
  };
}

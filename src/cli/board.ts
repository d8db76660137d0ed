// Progress on the terminal: one bar per generation where people look, plain lines where a file or a log does.

import { MultiBar, Presets, type SingleBar } from 'cli-progress';
import type { GenerationBody } from '../contract/generations.ts';
import { count, plain } from './words.ts';

export interface Board {
  add(id: string, title: string): void;
  progress(id: string, progress: { readonly fraction: number; readonly message: string }): void;
  state(g: GenerationBody): void;
  stop(): void;
}

const TITLE = 34;
const titled = (text: string) => (text.length > TITLE ? `${text.slice(0, TITLE - 1)}…` : text.padEnd(TITLE));

const THINGS = { image: 'picture', video: 'film', audio: 'sound', text: 'text' } as const;

/** What to say about a generation's state, in a few words. */
function sayState(g: GenerationBody): string {
  if (g.status === 'succeeded') return `done, ${count(g.outputs.length, THINGS[g.outputs[0]?.kind ?? 'image'])}`;
  if (g.status === 'queued') return g.attempts.length > 0 ? `retrying: ${g.attempts.at(-1)?.outcome}` : 'queued';
  if (g.status === 'running') return 'starting';
  return `${g.status}: ${g.error?.code}`;
}

export function createBoard(stream: NodeJS.WriteStream = process.stdout): Board {
  return stream.isTTY ? barBoard(stream) : plainBoard(stream);
}

function barBoard(stream: NodeJS.WriteStream): Board {
  const bars = new Map<string, SingleBar>();
  const multi = new MultiBar(
    {
      format: '{title} {bar} {percentage} % {note}',
      barsize: 24,
      hideCursor: true,
      stream,
      fps: 10,
      forceRedraw: true,
      autopadding: true,
    },
    Presets.shades_classic,
  );
  return {
    add: (id, title) => void bars.set(id, multi.create(1, 0, { title: titled(title), note: 'queued' })),
    progress: (id, { fraction, message }) => bars.get(id)?.update(fraction, { note: plain(message) }),
    state(g) {
      const note = sayState(g);
      if (g.status === 'succeeded') bars.get(g.id)?.update(1, { note });
      else bars.get(g.id)?.update({ note });
    },
    stop: () => multi.stop(),
  };
}

function plainBoard(stream: NodeJS.WriteStream): Board {
  const titles = new Map<string, string>();
  /** The last quarter told of each, so that a log stays short. */
  const quarters = new Map<string, number>();
  const line = (id: string, note: string) => stream.write(`${titled(titles.get(id) ?? id)} ${note}\n`);
  return {
    add: (id, title) => void titles.set(id, title),
    progress(id, { fraction, message }) {
      const quarter = Math.floor(fraction * 4);
      if (quarters.get(id) === quarter) return;
      quarters.set(id, quarter);
      line(id, `${String(Math.round(fraction * 100)).padStart(3)} % ${plain(message)}`);
    },
    state: (g) => line(g.id, sayState(g)),
    stop: () => {},
  };
}

// `darkroom watch`: what happens, as it happens, until Ctrl-C. A stream is no document: programs take --ndjson here.

import { Command } from 'commander';
import type { Frame } from '../contract/socket.ts';
import { EXIT, InputError } from './failing.ts';
import { interruption } from './interruption.ts';
import { remotely, withRemote } from './remote.ts';
import { note } from './table.ts';
import { cut, plain, tinted } from './words.ts';

interface Options {
  readonly batch?: string;
  readonly cursor?: string;
  readonly progress: boolean;
  readonly ndjson?: boolean;
}

const command = new Command('watch')
  .description('tell what happens, until Ctrl-C')
  .argument('[id...]', 'only these generations')
  .option('--batch <id>', 'only this batch')
  .option('--cursor <cursor>', 'begin after the event with this cursor')
  .option('--no-progress', 'events only')
  .option('--ndjson', 'one JSON object per line, as the socket sends them')
  .addHelpText(
    'after',
    `
Examples:
  darkroom watch
  darkroom watch --batch batch_01… --ndjson | jq -r .event`,
  );

export const watchCommand = withRemote(command).action(
  remotely<Options, [readonly string[]]>(async ({ client, options }, ids) => {
    const { batch, cursor, progress, ndjson } = options;
    if (options.json) throw new InputError('A stream is not one JSON document.', 'Use --ndjson: one object per line.');
    using stop = interruption();
    const { signal } = stop;
    const frames = client.watch({
      progress,
      signal,
      ...(ids.length > 0 && { ids }),
      ...(batch && { batchId: batch }),
      ...(cursor && { cursor }),
    });
    if (!ndjson) note('Watching. Ctrl-C ends it; nothing else does.');
    for await (const frame of frames) {
      const line = ndjson ? JSON.stringify(frame) : sentence(frame);
      if (line !== null) process.stdout.write(`${line}\n`);
    }
    return signal.aborted ? EXIT.interrupted : EXIT.done;
  }),
);

function sentence(frame: Frame): string | null {
  if (frame.type === 'ready') return null;
  const at = new Date().toISOString().slice(11, 19);
  if (frame.type === 'error') return `${at}  ${plain(frame.error.message)}`;
  if (frame.type === 'progress') {
    const { fraction, message } = frame.progress;
    return `${at}  ${frame.id}  ${String(Math.round(fraction * 100)).padStart(3)} %  ${plain(message)}`;
  }
  const verb = frame.event.slice(frame.event.indexOf('.') + 1);
  if ('batch' in frame) return `${at}  ${frame.batch.id}  ${verb}  ${plain(frame.batch.name ?? '')}`;
  const g = frame.generation;
  return `${at}  ${g.id}  ${tinted(verb)}  ${g.model}  ${cut(plain(g.error?.code ?? g.prompt), 60)}`;
}

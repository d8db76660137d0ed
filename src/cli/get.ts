// `darkroom get`: how a generation stands; with --wait its end, with --out its files.

import { Command } from 'commander';
import type { GenerationBody } from '../contract/generations.ts';
import { EXIT } from './failing.ts';
import { interruption } from './interruption.ts';
import { readyFolder } from './pictures.ts';
import { remotely, withRemote } from './remote.ts';
import { spoken } from './spoken.ts';
import { answer, facts, note } from './table.ts';
import { ago, credits, duration, plain, tinted } from './words.ts';

interface Options {
  readonly out?: string;
  readonly wait?: boolean;
}

const command = new Command('get')
  .description('show a generation, wait for it, save its files')
  .argument('<id>', 'gen_…')
  .option('-w, --wait', 'wait until it is over')
  .option('-o, --out <folder>', 'save its files there')
  .addHelpText(
    'after',
    `
Examples:
  darkroom get gen_01…                       how it stands
  darkroom get gen_01… --wait --out shots    its files, when they are there`,
  );

export const getCommand = withRemote(command).action(
  remotely<Options, [string]>(async ({ client, options }, id) => {
    const [{ isFinal }, { conclude, left }, { follow }] = await Promise.all([
      import('../contract/final.ts'),
      import('./ending.ts'),
      import('./follow.ts'),
    ]);
    const folder = options.out === undefined ? null : await readyFolder(options.out);
    using stop = interruption();
    const { signal } = stop;
    let last = await client.get(id, { signal });
    try {
      if (options.wait) last = await follow(client, last, signal);
      if (isFinal(last) && (options.wait || folder !== null)) {
        return await conclude(client, last, { folder, json: options.json, signal });
      }
    } catch (error) {
      note(left(last, options.out ?? '.'));
      if (!signal.aborted) throw error;
      if (options.json) answer(options, last, () => '');
      return EXIT.interrupted;
    }
    answer(options, last, () => portrait(last));
    if (folder !== null) note(left(last, options.out ?? '.'));
    return EXIT.done;
  }),
);

function portrait(g: GenerationBody): string {
  const progress = g.progress && `${Math.round(g.progress.fraction * 100)} %, ${plain(g.progress.message)}`;
  const why = g.queue_reason && `${g.queue_reason}${g.queue_position ? `, number ${g.queue_position}` : ''}`;
  const metadata = Object.entries(g.metadata).map(([key, value]) => `${key}=${value}`);
  return facts([
    ['id', g.id],
    ['status', [tinted(g.status), progress ?? why].filter(Boolean).join(': ')],
    ['left', g.estimated_seconds === undefined ? null : `about ${duration(g.estimated_seconds)}`],
    ['reason', g.reason === undefined ? null : plain(g.reason)],
    ['advice', g.error ? spoken(g.error.advice) : null],
    ['model', g.model],
    ['prompt', plain(g.prompt)],
    ['seed', String(g.seed)],
    ['size', g.width && g.height ? `${g.width}x${g.height}` : null],
    ['made', g.attempts.map((a) => `${a.node}${a.outcome ? ` ${a.outcome}` : ''}`).join(', then ') || null],
    ['asked', ago(g.created_at)],
    ['price', g.credits_charged === undefined ? null : credits(g.credits_charged)],
    ['batch', g.batch_id],
    ['metadata', metadata.length ? plain(metadata.join(' ')) : null],
    ...g.outputs.map((o) => ['file', o.url ?? 'swept'] as const),
  ]);
}

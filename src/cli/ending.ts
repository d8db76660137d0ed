// What a command that waited for a generation says when it is over: files and their price, or the reason and the advice.
// Shared by `generate` and `get`.

import type { Client } from '../client/client.ts';
import { isFinal } from '../contract/final.ts';
import type { GenerationBody } from '../contract/generations.ts';
import { EXIT } from './failing.ts';
import { near, save } from './pictures.ts';
import { spoken } from './spoken.ts';
import { answer, note } from './table.ts';
import { credits, duration, plain } from './words.ts';

interface Ending {
  readonly folder: string | null;
  readonly json: boolean | undefined;
  readonly signal: AbortSignal;
}

/** Saves into `folder` (null: saves nothing), says how it ended, and answers with the exit status. */
export async function conclude(client: Client, g: GenerationBody, { folder, json, signal }: Ending): Promise<number> {
  const files = folder === null ? [] : await save(client, g, folder, signal);
  for (const warning of g.warnings) note(`Note: ${plain(warning)}`);
  if (g.status === 'succeeded') {
    answer(
      { json: json ?? false },
      { ...g, files },
      () => `${files.map((f) => `${near(f)}\n`).join('')}${summary(g)}\n`,
    );
    return EXIT.done;
  }
  if (json) answer({ json }, { ...g, files }, () => '');
  else note(misfortune(g));
  return EXIT.failed;
}

const summary = (g: GenerationBody): string =>
  [
    `  ${g.model}${g.requested_model && g.requested_model !== g.model ? ` for ${plain(g.requested_model)}` : ''}`,
    `seed ${g.seed}`,
    ...(g.width && g.height ? [`${g.width}x${g.height}`] : []),
    ...(g.started_at && g.finished_at ? [duration((Date.parse(g.finished_at) - Date.parse(g.started_at)) / 1000)] : []),
    credits(g.credits_charged ?? 0),
    g.id,
  ].join(', ');

function misfortune(g: GenerationBody): string {
  const what = g.status === 'timeout' ? 'timed out' : g.status;
  const code = g.error ? ` (${g.error.code})` : '';
  const charged = g.credits_charged ? `, ${credits(g.credits_charged)} charged` : '';
  return [
    `${g.id} ${what}${code}: ${plain(g.reason ?? 'no reason was given')}${charged}`,
    g.error?.advice && spoken(g.error.advice),
  ]
    .filter(Boolean)
    .join('\n');
}

/** What to say when one is left alone before its files are here: lines to be copied. */
export function left({ id, ...g }: GenerationBody, out: string): string {
  const folder = /^[\w./-]+$/.test(out) ? out : `'${out.replaceAll("'", "'\\''")}'`;
  if (isFinal(g)) return `${id} is done and kept:\n  darkroom get ${id} --out ${folder}`;
  return [
    `${id} goes on at the gateway. To fetch it, or to stop it:`,
    `  darkroom get ${id} --wait --out ${folder}`,
    `  darkroom cancel ${id}`,
  ].join('\n');
}

// `darkroom list`: generations, newest first.

import { Command } from 'commander';
import type { GenerationBody } from '../contract/generations.ts';
import { type Pairs, pair, past, wholeNumber } from './arguments.ts';
import { remotely, withRemote } from './remote.ts';
import { answer, note, table } from './table.ts';
import { ago, cut, plain, tinted } from './words.ts';

interface Options {
  readonly status?: string;
  readonly model?: string;
  readonly batch?: string;
  readonly since?: string;
  readonly metadata?: Pairs;
  readonly limit: number;
  readonly cursor?: string;
}

const command = new Command('list')
  .description('list generations, newest first')
  .option('--status <status>', 'queued running succeeded failed timeout cancelled, or several with commas')
  .option('--model <id>', 'the model that served')
  .option('--batch <id>', 'of one batch')
  .option('--since <time>', 'a date, a time, or a span like 6h', past)
  .option('--metadata <key=value>', 'with this note (repeatable)', pair)
  .option('--limit <number>', 'at most 100', wholeNumber, 20)
  .option('--cursor <cursor>', 'go on where the page before ended')
  .addHelpText(
    'after',
    `
Examples:
  darkroom list --status failed,timeout --since 1d
  darkroom list --metadata ticket=MKT-2241 --limit 100 --json`,
  );

export const listCommand = withRemote(command).action(
  remotely<Options>(async ({ client, options }) => {
    const { batch, status, model, since, metadata, limit, cursor } = options;
    const page = await client.list({
      limit,
      ...(cursor && { cursor }),
      ...(status && { status }),
      ...(model && { model }),
      ...(batch && { batch_id: batch }),
      ...(since && { since }),
      ...(metadata && { metadata }),
    });
    answer(options, page, () => (page.data.length > 0 ? rows(page.data) : ''));
    if (page.data.length === 0 && !options.json) {
      const filtered = Boolean(status || model || batch || since || metadata);
      note(
        filtered ? 'Nothing matches.' : 'Nothing has been asked for yet. Try: darkroom generate "a lighthouse at dawn"',
      );
    }
    if (page.next_cursor !== null && !options.json) note(`More: add --cursor ${page.next_cursor}`);
    return undefined;
  }),
);

const rows = (list: readonly GenerationBody[]): string =>
  table(
    ['ID', 'STATUS', 'MODEL', 'ASKED', 'CREDITS', 'PROMPT'],
    list.map((g) => [
      g.id,
      g.progress ? `${tinted(g.status)} ${Math.round(g.progress.fraction * 100)} %` : tinted(g.status),
      g.model,
      ago(g.created_at),
      g.credits_charged === undefined ? '' : String(g.credits_charged),
      cut(plain(g.error ? `${g.error.code}: ${g.prompt}` : g.prompt), 100),
    ]),
  );

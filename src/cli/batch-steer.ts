// Commands about a batch that is there already, named by its id or by the file it came from: how it stands, its report,
// and the four ways to intervene.

import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import type { Client } from '../client/client.ts';
import type { BatchBody } from '../contract/batches.ts';
import { fitted, say } from './batch-say.ts';
import { endedOf, number, sayCounts, sayHold, sayPace, sayReport, saySpend, withLines } from './batch-text.ts';
import { EXIT, InputError } from './failing.ts';
import { remotely, withRemote } from './remote.ts';
import { answer, facts, table } from './table.ts';
import { ago, plain, tinted } from './words.ts';

const NAMED = 'batch_…, or the file it came from';

/** What reads files is loaded only where a batch is looked up. */
const idOf = async (named: string): Promise<string> => (await import('./batch-named.ts')).batchIdOf(named);

export const statusCommand = withRemote(new Command('status'))
  .description('how a batch stands; without a name, the latest batches')
  .argument('[batch]', NAMED)
  .action(
    remotely(async ({ client, options }, named: string | undefined) => {
      if (named === undefined) return listLatest(client, options);
      const batch = await client.batches.get(await idOf(named));
      answer(options, batch, () => sayBatch(batch));
      return EXIT.done;
    }),
  );

async function listLatest({ batches }: Client, options: { readonly json?: boolean }): Promise<number> {
  const page = await batches.list({ limit: 20 });
  const rows = page.data.map((b) => [
    b.id,
    plain(b.name ?? ''),
    tinted(b.status),
    `${number(endedOf(b))}/${number(b.total)}`,
    number(b.credits.charged),
    ago(b.created_at),
  ]);
  answer(options, page, () =>
    rows.length === 0 ? 'No batches yet.\n' : table(['ID', 'NAME', 'STATUS', 'ENDED', 'CREDITS', 'CREATED'], rows),
  );
  return EXIT.done;
}

const sayBatch = (b: BatchBody): string =>
  facts([
    ['batch', `${b.id}${b.name === null ? '' : `  ${plain(b.name)}`}`],
    ['status', tinted(b.status)],
    ['ended', `${number(endedOf(b))} of ${number(b.total)}`],
    ['items', sayCounts(b) || 'none'],
    ['credits', saySpend(b)],
    ['time', sayPace(b, { perMinute: null }) || null],
    ['held', sayHold(b)],
    ['created', ago(b.created_at)],
  ]);

export const reportCommand = withRemote(new Command('report'))
  .description('what a batch came to; without a name, the latest')
  .argument('[batch]', NAMED)
  .option('--out <file>', 'write the report there as JSON')
  .action(
    remotely<{ readonly out?: string }, [string | undefined]>(async ({ client, options }, named) => {
      const id = named === undefined ? await latest(client) : await idOf(named);
      const { linesOf } = await import('./batch-named.ts');
      const report = withLines(await client.batches.report(id), await linesOf(named ?? id));
      if (options.out !== undefined) await writeFile(options.out, `${JSON.stringify(report, null, 2)}\n`);
      const said = () => sayReport(report, { pictures: null, reportFile: options.out ?? null });
      answer(options, report, () => `${fitted(said(), process.stdout)}\n`);
      return EXIT.done;
    }),
  );

async function latest({ batches }: Client): Promise<string> {
  const [first] = (await batches.list({ limit: 1 })).data;
  if (first === undefined) throw new InputError('There is no batch yet.', 'darkroom batch run shots.jsonl makes one.');
  return first.id;
}

type Act = (client: Client, id: string) => Promise<BatchBody>;

const steer = (name: string, description: string, act: Act): Command =>
  withRemote(new Command(name))
    .description(description)
    .argument('<batch>', NAMED)
    .action(
      remotely(async ({ client, options }, named: string) => {
        const batch = await act(client, await idOf(named));
        answer(options, batch, () => sayBatch(batch));
        return EXIT.done;
      }),
    );

/** Nothing to try again is no fault: `batch retry f && batch run f` goes on. */
async function retry({ batches }: Client, id: string): Promise<BatchBody> {
  return batches.retryFailed(id).catch(async (error: { code?: string }) => {
    const batch = error.code === 'conflict' ? await batches.get(id) : null;
    if (batch === null || batch.status === 'cancelled') throw error;
    say('None of its items failed, timed out or was halted: there is nothing to try again.');
    return batch;
  });
}

export const steeringCommands: readonly Command[] = [
  steer('pause', 'start no more of its items; what runs ends', ({ batches }, id) => batches.pause(id)),
  steer('resume', 'go on with a paused batch', ({ batches }, id) => batches.resume(id)),
  steer('cancel', 'end it: what is queued or running is cancelled', ({ batches }, id) => batches.cancel(id)),
  steer('retry', 'try its failed, timed out and halted items again', retry),
];

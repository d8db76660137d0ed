// `darkroom batch promote`: drafts that were liked become finals. Finished items are asked for again with another model,
// same prompt, same seed, as a batch of its own that is run like any other.

import { Command } from 'commander';
import type { Client, ItemBody } from '../client/client.ts';
import { list } from './arguments.ts';
import { readRows } from './batch-file.ts';
import { type Item, sha256, slug } from './batch-items.ts';
import { openLine } from './batch-line.ts';
import { type RunOptions, readInput, runPlan, stateFileOf } from './batch-run.ts';
import { openState } from './batch-state.ts';
import { batchIdOf } from './batch-steer.ts';
import { fail, InputError, type RemoteOptions, withRemote } from './remote.ts';

interface PromoteOptions extends RemoteOptions, RunOptions {
  readonly model: string;
  readonly items?: readonly string[];
  readonly select?: string;
  readonly succeeded?: true;
  readonly out?: string;
}

export const promoteCommand = withRemote(new Command('promote'))
  .description('make finals of drafts: finished items again, same prompt and seed, with another model')
  .argument('<batch>', 'batch_…, or the file it came from')
  .requiredOption('--model <model>', 'the better one')
  .option('--items <numbers>', 'these, as their pictures are numbered: 3,17', list)
  .option('--select <file>', 'those named in a file, one per line: a key, a gen_… id or the name of a picture')
  .option('--succeeded', 'all that succeeded')
  .option('--out <folder>', 'where the pictures go')
  .option('--no-download', 'leave the pictures at the gateway')
  .option('--dry-run', 'only say what it would cost')
  .option('--strict', 'exit with 1 when any item fails')
  .option('--yes', 'run as far as the credits go')
  .action(async (named: string, options: PromoteOptions) => {
    try {
      process.exitCode = await promote(named, options);
    } catch (error) {
      fail(error, options);
    }
  });

async function promote(named: string, options: PromoteOptions): Promise<number> {
  const line = await openLine(options);
  const drafts = await draftsOf(line.client, named);
  const chosen = await choose(drafts, options);
  const base = `${named}.${slug(options.model)}`;
  return runPlan(
    line,
    {
      source: named,
      items: chosen.map((draft) => finalOf(draft, options.model)),
      terms: { name: `${named} with ${options.model}`.slice(0, 200) },
      base,
      out: options.out,
      again: 'the same command',
    },
    options,
  );
}

/** A finished item, by all the names that people know it by. */
interface Draft {
  readonly number: number;
  readonly key: string;
  readonly id: string;
  readonly pictures: readonly string[];
}

async function draftsOf({ batches }: Client, named: string): Promise<readonly Draft[]> {
  const id = await batchIdOf(named);
  const items: ItemBody[] = [];
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await batches.items(id, { limit: 100, status: 'succeeded', ...(cursor && { cursor }) });
    items.push(...page.data);
    cursor = page.next_cursor;
  }
  if (items.length === 0) throw new InputError(`Nothing of ${id} has succeeded.`);
  const isFile = !named.startsWith('batch_');
  const lines = isFile ? readRows(named, await readInput(named)).rows.map((row) => row.line) : [];
  const pictures = isFile ? Object.entries((await openState(stateFileOf(named))).state().pictures) : [];
  return items.map(({ index, key, generation }) => ({
    number: lines[index] ?? index,
    key,
    id: generation.id,
    pictures: pictures.filter(([output]) => output.startsWith(`${generation.id}/`)).map(([, name]) => name),
  }));
}

async function choose(drafts: readonly Draft[], options: PromoteOptions): Promise<readonly Draft[]> {
  const { items, select, succeeded } = options;
  if ([items, select, succeeded].filter((way) => way !== undefined).length !== 1) {
    throw new InputError('Say which: --items 3,17, --select FILE or --succeeded.');
  }
  if (succeeded) return drafts;
  const wanted =
    items ??
    Buffer.from(await readInput(select as string))
      .toString('utf8')
      .split('\n')
      .map((text) => text.trim())
      .filter(Boolean);
  const named = new Map<string, Draft>();
  for (const draft of drafts) {
    const names = items === undefined ? [draft.key, draft.id, ...draft.pictures] : [String(draft.number)];
    for (const name of names) named.set(name, draft);
  }
  const unknown = wanted.filter((name) => !named.has(name));
  if (unknown.length > 0) throw new InputError(`Not among what has succeeded: ${unknown.slice(0, 20).join(', ')}.`);
  return [...new Set(wanted.map((name) => named.get(name) as Draft))];
}

const finalOf = ({ number, id }: Draft, model: string): Item => {
  const key = sha256(['promote', id, model].join('|'));
  return { line: number, key, label: slug(model), request: { from: id, model, idempotency_key: key } };
};

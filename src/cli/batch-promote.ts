// `darkroom batch promote`: drafts that were liked become finals. Finished items are asked for again with another model,
// same prompt, same seed, as a batch of its own that is run like any other.

import { basename } from 'node:path';
import type { Client, ItemBody } from '../client/client.ts';
import { readInput } from './batch-file.ts';
import type { PromoteGiven } from './batch-given.ts';
import { type Item, sha256, slug } from './batch-items.ts';
import { openLine } from './batch-line.ts';
import { typed } from './batch-missing.ts';
import { batchIdOf, linesOf, picturesOf, shotsOf } from './batch-named.ts';
import { runPlan } from './batch-run.ts';
import { InputError } from './failing.ts';

/** Answers with the exit status. */
export async function promote(named: string, options: PromoteGiven): Promise<number> {
  const line = await openLine(options);
  const drafts = await draftsOf(line.client, named);
  const chosen = await choose(drafts, options);
  const base = `${shotsOf(named) ?? named}.${slug(options.model)}`;
  return runPlan(
    line,
    {
      source: named,
      items: chosen.map((draft) => finalOf(draft, options.model)),
      title: `${named} with ${options.model}`.slice(0, 200),
      terms: options.maxCredits === undefined ? {} : { max_credits: options.maxCredits },
      fields: null,
      base,
      out: options.out,
      again: againOf(named, options),
    },
    options,
  );
}

/** What was typed, less the key of the gateway and what holds for one run only. */
function againOf(named: string, { model, items, select, succeeded, ...given }: PromoteGiven): string {
  const flag = (name: string, value: string | undefined) => (value === undefined ? [] : [`--${name}`, value]);
  return typed([
    ...['darkroom', 'batch', 'promote', named, '--model', model],
    ...flag('items', items?.join(',')),
    ...flag('select', select),
    ...(succeeded ? ['--succeeded'] : []),
    ...flag('out', given.out),
    ...(given.download ? [] : ['--no-download']),
    ...flag('url', given.url),
    ...flag('profile', given.profile),
  ]);
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
  const lineOf = await linesOf(named);
  const pictures = Object.entries(await picturesOf(named));
  return items.map(({ index, key, generation }) => ({
    number: lineOf(index) ?? index,
    key,
    id: generation.id,
    pictures: pictures.filter(([output]) => output.startsWith(`${generation.id}/`)).map(([, name]) => name),
  }));
}

async function choose(drafts: readonly Draft[], options: PromoteGiven): Promise<readonly Draft[]> {
  const { items, select, succeeded } = options;
  if ([items, select, succeeded].filter((way) => way !== undefined).length !== 1) {
    throw new InputError('Say which: --items 3,17, --select FILE or --succeeded.');
  }
  if (succeeded) return drafts;
  const wanted = items?.map(numberOf) ?? (await selected(select as string));
  const named = new Map<string, Draft>();
  for (const draft of drafts) {
    const names = items === undefined ? [draft.key, draft.id, ...draft.pictures] : [String(draft.number)];
    for (const name of names) named.set(name, draft);
  }
  const unknown = wanted.filter((name) => !named.has(name));
  if (unknown.length > 0) throw new InputError(`Not among what has succeeded: ${unknown.slice(0, 20).join(', ')}.`);
  return [...new Set(wanted.map((name) => named.get(name) as Draft))];
}

/** Pictures are numbered `007`, and may be named so. */
const numberOf = (text: string): string => (/^\d+$/.test(text) ? String(Number(text)) : text);

/** Pictures may stand there with their folder, as `ls folder/*.png` prints them. */
async function selected(file: string): Promise<readonly string[]> {
  const text = Buffer.from(await readInput(file)).toString('utf8');
  const lines = text.split('\n').map((line) => line.trim());
  return lines.filter(Boolean).map((line) => basename(line.replaceAll('\\', '/')));
}

const finalOf = ({ number, id }: Draft, model: string): Item => {
  const key = sha256(['promote', id, model].join('|'));
  return { line: number, key, label: slug(model), request: { from: id, model, idempotency_key: key } };
};

// `darkroom keys`: who may ask. For operators. The text of a key is shown once, by the command that made it.

import { Command } from 'commander';
import type { z } from 'zod';
import type { KeyAnswer, KeyBody } from '../contract/admin.ts';
import { future, list as names, number, wholeNumber } from './arguments.ts';
import { group } from './group.ts';
import { everything } from './paging.ts';
import { locate, remotely, withRemote } from './remote.ts';
import { answer, note, table } from './table.ts';
import { ago, plain } from './words.ts';

type Key = z.infer<typeof KeyBody>;

interface Options {
  readonly workspace: string;
}
interface NewKey extends Options {
  readonly scopes?: readonly string[];
  readonly models?: readonly string[];
  readonly expires?: string;
  readonly perMinute?: number;
  readonly spendCap?: number;
}

const within = (command: Command): Command =>
  withRemote(command.option('--workspace <id>', 'of which workspace', 'studio'));
const pathOf = ({ workspace }: Options, key = '') =>
  `/v1/admin/workspaces/${encodeURIComponent(workspace)}/keys${key && `/${encodeURIComponent(key)}`}`;

const list = within(new Command('list').description('keys of a workspace')).action(
  remotely<Options>(async ({ client, options }) => {
    const page = await everything<Key>(client, pathOf(options));
    answer(options, page, () => (page.data.length > 0 ? rows(page.data) : ''));
    if (page.data.length === 0 && !options.json) note('No keys yet. Make one: darkroom keys create NAME');
    return undefined;
  }),
);

const rows = (keys: readonly Key[]) =>
  table(
    ['ID', 'NAME', 'SCOPES', 'MODELS', 'CAP', 'EXPIRES', 'MADE'],
    keys.map((k) => [
      k.id,
      plain(k.name),
      k.scopes.join(','),
      k.models?.join(',') ?? 'all',
      k.spend_cap === null ? 'none' : String(k.spend_cap),
      k.expires_at === null ? 'never' : ago(k.expires_at),
      ago(k.created_at),
    ]),
  );

const newKey = new Command('create')
  .description('make a key; it is shown once')
  .argument('<name>', 'for whom')
  .option('--scopes <list>', 'generate, read, webhooks, admin (default: generate,read)', names)
  .option('--models <list>', 'only these', names)
  .option('--expires <time>', 'a date, or a span like 30d', future)
  .option('--per-minute <number>', 'requests', wholeNumber)
  .option('--spend-cap <credits>', 'what it may spend in all', number);

const create = within(newKey).action(
  remotely<NewKey, [string]>(async ({ client, options }, name) => {
    const { scopes, models, expires, perMinute, spendCap } = options;
    const made = await client.call<z.infer<typeof KeyAnswer>>('POST', pathOf(options), {
      name,
      ...(scopes && { scopes }),
      ...(models && { models }),
      ...(expires && { expires_at: expires }),
      ...(perMinute !== undefined && { requests_per_minute: perMinute }),
      ...(spendCap !== undefined && { spend_cap: spendCap }),
    });
    answer(options, made, () => `${made.key}\n`);
    const told = `Key ${made.id} (${made.scopes.join(', ')}). It is not shown again. Whoever gets it types:`;
    if (!options.json) note(`${told}\n  darkroom login --url ${(await locate(options)).url}`);
    return undefined;
  }),
);

const remove = within(
  new Command('delete').description('it stops working at once').argument('<id>', 'not the key itself'),
)
  .alias('remove')
  .action(
    remotely<Options, [string]>(async ({ client, options }, id) => {
      await client.call('DELETE', pathOf(options, id));
      answer(options, { id, deleted: true }, () => `${id} is gone.\n`);
      return undefined;
    }),
  );

export const keysCommand = group(
  'keys',
  'who may ask (needs an admin key)',
  [list, create, remove],
  `  darkroom keys create "campaign tool" --scopes generate,read --spend-cap 200
  darkroom keys list --workspace ws_01…`,
);

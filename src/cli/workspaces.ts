// `darkroom workspaces`: who shares credits, keys and pictures. For operators.

import { Command } from 'commander';
import type { z } from 'zod';
import type { WorkspaceAnswer, WorkspaceBody } from '../contract/admin.ts';
import type { CreditsBody } from '../contract/credits.ts';
import { number, wholeNumber } from './arguments.ts';
import { group } from './group.ts';
import { everything } from './paging.ts';
import { remotely, withRemote } from './remote.ts';
import { answer, facts, table } from './table.ts';
import { ago, credits, plain } from './words.ts';

type Workspace = z.infer<typeof WorkspaceBody>;
type Detailed = z.infer<typeof WorkspaceAnswer>;

const ROOT = '/v1/admin/workspaces';
const pathOf = (id: string) => `${ROOT}/${encodeURIComponent(id)}`;

const list = withRemote(new Command('list').description('every workspace')).action(
  remotely(async ({ client, options }) => {
    const page = await everything<Workspace>(client, ROOT);
    answer(options, page, () =>
      table(
        ['ID', 'NAME', 'AT ONCE', 'QUEUE', 'MADE'],
        page.data.map((w) => [
          w.id,
          plain(w.name),
          w.limits.concurrency.toLocaleString('en'),
          w.limits.queue.toLocaleString('en'),
          ago(w.created_at),
        ]),
      ),
    );
    return undefined;
  }),
);

const show = withRemote(new Command('show').description('one, with its credits').argument('<id>')).action(
  remotely<object, [string]>(async ({ client, options }, id) => {
    const w = await client.call<Detailed>('GET', pathOf(id));
    answer(options, w, () => portrait(w));
    return undefined;
  }),
);

interface NewWorkspace {
  readonly credits?: number;
  readonly concurrency?: number;
  readonly queue?: number;
}

const newWorkspace = new Command('create')
  .description('make one')
  .argument('<name>')
  .option('--credits <number>', 'what it starts with', number)
  .option('--concurrency <number>', 'generations at once', wholeNumber)
  .option('--queue <number>', 'generations that may wait', wholeNumber);

const create = withRemote(newWorkspace).action(
  remotely<NewWorkspace, [string]>(async ({ client, options }, name) => {
    const { concurrency, queue } = options;
    const limits = { ...(concurrency !== undefined && { concurrency }), ...(queue !== undefined && { queue }) };
    const body = { name, limits, ...(options.credits !== undefined && { credits: options.credits }) };
    const made = await client.call<Detailed>('POST', ROOT, body);
    answer(options, made, () => `${portrait(made)}\nNext: darkroom keys create NAME --workspace ${made.id}\n`);
    return undefined;
  }),
);

const remove = withRemote(new Command('delete').description('only when nothing of it is queued or running'))
  .argument('<id>')
  .alias('remove')
  .action(
    remotely<object, [string]>(async ({ client, options }, id) => {
      await client.call('DELETE', pathOf(id));
      answer(options, { id, deleted: true }, () => `${id} is gone.\n`);
      return undefined;
    }),
  );

const granted = new Command('grant')
  .description('add credits, or take them with a negative amount')
  .argument('<id>')
  .argument('<amount>', 'credits; "-- -50" takes 50', number)
  .option('--note <text>', 'why, for the books');

const grant = withRemote(granted).action(
  remotely<{ readonly note?: string }, [string, number]>(async ({ client, options }, id, amount) => {
    const body = { amount, ...(options.note !== undefined && { note: options.note }) };
    const after = await client.call<CreditsBody>('POST', `${pathOf(id)}/credits`, body);
    answer(options, after, () => `${id} has ${credits(after.available)} available now.\n`);
    return undefined;
  }),
);

const portrait = (w: Detailed): string =>
  facts([
    ['id', w.id],
    ['name', plain(w.name)],
    ['available', credits(w.credits.available)],
    ['reserved', credits(w.credits.reserved)],
    ['at once', w.limits.concurrency.toLocaleString('en')],
    ['queue', w.limits.queue.toLocaleString('en')],
    ['requests', w.limits.requests_per_minute === null ? null : `${w.limits.requests_per_minute} a minute`],
    ['provenance', w.provenance ? 'written into files' : 'not written into files'],
    ['made', ago(w.created_at)],
  ]);

export const workspacesCommand = group(
  'workspaces',
  'who shares credits and pictures (needs an admin key)',
  [list, show, create, remove, grant],
  `  darkroom workspaces create "night shoots" --credits 500
  darkroom workspaces grant studio 250 --note "May budget"
  darkroom workspaces grant studio -- -250`,
);

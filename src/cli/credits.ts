// `darkroom credits` and `darkroom usage`: what is left, and what it went into.

import { Command } from 'commander';
import type { UsageRow } from '../client/client.ts';
import { past } from './arguments.ts';
import { remotely, withRemote } from './remote.ts';
import { answer, facts, note, table } from './table.ts';
import { credits, duration, plain } from './words.ts';

export const creditsCommand = withRemote(new Command('credits').description('what the workspace has left')).action(
  remotely(async ({ client, options }) => {
    const c = await client.credits();
    const money = c.usd_per_credit > 0 ? ` ($${(c.available * c.usd_per_credit).toFixed(2)})` : '';
    answer(options, c, () =>
      facts([
        ['available', `${credits(c.available)}${money}`],
        ['reserved', `${credits(c.reserved)} for what is queued or running`],
        ['balance', credits(c.balance)],
      ]),
    );
    return undefined;
  }),
);

interface UsageOptions {
  readonly from?: string;
  readonly to?: string;
  readonly by?: string;
}

const usage = new Command('usage')
  .description('what was charged')
  .option('--from <time>', 'a date, a time, or a span like 7d', past)
  .option('--to <time>', 'until then', past)
  .option('--by <group>', 'day, model, node, key, batch or metadata.KEY')
  .addHelpText(
    'after',
    `
Examples:
  darkroom usage --from 7d --by day
  darkroom usage --by metadata.ticket         what each ticket cost`,
  );

export const usageCommand = withRemote(usage).action(
  remotely<UsageOptions>(async ({ client, options }) => {
    const { from, to, by } = options;
    const found = await client.usage({ ...(from && { from }), ...(to && { to }), ...(by && { group_by: by }) });
    answer(options, found, () => (found.total.jobs > 0 ? rows(found, by) : ''));
    if (found.total.jobs === 0 && !options.json) note('Nothing was charged in this time.');
    return undefined;
  }),
);

function rows({ data, total }: { data: readonly UsageRow[]; total: Omit<UsageRow, 'key'> }, by = 'all'): string {
  const cells = (name: string, u: Omit<UsageRow, 'key'>) => [
    name,
    String(u.jobs),
    String(u.outputs),
    String(u.credits),
    duration(u.node_seconds),
  ];
  const grouped = by === 'all' ? [] : data.map((u) => cells(plain(u.key ?? '(none)'), u));
  return table([by.toUpperCase(), 'JOBS', 'OUTPUTS', 'CREDITS', 'ON NODES'], [...grouped, cells('total', total)]);
}

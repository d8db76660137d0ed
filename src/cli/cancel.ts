// `darkroom cancel`: stop generations. One that cannot be stopped does not keep the others running.

import { Command } from 'commander';
import { exitCodeOf, toldOf } from './failing.ts';
import { remotely, withRemote } from './remote.ts';
import { answer } from './table.ts';
import { tinted } from './words.ts';

const command = new Command('cancel')
  .description('stop generations; what is over stays as it is')
  .argument('<id...>', 'gen_…')
  .addHelpText(
    'after',
    `
Examples:
  darkroom cancel gen_01…
  darkroom cancel $(darkroom list --status queued --limit 100 --json | jq -r '.data[].id')`,
  );

export const cancelCommand = withRemote(command).action(
  remotely<object, [readonly string[]]>(async ({ client, options }, ids) => {
    const ends = await Promise.all(
      ids.map(async (id) => {
        try {
          return { id, code: 0, generation: await client.cancel(id) };
        } catch (error) {
          if (ids.length === 1) throw error;
          return { id, code: exitCodeOf(error), error: toldOf(error) };
        }
      }),
    );
    const data = ends.map((end) => end.generation ?? { id: end.id, error: end.error });
    answer(options, { data, next_cursor: null }, () =>
      ends.map((end) => `${end.id}  ${end.generation ? tinted(end.generation.status) : end.error?.message}\n`).join(''),
    );
    return Math.max(...ends.map((end) => end.code));
  }),
);

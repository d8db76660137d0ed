// `darkroom generate`: ask for a picture, wait for it, save it.

import { Command } from 'commander';
import type { GenerationBody } from '../contract/generations.ts';
import { EXIT, InputError } from './failing.ts';
import { interruption } from './interruption.ts';
import { readyFolder } from './pictures.ts';
import { locate, remotely, withRemote } from './remote.ts';
import { type RequestOptions, requestOf, withRequest } from './request.ts';
import { answer, note } from './table.ts';
import { duration } from './words.ts';

interface Options extends RequestOptions {
  readonly out: string;
  readonly wait: boolean;
}

const command = new Command('generate')
  .description('make a picture, wait for it and save it')
  .argument('[prompt]', 'what to make')
  .option('-o, --out <folder>', 'where to save', '.')
  .option('--no-wait', 'print the id at once and go; "darkroom get" fetches it later')
  .addHelpText(
    'after',
    `
Examples:
  darkroom generate "a lighthouse at dawn" --size 1280x720 --out shots
  darkroom generate "the same, in snow" --init-image shots/lighthouse.png --strength 0.6
  darkroom generate --from gen_01… --seed 8
  id=$(darkroom generate "a night train" --no-wait) && darkroom get $id --wait --out .`,
  );

export const generateCommand = withRemote(withRequest(command)).action(
  remotely<Options, [string | undefined]>(async ({ client, options }, prompt) => {
    if (prompt === undefined && options.from === undefined) {
      throw new InputError('Nothing to make: give a prompt, or --from gen_….');
    }
    const [{ conclude, left }, { follow }] = await Promise.all([import('./ending.ts'), import('./follow.ts')]);
    const folder = options.wait ? await readyFolder(options.out) : null;
    using stop = interruption();
    const { signal } = stop;
    let last: GenerationBody | null = null;
    try {
      const request = await requestOf(prompt, options, await locate(options));
      last = await client.submit(request, { signal });
      if (!options.wait) {
        answer(options, last, () => `${last?.id}\n`);
        note(`${expectation(last)}.\n${left(last, options.out)}`);
        return EXIT.done;
      }
      last = await follow(client, last, signal);
      return await conclude(client, last, { folder, json: options.json, signal });
    } catch (error) {
      if (last === null) throw error;
      note(left(last, options.out));
      if (!signal.aborted) throw error;
      if (options.json) answer(options, last, () => '');
      return EXIT.interrupted;
    }
  }),
);

const expectation = ({ model, seed, status, estimated_seconds: seconds }: GenerationBody): string =>
  `${model}, seed ${seed}, ${seconds === undefined ? status : `about ${duration(seconds)}`}`;

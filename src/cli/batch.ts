// `darkroom batch`: a shot list as one batch, and everything about batches. Here is only what can be typed; the work is in
// the files named batch-…, which are loaded when they are needed.

import { Command, InvalidArgumentError } from 'commander';
import { list, number, pair, wholeNumber } from './arguments.ts';
import type { Keys, PromoteGiven, RunGiven } from './batch-given.ts';
import { reportCommand, statusCommand, steeringCommands } from './batch-steer.ts';
import { withRemote } from './remote.ts';

const keys = (text: string, before: Keys = {}): Keys =>
  text.startsWith('dk_') ? { ...before, gateway: text } : { ...before, columns: list(text) };

function amount(text: string): number {
  const credits = number(text);
  if (credits >= 0) return credits;
  throw new InvalidArgumentError('Expected an amount of credits, 0 or more.');
}

function atLeastOne(text: string): number {
  const n = wholeNumber(text);
  if (n > 0) return n;
  throw new InvalidArgumentError('Expected a whole number, 1 or more.');
}

const runCommand = withRemote(
  new Command('run')
    .description('ask for every line of a shot list (JSONL or CSV), watch it and fetch the pictures')
    .argument('<file>', 'one request per line; fields that are no request fields become metadata')
    .optionsGroup('Shots:')
    .option(
      '--key <columns>',
      'what identifies a shot (default sku,variant,model,prompt_version: those there are, else all)',
      keys,
    )
    .option('--model <model>', 'where a line names none')
    .option('--size <WxH>', 'where a line gives none')
    .option('--steps <n>', 'where a line gives none', wholeNumber)
    .option('--seed <n>', 'where a line gives none', wholeNumber)
    .option('--set <field=value>', 'any other field where a line has none; repeatable', pair)
    .optionsGroup('Batch:')
    .option('--name <name>', 'what it is called (default: the file)')
    .option('--concurrency <n>', 'items in work at once (default 50)', atLeastOne)
    .option('--max-credits <n>', 'what it may cost at most, all its runs together; items beyond are cancelled', amount)
    .option('--breaker <rules>', 'when failures pause it: threshold=0.1,min_finished=20,…')
    .option('--no-breaker', 'go on however many fail')
    .option('--retry-failed', 'ask for what is missing of an earlier run again')
    .option('--dry-run', 'only say what it would cost')
    .option('--yes', 'run as far as the credits go, when they do not reach')
    .optionsGroup('Results:')
    .option('--out <folder>', 'where the pictures go (default: <file>-pictures)')
    .option('--no-download', 'leave the pictures at the gateway')
    .option('--strict', 'exit with 1 when any item is missing'),
  '--api-key <key>',
)
  .addHelpText(
    'after',
    `
Beside the file: <file>.state.json (running again goes on),
  <file>.report.json, <file>-pictures/.
Exit: 0 the batch ended by itself, even at its cap; 1 halted, cancelled, not
  affordable or nothing succeeded (--strict: anything is missing); 2 the file or
  what was typed; 3 key refused; 4 no gateway; 130 Ctrl-C (the batch is paused)`,
  )
  .action(async (file: string, given: RunGiven) => {
    process.exitCode = await (await import('./batch-plan.ts')).runFile(file, given);
  });

const promoteCommand = withRemote(
  new Command('promote')
    .description('make finals of drafts: finished items again, same prompt and seed, with another model')
    .argument('<batch>', 'batch_…, or the file it came from')
    .optionsGroup('Shots:')
    .requiredOption('--model <model>', 'the better one')
    .option('--items <numbers>', 'these, as their pictures are numbered: 3,17', list)
    .option('--select <file>', 'those named in a file, one per line: a key, a gen_… id or a picture')
    .option('--succeeded', 'all that succeeded')
    .optionsGroup('Batch:')
    .option('--max-credits <n>', 'what it may cost at most, all its runs together; items beyond are cancelled', amount)
    .option('--retry-failed', 'ask for what is missing of an earlier run again')
    .option('--dry-run', 'only say what it would cost')
    .option('--yes', 'run as far as the credits go, when they do not reach')
    .optionsGroup('Results:')
    .option('--out <folder>', 'where the pictures go (default: <batch>.<model>-pictures)')
    .option('--no-download', 'leave the pictures at the gateway')
    .option('--strict', 'exit with 1 when any item is missing'),
).action(async (named: string, given: PromoteGiven) => {
  process.exitCode = await (await import('./batch-promote.ts')).promote(named, given);
});

export const batchCommand = new Command('batch')
  .description('many pictures from a file: run it, watch it, steer it')
  .addCommand(runCommand)
  .addCommand(statusCommand)
  .addCommand(reportCommand)
  .addCommand(promoteCommand)
  .addHelpText(
    'after',
    `
Examples:
  darkroom batch run shots.csv --model flux-schnell --max-credits 500
  darkroom batch run shots.csv                                    again: goes on where it stopped
  darkroom batch promote shots.csv --model flux-dev --items 3,17  finals of two drafts`,
  );
for (const command of steeringCommands) batchCommand.addCommand(command);

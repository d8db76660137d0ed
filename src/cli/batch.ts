// `darkroom batch`: a shot list as one batch, and everything about batches. Here is only what can be typed; the work is in
// the files named batch-….

import { basename, extname } from 'node:path';
import { Command, InvalidArgumentError } from 'commander';
import { BreakerRequest } from '../contract/batches.ts';
import { list, number, type Pairs, pair, wholeNumber } from './arguments.ts';
import { cellValue } from './batch-cells.ts';
import { readRows, sayFaults } from './batch-file.ts';
import { IDENTITY, listItems } from './batch-items.ts';
import { openLine } from './batch-line.ts';
import { promoteCommand } from './batch-promote.ts';
import { type Plan, type RunOptions, readInput, runPlan } from './batch-run.ts';
import { reportCommand, statusCommand, steeringCommands } from './batch-steer.ts';
import { fail, InputError, type RemoteOptions } from './remote.ts';

interface Given extends Omit<RemoteOptions, 'key'>, RunOptions {
  readonly key: Keys;
  readonly apiKey?: string;
  readonly name?: string;
  readonly model?: string;
  readonly size?: string;
  readonly steps?: number;
  readonly seed?: number;
  readonly set: Pairs;
  readonly concurrency?: number;
  readonly maxCredits?: number;
  readonly breaker?: false | BreakerRules;
  readonly out?: string;
}

/** `--key` names what identifies a shot; elsewhere it is the gateway's key, and that is understood here too. */
interface Keys {
  readonly columns?: readonly string[];
  readonly gateway?: string;
}

const keys = (text: string, before: Keys): Keys =>
  text.startsWith('dk_') ? { ...before, gateway: text } : { ...before, columns: list(text) };

type BreakerRules = ReturnType<typeof BreakerRequest.parse>;

/** `threshold=0.2,trips=3`: what is not said stays as it is. */
function breaker(text: string): BreakerRules {
  const pairs = list(text).reduce<Pairs>((before, one) => pair(one, before), {});
  const rules = BreakerRequest.safeParse(Object.fromEntries(Object.entries(pairs).map(([k, v]) => [k, Number(v)])));
  if (rules.success) return rules.data;
  throw new InvalidArgumentError(`Expected NAME=NUMBER of ${Object.keys(BreakerRequest.shape).join(', ')}.`);
}

const runCommand = new Command('run')
  .description('ask for every line of a shot list (JSONL or CSV), watch it and fetch the pictures')
  .argument('<file>', 'one request per line; fields that are no request fields become metadata')
  .optionsGroup('Shots:')
  .option(
    '--key <columns>',
    `what identifies a shot (default ${IDENTITY.join(',')}: those there are, else all)`,
    keys,
    {},
  )
  .option('--model <model>', 'where a line names none')
  .option('--size <WxH>', 'where a line gives none')
  .option('--steps <n>', 'where a line gives none', wholeNumber)
  .option('--seed <n>', 'where a line gives none', wholeNumber)
  .option('--set <field=value>', 'any other field where a line has none; repeatable', pair, {})
  .optionsGroup('Batch:')
  .option('--name <name>', 'what it is called (default: the file)')
  .option('--concurrency <n>', 'items in work at once (default 50)', wholeNumber)
  .option('--max-credits <n>', 'what it may cost at most; items beyond are cancelled', number)
  .option('--breaker <rules>', 'when failures pause it: threshold=0.1,min_finished=20,…', breaker)
  .option('--no-breaker', 'go on however many fail')
  .option('--retry-failed', 'try what failed in an earlier run again')
  .option('--dry-run', 'only say what it would cost')
  .option('--yes', 'run as far as the credits go, when they do not reach')
  .optionsGroup('Results:')
  .option('--out <folder>', 'where the pictures go (default: <file>-pictures)')
  .option('--no-download', 'leave the pictures at the gateway')
  .option('--strict', 'exit with 1 when any item fails')
  .option('--json', 'print exactly one JSON document on stdout: the report')
  .optionsGroup('Gateway:')
  .option('--url <address>', 'where it is (else DARKROOM_URL, the profile, http://127.0.0.1:8787)')
  .option('--api-key <key>', 'a key of yours (else DARKROOM_KEY, the profile, ./data/admin-key); --key dk_… does too')
  .option('--profile <name>', 'another of the gateways you are logged in to')
  .addHelpText(
    'after',
    `
Beside the file: <file>.state.json (running again goes on), <file>.report.json, <file>-pictures/.
Exit: 0 the batch ended by itself · 1 it was halted, cancelled or nothing succeeded (--strict: anything failed)
      2 the file or what was typed · 3 key refused · 4 no gateway · 130 Ctrl-C (the batch is paused)`,
  )
  .action(async (file: string, given: Given) => {
    try {
      const plan = await planOf(file, given);
      const key = given.apiKey ?? given.key.gateway;
      const line = await openLine({ ...given, key } as RemoteOptions);
      process.exitCode = await runPlan(line, plan, given);
    } catch (error) {
      fail(error, given);
    }
  });

/** Throws InputError naming every line that cannot be asked for. */
async function planOf(file: string, given: Given): Promise<Plan> {
  const { model, size, steps, seed, set } = given;
  const said = Object.entries({ model, size, steps, seed }).filter(([, value]) => value !== undefined);
  const more = Object.entries(set).map(([name, text]) => [name, cellValue(name, text)] as const);
  const defaults = Object.fromEntries([...said, ...more]);
  const { items, faults } = listItems(readRows(file, await readInput(file)), defaults, given.key.columns ?? null);
  if (faults.length > 0) throw new InputError(sayFaults(file, faults));
  if (items.length === 0) throw new InputError(`${file} has no shots in it.`, 'Write one request per line.');
  const name = given.name ?? basename(file, extname(file)).slice(0, 200);
  return {
    source: file,
    items,
    terms: {
      name,
      ...(given.concurrency !== undefined && { concurrency: given.concurrency }),
      ...(given.maxCredits !== undefined && { max_credits: given.maxCredits }),
      ...(given.breaker !== undefined && { breaker: given.breaker }),
    },
    base: file,
    out: given.out,
    again: `darkroom batch run ${file}`,
  };
}

export const batchCommand = new Command('batch')
  .description('many pictures from a file: run it, watch it, steer it')
  .addCommand(runCommand)
  .addCommand(statusCommand)
  .addCommand(reportCommand)
  .addCommand(promoteCommand);
for (const command of steeringCommands) batchCommand.addCommand(command);

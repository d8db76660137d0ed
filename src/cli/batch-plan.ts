// What was typed behind `darkroom batch run` → the plan of a run. Everything wrong with it is told before a gateway is
// asked for anything.

import { basename, extname } from 'node:path';
import { BreakerRequest } from '../contract/batches.ts';
import { list, type Pairs, pair } from './arguments.ts';
import { cellValue } from './batch-cells.ts';
import { readRows, sayFaults } from './batch-file.ts';
import type { RunGiven } from './batch-given.ts';
import { listItems } from './batch-items.ts';
import { openLine } from './batch-line.ts';
import { type Plan, readInput, runPlan } from './batch-run.ts';
import { InputError, type RemoteOptions } from './remote.ts';

/** Answers with the exit status. */
export async function runFile(file: string, given: RunGiven): Promise<number> {
  const plan = await planOf(file, given);
  const line = await openLine({ ...given, key: given.apiKey ?? given.key.gateway } as RemoteOptions);
  return runPlan(line, plan, given);
}

/** Throws InputError naming every line that cannot be asked for. */
async function planOf(file: string, given: RunGiven): Promise<Plan> {
  const { items, faults } = listItems(
    readRows(file, await readInput(file)),
    defaultsOf(given),
    given.key.columns ?? null,
  );
  if (faults.length > 0) throw new InputError(sayFaults(file, faults));
  if (items.length === 0) throw new InputError(`${file} has no shots in it.`, 'Write one request per line.');
  return {
    source: file,
    items,
    terms: {
      name: given.name ?? basename(file, extname(file)).slice(0, 200),
      ...(given.concurrency !== undefined && { concurrency: given.concurrency }),
      ...(given.maxCredits !== undefined && { max_credits: given.maxCredits }),
      ...(given.breaker !== undefined && { breaker: given.breaker !== false && breakerOf(given.breaker) }),
    },
    base: file,
    out: given.out,
    again: `darkroom batch run ${file}`,
  };
}

/** What holds where a line says nothing. */
function defaultsOf({ model, size, steps, seed, set }: RunGiven): Readonly<Record<string, unknown>> {
  const said = Object.entries({ model, size, steps, seed }).filter(([, value]) => value !== undefined);
  const more = Object.entries(set).map(([name, text]) => [name, cellValue(name, text)] as const);
  return Object.fromEntries([...said, ...more]);
}

/** `threshold=0.2,trips=3`: what is not said stays as it is. */
function breakerOf(text: string): ReturnType<typeof BreakerRequest.parse> {
  const names = Object.keys(BreakerRequest.shape).join(', ');
  const pairs = list(text).reduce<Pairs>((before, one) => pair(one, before), {});
  const rules = BreakerRequest.safeParse(Object.fromEntries(Object.entries(pairs).map(([k, v]) => [k, Number(v)])));
  if (rules.success) return rules.data;
  throw new InputError(`--breaker ${text}: expected NAME=NUMBER,… of ${names}.`, rules.error.issues[0]?.message);
}

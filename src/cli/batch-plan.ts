// What was typed behind `darkroom batch run` → the plan of a run. Everything wrong with it is told before a gateway is
// asked for anything.

import { basename, extname } from 'node:path';
import { BreakerRequest } from '../contract/batches.ts';
import { list, type Pairs, pair } from './arguments.ts';
import type { Plan } from './batch-begin.ts';
import { cellValue, isRequestField } from './batch-cells.ts';
import { type Row, readInput, readRows, sayFaults } from './batch-file.ts';
import type { RunGiven } from './batch-given.ts';
import { listItems } from './batch-items.ts';
import { openLine } from './batch-line.ts';
import { typed } from './batch-missing.ts';
import { runPlan } from './batch-run.ts';
import { TypedTerms } from './batch-state.ts';
import { InputError } from './failing.ts';
import type { RemoteOptions } from './remote.ts';

/** Answers with the exit status. */
export async function runFile(file: string, given: RunGiven): Promise<number> {
  const plan = await planOf(file, given);
  const line = await openLine({ ...given, key: given.apiKey ?? given.key?.gateway } as RemoteOptions);
  return runPlan(line, plan, given);
}

/** Throws InputError naming every line that cannot be asked for. */
async function planOf(file: string, given: RunGiven): Promise<Plan> {
  const reading = readRows(file, await readInput(file));
  const defaults = defaultsOf(given);
  const { items, faults } = listItems(reading, defaults, given.key?.columns ?? null);
  if (faults.length > 0) throw new InputError(sayFaults(file, faults));
  if (items.length === 0) throw new InputError(`${file} has no shots in it.`, 'Write one request per line.');
  return {
    source: file,
    items,
    title: basename(file, extname(file)).slice(0, 200),
    terms: termsOf(given),
    fields: fieldsOf(reading.rows, defaults),
    base: file,
    out: given.out,
    again: againOf(file, given),
  };
}

/** Throws InputError for what no batch can be made with. */
function termsOf({ name, concurrency, maxCredits, breaker }: RunGiven): TypedTerms {
  const terms = TypedTerms.safeParse({
    ...(name !== undefined && { name }),
    ...(concurrency !== undefined && { concurrency }),
    ...(maxCredits !== undefined && { max_credits: maxCredits }),
    ...(breaker !== undefined && { breaker: breaker !== false && breakerOf(breaker) }),
  });
  if (terms.success) return terms.data;
  const [{ path, message } = { path: [], message: '' }] = terms.error.issues;
  throw new InputError(`--${String(path[0]).replace('_', '-')}: ${message.replace(/^.*: /, '')}.`);
}

/** So that a misspelt field is seen: it becomes metadata. */
function fieldsOf(rows: readonly Row[], defaults: Readonly<Record<string, unknown>>): Plan['fields'] {
  const names = [...new Set([...rows.flatMap((row) => Object.keys(row.fields)), ...Object.keys(defaults)])];
  const isMetadata = (name: string) => !isRequestField(name) || /^metadata(\.|$)/.test(name);
  return { request: names.filter((name) => !isMetadata(name)), metadata: names.filter(isMetadata) };
}

/** What was typed, less the key of the gateway and what holds for one run only. */
function againOf(file: string, given: RunGiven): string {
  const flag = (name: string, value: string | number | undefined) => (value === undefined ? [] : [`--${name}`, value]);
  return typed([
    ...['darkroom', 'batch', 'run', file],
    ...flag('key', given.key?.columns?.join(',')),
    ...flag('model', given.model),
    ...flag('size', given.size),
    ...flag('steps', given.steps),
    ...flag('seed', given.seed),
    ...Object.entries(given.set ?? {}).flatMap(([name, value]) => ['--set', `${name}=${value}`]),
    ...flag('out', given.out),
    ...(given.download ? [] : ['--no-download']),
    ...flag('url', given.url),
    ...flag('profile', given.profile),
  ]);
}

/** What holds where a line says nothing. */
function defaultsOf({ model, size, steps, seed, set = {} }: RunGiven): Readonly<Record<string, unknown>> {
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

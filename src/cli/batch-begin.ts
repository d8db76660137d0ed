// What a run begins with. A list that was run before is taken up where it stands, or, where its batch can do no more for
// what is missing, asked for again as a new batch under the same keys, which costs nothing for what is finished.

import type { Client } from '../client/client.ts';
import type { BatchBody, ReportBody } from '../contract/batches.ts';
import type { RunOptions } from './batch-given.ts';
import type { Item } from './batch-items.ts';
import type { Line } from './batch-line.ts';
import { exact, missingOf } from './batch-missing.ts';
import { say } from './batch-say.ts';
import { createSender, type Terms } from './batch-send.ts';
import { remembered, type StateFile, sayChanges, type TypedTerms } from './batch-state.ts';
import { endedOf, judgeProjection, number, sayProjection, type Verdict } from './batch-text.ts';
import { CommandError, InputError } from './failing.ts';
import { count } from './words.ts';

export interface Plan {
  /** What the items came from, as it is called in messages. */
  readonly source: string;
  readonly items: readonly Item[];
  /** Its name when none was typed. */
  readonly title: string;
  /** As they were typed. `max_credits` counts what earlier batches of the same list have cost. */
  readonly terms: TypedTerms;
  /** Names of fields, as the gateway takes them; null where they are not a person's choice. */
  readonly fields: { readonly request: readonly string[]; readonly metadata: readonly string[] } | null;
  /** State, report and pictures stand beside it. */
  readonly base: string;
  readonly out: string | undefined;
  /** How to run it again, as it is typed. */
  readonly again: string;
}

export interface Beginning {
  readonly line: Line;
  readonly plan: Plan;
  readonly options: RunOptions;
  readonly state: StateFile;
  readonly signal: AbortSignal;
}

/** The batch to attend: an earlier one, or a new one. Throws CommandError where nothing can be begun. */
export async function begin(at: Beginning): Promise<BatchBody> {
  const { line, plan, state } = at;
  const before = await earlier(line, state);
  if (before === null) return make(at, NOTHING_BEFORE);
  const changes = sayChanges(state.state().items, plan.items.map(remembered));
  if (changes !== null) {
    say(`${before.id} is of an earlier ${plan.source} (now ${changes}): ${ANEW}`);
    return make(at, { ...NOTHING_BEFORE, before });
  }
  const report = await ended(line.client, before);
  const why = report === null ? null : await whyAnew(at, report);
  if (report === null || why === null) return takeUp(at, before);
  say(`${before.id} ${why}: ${ANEW}`);
  return make(at, continued(state, report));
}

const ANEW = 'a new batch; what is finished is attached and costs nothing.';

/** What a new batch goes on from. */
interface Origin {
  readonly before: BatchBody | null;
  /** In force unless others are typed now. */
  readonly terms: TypedTerms;
  readonly spent: number;
  /** Items that have succeeded and must not be paid for again. */
  readonly finished: number;
}

const NOTHING_BEFORE: Origin = { before: null, terms: {}, spent: 0, finished: 0 };

function continued(state: StateFile, before: ReportBody): Origin {
  const { terms, spent } = state.state();
  const cost = exact(spent + before.credits.charged + before.credits.reserved);
  return { before, terms, spent: cost, finished: before.counts.succeeded };
}

/** The batch of an earlier run; null: there is none any more. */
async function earlier({ client, url }: Line, state: StateFile): Promise<BatchBody | null> {
  const { batch: id, url: at } = state.state();
  if (id === null) return null;
  const batch = await client.batches.get(id).catch((error: { code?: string }) => {
    if (error.code !== 'not_found') throw error;
    return null;
  });
  if (batch !== null) return batch;
  if (at !== null && at !== url) {
    throw new InputError(
      `${state.path} belongs to the gateway at ${at}; the one at ${url} does not know ${id}.`,
      `Run with --url ${at}, or remove ${state.path} to ask for everything here.`,
    );
  }
  say(`${id} is not there any more: asking again under the same keys; what is finished costs nothing.`);
  return null;
}

/** What it came to, when it came to an end with something missing; null: it goes on, or is complete. */
async function ended({ runBatch, batches }: Client, batch: BatchBody): Promise<ReportBody | null> {
  if (batch.status === 'running' || batch.status === 'paused' || batch.counts.succeeded === batch.total) return null;
  // Keys of what still runs are not free.
  if (batch.status === 'cancelled' && batch.finished_at === null) return runBatch({ id: batch.id });
  return batches.report(batch.id);
}

/** Why what is missing takes a new batch; null: it does not, or cannot be had now. */
async function whyAnew(at: Beginning, report: ReportBody): Promise<string | null> {
  const { plan, options, state } = at;
  if (report.status === 'cancelled') return 'was cancelled';
  const { short, poor, stopped } = missingOf(report);
  const missing = count(report.total - report.counts.succeeded, 'item');
  if (options.retryFailed) {
    const takesAnother = short + stopped > 0 || options.yes || changed(state, plan.terms).length > 0;
    return takesAnother ? `has ended with ${missing} missing` : null;
  }
  if (short === 0 || report.status !== 'finished') return null;
  const before = state.state().terms.max_credits;
  const cap = plan.terms.max_credits ?? before;
  const stands = poor === 0 && before !== undefined && cap !== undefined && cap <= before;
  if (stands) return null;
  const asked = plan.terms.max_credits !== undefined || options.yes;
  if (!asked) {
    const verdict = await afford(at, continued(state, report));
    if (!verdict.go) return null;
  }
  return `${before === undefined || poor > 0 ? 'ran out of credits' : 'stopped at its cap'} with ${missing} missing`;
}

async function afford({ line, plan, options }: Beginning, origin: Origin): Promise<Verdict> {
  const terms = termsOf(plan, origin);
  const dry = await createSender(line.client, plan.source, plan.items).project(terms);
  return judgeProjection(dry, options.yes === true, origin.spent);
}

/** As the gateway is told them: the cap is what earlier batches have left of it. */
function termsOf({ title, terms }: Plan, origin: Origin): Terms {
  const typed = { name: title, ...origin.terms, ...terms };
  const { max_credits: cap } = typed;
  return cap === undefined ? typed : { ...typed, max_credits: Math.max(0, exact(cap - origin.spent)) };
}

async function make({ line, plan, options, state, signal }: Beginning, origin: Origin): Promise<BatchBody> {
  const { client, url } = line;
  const { before, spent } = origin;
  const terms = termsOf(plan, origin);
  const sender = createSender(client, plan.source, plan.items);
  const dry = await sender.project(terms);
  const said = sayProjection(plan.source, dry, (i) => plan.items[i]?.line ?? i, { fields: plan.fields, spent });
  say(said);
  const verdict = judgeProjection(dry, options.yes === true, spent);
  if (!verdict.go) throw new CommandError(verdict.code, verdict.message, verdict.advice);
  if (dry.attached < origin.finished) throw forgotten(plan, state, origin.finished - dry.attached);
  if (verdict.note !== null) say(`  ${verdict.note}`);
  if (signal.aborted) throw Object.assign(new Error('Nothing was sent.'), { name: 'AbortError' });
  if (before !== null && before.finished_at === null) await endIt(client, before);
  const items = plan.items.map(remembered);
  const kept = { url, items, lines: linesOf(plan), terms: { ...origin.terms, ...plan.terms }, spent };
  const asked = verdict.maxCredits === null ? terms : { ...terms, max_credits: verdict.maxCredits };
  const batch = await sender.create(asked, state.state().batch, (made) => state.save({ ...kept, batch: made.id }));
  say(batch.finished_at === null ? `${batch.id} runs; Ctrl-C pauses it.` : `${batch.id} made them in an earlier run.`);
  return batch;
}

const linesOf = ({ items }: Plan): number[] => items.map(({ line }) => line);

/** The gateway keeps keys for a day. */
function forgotten({ source }: Plan, { path }: StateFile, items: number): CommandError {
  return new CommandError(
    'conflict',
    `The gateway does not know ${count(items, 'finished item')} by key any more: asking again would pay for them again.`,
    `Take their lines out of ${source} and run it again; or remove ${path} to pay for them. Nothing was sent.`,
  );
}

/** Nothing of it runs any more when it resolves, so that its items' keys are free. */
async function endIt(client: Client, { id }: BatchBody): Promise<void> {
  await client.batches.cancel(id);
  await client.runBatch({ id });
}

async function takeUp({ line, plan, options, state }: Beginning, found: BatchBody): Promise<BatchBody> {
  const { batches } = line.client;
  say(`Going on with ${found.id}: ${number(endedOf(found))} of ${count(found.total, 'item')} have ended.`);
  await state.save({ lines: linesOf(plan) });
  const ignored = changed(state, plan.terms);
  if (ignored.length > 0) say(`Ignored: ${ignored.join(', ')}. ${whatKeeps(found)}`);
  const whole = await createSender(line.client, plan.source, plan.items).complete(found);
  const { failed, timeout, cancelled } = whole.counts;
  if (options.retryFailed && failed + timeout + cancelled > 0) return batches.retryFailed(whole.id);
  if (options.retryFailed) say('Nothing of it has failed: there is nothing to try again.');
  return whole.status === 'paused' ? batches.resume(whole.id) : whole;
}

const OPTIONS: Readonly<Record<keyof TypedTerms, string>> = {
  name: '--name',
  concurrency: '--concurrency',
  max_credits: '--max-credits',
  breaker: '--breaker',
};

/** Options typed now that say something else than the batch was made with. */
function changed(state: StateFile, typed: TypedTerms): readonly string[] {
  const before = state.state().terms;
  return (Object.keys(OPTIONS) as (keyof TypedTerms)[])
    .filter((name) => typed[name] !== undefined && JSON.stringify(typed[name]) !== JSON.stringify(before[name]))
    .map((name) => (name === 'breaker' && typed.breaker === false ? '--no-breaker' : OPTIONS[name]));
}

function whatKeeps({ id, status, counts, total }: BatchBody): string {
  if (counts.succeeded === total) return 'Everything is made.';
  if (status === 'running' || status === 'paused') {
    return `A batch keeps what it was made with; to change that, end it first:\n  darkroom batch cancel ${id}`;
  }
  return 'A batch keeps what it was made with; with --retry-failed, what is missing gets a new one.';
}

// One run of a shot list, from asking to the report on the desk. What has been asked for before is taken up, not asked for
// again; Ctrl-C pauses the batch where it runs, and the next run goes on.

import { readFile, writeFile } from 'node:fs/promises';
import { relative } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import type { Client, ItemBody } from '../client/client.ts';
import type { BatchBody, ReportBody } from '../contract/batches.ts';
import { type Board, createBatchBoard } from './batch-board.ts';
import { createDownloads, type Downloads } from './batch-downloads.ts';
import type { RunOptions } from './batch-given.ts';
import type { Item } from './batch-items.ts';
import { createSender, type Terms } from './batch-send.ts';
import { openState, remembered, type StateFile, sayChanges } from './batch-state.ts';
import { endedOf, judgeProjection, sayProjection, sayReport, withLines } from './batch-text.ts';
import { interruption } from './interruption.ts';
import { readyFolder } from './pictures.ts';
import { CommandError, EXIT, InputError } from './remote.ts';
import { answer, note } from './table.ts';
import { count } from './words.ts';

export interface Plan {
  /** What the items came from, as it is called in messages. */
  readonly source: string;
  readonly items: readonly Item[];
  readonly terms: Terms;
  /** State, report and pictures stand beside it. */
  readonly base: string;
  readonly out: string | undefined;
  /** How to go on, as it is typed. */
  readonly again: string;
}

/** The client, its gateway's address, and word of whether that answers (null: it does again). */
export interface Line {
  readonly client: Client;
  readonly url: string;
  onSilence(tell: (reason: string | null) => void): void;
}

export const stateFileOf = (base: string): string => `${base}.state.json`;
export const reportFileOf = (base: string): string => `${base}.report.json`;

/** Answers with the exit status. */
export async function runPlan(line: Line, plan: Plan, options: RunOptions): Promise<number> {
  const state = await openState(stateFileOf(plan.base));
  if (options.dryRun) return dryRun(line, plan, options);
  const folder = options.download ? await readyFolder(plan.out ?? `${plan.base}-pictures`) : null;
  const board = createBatchBoard();
  using stop = interruption();
  const { signal } = stop;
  signal.addEventListener('abort', () => {
    board.stop();
    note(`\nPausing the batch. (Ctrl-C again leaves at once, and the gateway goes on with it.)`);
  });
  try {
    const before = await earlier(line, plan, state);
    const batch = before?.goesOn
      ? await takeUp(line, plan, options, before.batch)
      : await begin(line, plan, state, options, signal, before?.batch ?? null);
    const downloads = folder === null ? null : createDownloads(line.client, folder, state, signal);
    return await attend({ line, plan, options, board, downloads, folder, signal }, batch);
  } finally {
    board.stop();
    await state.close();
  }
}

/** What is at hand while a batch is attended. */
interface Desk {
  readonly line: Line;
  readonly plan: Plan;
  readonly options: RunOptions;
  readonly board: Board;
  /** Null: pictures stay at the gateway. */
  readonly downloads: Downloads | null;
  readonly folder: string | null;
  readonly signal: AbortSignal;
}

async function dryRun({ client }: Line, plan: Plan, options: RunOptions): Promise<number> {
  const dry = await createSender(client, plan.source, plan.items).project(plan.terms);
  const refused = dry.refused.map((r) => ({ line: lineOf(plan, r.index), ...r }));
  const verdict = judgeProjection(dry, options.yes === true);
  answer(options, { ...dry, refused }, () => `${sayProjection(plan.source, dry, (i) => lineOf(plan, i) ?? i)}\n`);
  if (verdict.go) {
    note(verdict.note === null ? 'It fits. Nothing was sent.' : `Nothing was sent; ${verdict.note}.`);
    return EXIT.done;
  }
  note(`${verdict.message}\n${verdict.advice}`);
  return verdict.code === 'invalid_request' ? EXIT.input : EXIT.failed;
}

const lineOf = (plan: Plan, index: number): number | null => plan.items[index]?.line ?? null;

/** The batch of an earlier run, and whether it is still what is asked for; null: there is none. */
async function earlier({ client, url }: Line, plan: Plan, state: StateFile) {
  const { batch: id, url: at, items } = state.state();
  if (id === null) return null;
  const batch = await client.batches.get(id).catch((error: { code?: string }) => {
    if (error.code !== 'not_found') throw error;
    return null;
  });
  if (batch === null) return gone(id, at, url, state);
  const changes = sayChanges(items, plan.items.map(remembered));
  const why = changes === null ? 'was cancelled' : `is of an earlier ${plan.source} (now ${changes})`;
  const goesOn = changes === null && batch.status !== 'cancelled';
  if (!goesOn) note(`${id} ${why}: a new batch; what is finished is attached and costs nothing.`);
  return { batch, goesOn };
}

async function takeUp({ client }: Line, plan: Plan, options: RunOptions, found: BatchBody): Promise<BatchBody> {
  note(`Going on with ${found.id}: ${endedOf(found)} of ${count(found.total, 'item')} have ended.`);
  const whole = await createSender(client, plan.source, plan.items).complete(found);
  const { failed, timeout, cancelled } = whole.counts;
  if (options.retryFailed && failed + timeout + cancelled > 0) return client.batches.retryFailed(whole.id);
  return whole.status === 'paused' ? client.batches.resume(whole.id) : whole;
}

function gone(id: string, at: string | null, url: string, state: StateFile): null {
  if (at !== null && at !== url) {
    throw new InputError(
      `${state.path} belongs to the gateway at ${at}; the one at ${url} does not know ${id}.`,
      `Run with --url ${at}, or remove ${state.path} to ask for everything here.`,
    );
  }
  note(`${id} is not there any more: asking again under the same keys; what is finished costs nothing.`);
  return null;
}

/** Nothing of it runs any more when it resolves, so that its items' keys are free. */
async function endIt(client: Client, { id }: BatchBody): Promise<void> {
  await client.batches.cancel(id);
  await client.runBatch({ id });
}

async function begin(
  { client, url }: Line,
  plan: Plan,
  state: StateFile,
  options: RunOptions,
  signal: AbortSignal,
  before: BatchBody | null,
): Promise<BatchBody> {
  const sender = createSender(client, plan.source, plan.items);
  const dry = await sender.project(plan.terms);
  note(sayProjection(plan.source, dry, (i) => lineOf(plan, i) ?? i));
  const verdict = judgeProjection(dry, options.yes === true);
  if (!verdict.go) throw new CommandError(verdict.code, verdict.message, verdict.advice);
  if (verdict.note !== null) note(`  ${verdict.note}`);
  if (signal.aborted) throw Object.assign(new Error('Nothing was sent.'), { name: 'AbortError' });
  const terms = verdict.maxCredits === null ? plan.terms : { ...plan.terms, max_credits: verdict.maxCredits };
  if (before !== null && before.finished_at === null) await endIt(client, before);
  const previous = state.state().batch;
  const items = plan.items.map(remembered);
  const batch = await sender.create(terms, previous, (made) => state.save({ url, batch: made.id, items }));
  note(`${batch.id} runs; Ctrl-C pauses it.`);
  return batch;
}

async function attend(desk: Desk, batch: BatchBody): Promise<number> {
  const { line, board, downloads, signal } = desk;
  line.onSilence((reason) => {
    if (!signal.aborted) board.silence(reason === null ? null : `${reason} ${MEANWHILE}`);
  });
  const report = await watch(desk, batch).catch((error: unknown) => {
    if (!signal.aborted) throw error;
    return null;
  });
  await downloads?.settled();
  if (report !== null) board.show(report, { last: null, saved: downloads?.counts().saved ?? null });
  board.stop();
  return report === null || signal.aborted ? await pause(desk, batch) : await layOnDesk(desk, report);
}

const MEANWHILE = 'Waiting; what was accepted is not lost.';

/** Longer silences than the client's own patience are waited out too: the batch goes on overnight. */
async function watch({ line, plan, board, downloads, signal }: Desk, { id }: BatchBody): Promise<ReportBody> {
  let last: string | null = null;
  let now: BatchBody | null = null;
  const show = () => {
    if (now !== null) board.show(now, { last, saved: downloads?.counts().saved ?? null });
  };
  const told = new Set<string>();
  const onItem = ({ index, generation }: ItemBody) => {
    if (told.has(generation.id)) return;
    told.add(generation.id);
    const name = nameOf(plan, index);
    last = `last: ${name} ${generation.status}`;
    if (generation.status === 'succeeded') downloads?.add(generation, name);
    show();
  };
  const onUpdate = (batch: BatchBody) => {
    now = batch;
    show();
  };
  const over = new AbortController();
  if (board.live) void glance(line.client, id, onUpdate, AbortSignal.any([signal, over.signal]));
  try {
    for (;;) {
      try {
        return await line.client.runBatch({ id }, { signal, onUpdate, onItem });
      } catch (error) {
        if (signal.aborted || (error as { retryable?: boolean }).retryable !== true) throw error;
      }
    }
  } finally {
    over.abort();
  }
}

const GLANCE_MS = 1_000;

/** The client polls as seldom as it may; who looks at a board wants to see it move. Silence is for the client to notice. */
async function glance(
  client: Client,
  id: string,
  show: (batch: BatchBody) => void,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    await setTimeout(GLANCE_MS, undefined, { signal }).catch(() => {});
    const batch = await client.batches.get(id, { signal }).catch(() => null);
    if (batch !== null && !signal.aborted) show(batch);
  }
}

/** `731-A1-red`: the line it stands on, and its identity. */
function nameOf(plan: Plan, index: number): string {
  const item = plan.items[index];
  if (item === undefined) return `item-${index}`;
  return [item.line, item.label].filter((part) => part !== '').join('-');
}

/** Time for one answer: somebody waits to get their terminal back. */
const PAUSE_PATIENCE_MS = 10_000;

async function pause({ line, plan, options }: Desk, { id }: BatchBody): Promise<number> {
  const { batches } = line.client;
  const bounded = { signal: AbortSignal.timeout(PAUSE_PATIENCE_MS) };
  const paused = await batches.pause(id, bounded).catch((error: Error & { code?: string }) => {
    if (error.code !== 'conflict') {
      note(`${id} could not be paused (${error.message}) and may go on. ${plan.again} takes it up.`);
      return null;
    }
    return batches.get(id, bounded).catch(() => null);
  });
  if (options.json) answer(options, paused ?? { id }, () => '');
  if (paused !== null) {
    const how = paused.status === 'paused' ? 'is paused; what runs now still ends' : `is ${paused.status}`;
    note(`${id} ${how}: ${endedOf(paused)} of ${count(paused.total, 'item')} have ended. To go on: ${plan.again}`);
  }
  return EXIT.interrupted;
}

async function layOnDesk({ plan, options, downloads, folder }: Desk, report: ReportBody): Promise<number> {
  const lined = withLines(report, (index) => lineOf(plan, index));
  const reportFile = reportFileOf(plan.base);
  await writeFile(reportFile, `${JSON.stringify(lined, null, 2)}\n`);
  const pictures = downloads === null || folder === null ? null : { ...downloads.counts(), folder: near(folder) };
  answer(options, lined, () => `${sayReport(lined, { pictures, reportFile: near(reportFile) })}\n`);
  if (report.counts.succeeded < report.total && report.status !== 'cancelled') {
    note(`To try the failed ones again: ${plan.again} --retry-failed`);
  }
  return exitOf(report, downloads?.counts().failed.length ?? 0, options.strict === true);
}

/** 0 when it ended by itself and something came of it; with `strict`, only when everything did. */
export function exitOf({ status, counts, total }: ReportBody, notFetched: number, strict: boolean): number {
  if (status !== 'finished' || counts.succeeded === 0) return EXIT.failed;
  return strict && (counts.succeeded < total || notFetched > 0) ? EXIT.failed : EXIT.done;
}

/** A path as a person would type it here. */
function near(path: string): string {
  const shorter = relative(process.cwd(), path);
  return shorter.startsWith('..') || shorter === '' ? path : shorter;
}

/** Throws InputError where it cannot be read. */
export async function readInput(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (error) {
    throw new InputError(`${path} cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
}

// One run of a shot list, from asking to the report on the desk. What has been asked for before is taken up, not asked for
// again; Ctrl-C pauses the batch where it runs, and the next run goes on.

import { writeFile } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import type { Client, ItemBody } from '../client/client.ts';
import type { BatchBody, DryRunBody, ReportBody } from '../contract/batches.ts';
import { begin, type Plan } from './batch-begin.ts';
import { type Board, createBatchBoard } from './batch-board.ts';
import { createDownloads, type Downloads } from './batch-downloads.ts';
import type { RunOptions } from './batch-given.ts';
import type { Line } from './batch-line.ts';
import { adviceOf } from './batch-missing.ts';
import { advise, fitted, say } from './batch-say.ts';
import { createSender } from './batch-send.ts';
import { openState, type StateFile, stateFileOf } from './batch-state.ts';
import { endedOf, judgeProjection, number, sayProjection, sayReport, withLines } from './batch-text.ts';
import { EXIT } from './failing.ts';
import { interruption } from './interruption.ts';
import { near, readyFolder } from './pictures.ts';
import { answer } from './table.ts';
import { count, styled } from './words.ts';

const reportFileOf = (base: string): string => `${base}.report.json`;

/** Answers with the exit status. */
export async function runPlan(line: Line, plan: Plan, options: RunOptions): Promise<number> {
  const state = await openState(stateFileOf(plan.base));
  if (options.dryRun) return dryRun(line, plan, options);
  const folder = options.download ? await readyFolder(plan.out ?? `${plan.base}-pictures`) : null;
  const board = createBatchBoard();
  const stop = interruption();
  const { signal } = stop;
  signal.addEventListener('abort', () => {
    board.stop();
    say(`\nPausing the batch. (Ctrl-C again leaves at once, and the gateway goes on with it.)`);
  });
  try {
    const batch = await begin({ line, plan, options, state, signal });
    const downloads = folder === null ? null : createDownloads(line.client, folder, state, signal);
    return await attend({ line, plan, options, state, board, downloads, folder, signal }, batch);
  } finally {
    board.stop();
    await state.close();
    // Until the process has ended, a second Ctrl-C means what the first one meant.
    if (!signal.aborted) stop[Symbol.dispose]();
  }
}

/** What is at hand while a batch is attended. */
interface Desk {
  readonly line: Line;
  readonly plan: Plan;
  readonly options: RunOptions;
  readonly state: StateFile;
  readonly board: Board;
  /** Null: pictures stay at the gateway. */
  readonly downloads: Downloads | null;
  readonly folder: string | null;
  readonly signal: AbortSignal;
}

async function dryRun({ client }: Line, plan: Plan, options: RunOptions): Promise<number> {
  const terms = { name: plan.title, ...plan.terms };
  const dry = await createSender(client, plan.source, plan.items).project(terms);
  const refused = dry.refused.map((r) => ({ line: lineOf(plan, r.index), ...r }));
  const verdict = judgeProjection(dry, options.yes === true);
  answer(options, { ...dry, refused, ...(plan.fields && { fields: plan.fields }) }, () => {
    const said = sayProjection(plan.source, dry, (i) => lineOf(plan, i) ?? i, { fields: plan.fields, spent: 0 });
    return `${fitted(said, process.stdout)}\n`;
  });
  if (verdict.go) {
    say(sayFit(dry, verdict.note));
    return options.strict === true && refused.length > 0 ? EXIT.input : EXIT.done;
  }
  say(`${verdict.message}\n${verdict.advice}`);
  return verdict.code === 'invalid_request' ? EXIT.input : EXIT.failed;
}

function sayFit({ refused }: DryRunBody, limit: string | null): string {
  const fit = limit ?? 'the credits reach';
  const correct = refused.length === 0 ? '' : ` Correct ${count(refused.length, 'line')} first, or do without.`;
  return `Nothing was sent; ${fit}.${correct}`;
}

const lineOf = (plan: Plan, index: number): number | null => plan.items[index]?.line ?? null;

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
  const nameOf = namer(plan);
  const onItem = ({ index, generation }: ItemBody) => {
    if (told.has(generation.id)) return;
    told.add(generation.id);
    const name = nameOf(index);
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

/** `0731-A1-red`: the line it stands on, as wide as the widest, and its identity. */
function namer({ items }: Plan): (index: number) => string {
  const width = String(items.reduce((most, { line }) => Math.max(most, line), 0)).length;
  return (index) => {
    const item = items[index];
    if (item === undefined) return `item-${index}`;
    return [String(item.line).padStart(width, '0'), item.label].filter((part) => part !== '').join('-');
  };
}

/** Time for one answer: somebody waits to get their terminal back. */
const PAUSE_PATIENCE_MS = 10_000;

async function pause({ line, plan, options, downloads }: Desk, { id }: BatchBody): Promise<number> {
  const { batches } = line.client;
  const bounded = { signal: AbortSignal.timeout(PAUSE_PATIENCE_MS) };
  const paused = await batches.pause(id, bounded).catch((error: Error & { code?: string }) => {
    if (error.code === 'conflict') return batches.get(id, bounded).catch(() => null);
    advise(`${id} could not be paused (${error.message}) and may go on. To take it up:`, plan.again);
    return null;
  });
  if (options.json) answer(options, paused ?? { id }, () => '');
  if (paused === null) return EXIT.interrupted;
  const how = paused.status === 'paused' ? 'is paused; what runs now still ends' : `is ${paused.status}`;
  const pictures =
    downloads === null ? '' : `, ${count(downloads.counts().saved, 'picture')} saved (the next run fetches the rest)`;
  const ended = `${number(endedOf(paused))} of ${count(paused.total, 'item')} have ended${pictures}`;
  advise(`${id} ${how}: ${ended}. To go on:`, plan.again);
  return EXIT.interrupted;
}

async function layOnDesk(desk: Desk, report: ReportBody): Promise<number> {
  const { plan, options, state, downloads, folder } = desk;
  const lined = withLines(report, (index) => lineOf(plan, index));
  const reportFile = reportFileOf(plan.base);
  await writeFile(reportFile, `${JSON.stringify(lined, null, 2)}\n`);
  const pictures = downloads === null || folder === null ? null : { ...downloads.counts(), folder: near(folder) };
  const said = () => sayReport(lined, { pictures, reportFile: near(reportFile) });
  answer(options, lined, () => `${fitted(said(), process.stdout)}\n`);
  const { terms, spent } = state.state();
  const missing = adviceOf(report, { again: plan.again, cap: terms.max_credits ?? null, spent });
  const unmade = report.total - report.counts.succeeded;
  if (unmade > 0)
    say(`\n${styled('red', `MISSING: ${number(unmade)} of ${count(report.total, 'item')}.`, process.stderr)}`);
  for (const { why, command } of missing) advise(why, command);
  return exitOf(report, downloads?.counts().failed.length ?? 0, options.strict === true);
}

/** 0 when it ended by itself and something came of it; with `strict`, only when everything did. */
export function exitOf({ status, counts, total }: ReportBody, notFetched: number, strict: boolean): number {
  if (status !== 'finished' || counts.succeeded === 0) return EXIT.failed;
  return strict && (counts.succeeded < total || notFetched > 0) ? EXIT.failed : EXIT.done;
}

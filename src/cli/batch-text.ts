// What is said of a batch, in words and numbers: before it runs, while it runs, and when it lies on the desk. Pure.

import type { BatchBody, DryRunBody, ReportBody } from '../contract/batches.ts';
import { exact, isNotBegun } from './batch-missing.ts';
import { count, credits, cut, duration, plain } from './words.ts';

export const number = (n: number): string => n.toLocaleString('en', { maximumFractionDigits: 3 });

const clockTime = (at: string): string => new Date(at).toLocaleTimeString('en-GB');

export const endedOf = ({ counts }: Pick<BatchBody, 'counts'>): number =>
  counts.succeeded + counts.failed + counts.timeout + counts.cancelled;

/** What somebody worked on: cancelled ones cost no time. */
export const workedOff = ({ counts }: Pick<BatchBody, 'counts'>): number =>
  counts.succeeded + counts.failed + counts.timeout;

const STATUSES = ['succeeded', 'failed', 'timeout', 'cancelled', 'running', 'queued'] as const;

export const sayCounts = ({ counts }: BatchBody): string =>
  STATUSES.filter((s) => counts[s] > 0)
    .map((s) => `${s} ${number(counts[s])}`)
    .join(' · ');

export function saySpend({ credits: c }: BatchBody): string {
  const cap = c.max_credits === null ? '' : `, cap ${number(c.max_credits)}`;
  const reserved = c.reserved > 0 ? `, ${number(c.reserved)} reserved` : '';
  return `${number(c.charged)} of ${number(c.projected)} credits${reserved}${cap}`;
}

/** What keeps it from going on; null: nothing. */
export function sayHold({ id, status, breaker, finished_at, counts }: BatchBody): string | null {
  const settling = finished_at !== null ? '' : counts.running > 0 ? '; what runs now still ends' : '; clearing away';
  if (status === 'halted') {
    const trips = breaker.trips > 1 ? `, ${breaker.trips} times in a row` : '';
    return `HALTED: too many items failed${trips}${settling}`;
  }
  if (status === 'cancelled') return `cancelled${settling}`;
  if (breaker.state === 'paused') {
    const until = breaker.resumes_at === null ? '' : ` until ${clockTime(breaker.resumes_at)}`;
    return `BREAKER: too many items failed, paused${until} (trip ${breaker.trips})`;
  }
  return status === 'paused' ? `paused by somebody; to go on: darkroom batch resume ${id}` : null;
}

export interface Pace {
  /** Items worked off within the last minute. */
  readonly perMinute: number | null;
}

export function sayPace(batch: BatchBody, { perMinute }: Pace): string {
  const rate = perMinute === null ? [] : [`${number(Math.round(perMinute * 10) / 10)} a minute`];
  const open = batch.counts.queued + batch.counts.running;
  // What was seen here goes before what the gateway expects, so that the two numbers agree.
  const seconds = batch.eta_seconds === null || !perMinute ? batch.eta_seconds : (open / perMinute) * 60;
  return [...rate, ...(seconds === null ? [] : [`about ${roughly(seconds)} left`])].join(', ');
}

/** No more exact than an estimate is. */
const roughly = (seconds: number): string =>
  duration(seconds < 90 ? Math.ceil(seconds / 5) * 5 : Math.round(seconds / 60) * 60);

/** One line that says it all, for logs. */
export function sayStanding(batch: BatchBody, pace: Pace): string {
  const share = batch.total === 0 ? 100 : Math.floor((endedOf(batch) / batch.total) * 100);
  const head = `${String(share).padStart(3)} %  ${number(endedOf(batch))} of ${number(batch.total)}`;
  return [head, sayCounts(batch), saySpend(batch), sayPace(batch, pace)].filter((s) => s !== '').join(' | ');
}

const CONFLICT =
  '    These shots were made from another request before: raise their prompt_version, or name more columns with --key.';

export interface Around {
  /** Null: not a person's choice. */
  readonly fields: { readonly request: readonly string[]; readonly metadata: readonly string[] } | null;
  /** By earlier batches of the same list. */
  readonly spent: number;
}

/** `lineOf`: where an item stands in the file. */
export function sayProjection(
  source: string,
  dry: DryRunBody,
  lineOf: (index: number) => number,
  { fields, spent }: Around = { fields: null, spent: 0 },
): string {
  const models = Object.entries(dry.by_model).sort(([, a], [, b]) => b.items - a.items);
  const width = Math.max(0, ...models.map(([id]) => id.length));
  const before = spent > 0 ? ` (${number(spent)} of it spent before)` : '';
  const cap = dry.max_credits === null ? '' : `, cap ${number(exact(dry.max_credits + spent))}${before}`;
  const refused = dry.refused.slice(0, 20).map((r) => `    line ${lineOf(r.index)}: ${r.code}: ${plain(r.message)}`);
  const more = dry.refused.length > 20 ? [`    … and ${dry.refused.length - 20} more`] : [];
  return [
    `${source}: ${count(dry.items, 'item')}`,
    ...(fields === null ? [] : [`  request   ${fields.request.join(', ')}`]),
    ...(fields?.metadata.length ? [`  metadata  ${plain(fields.metadata.join(', '))}`] : []),
    ...models.map(([id, m]) => `  ${id.padEnd(width)}  ${count(m.items, 'item')}, ${credits(m.credits)}`),
    `  projected ${credits(dry.projected_credits)}, available ${number(dry.available)}${cap}`,
    ...(dry.attached > 0 ? [`  ${count(dry.attached, 'item')} finished before: attached, at no cost`] : []),
    ...(refused.length > 0 ? [`  ${count(dry.refused.length, 'item')} would fail at once:`, ...refused, ...more] : []),
    ...(dry.refused.some((r) => r.code === 'idempotency_conflict') ? [CONFLICT] : []),
  ].join('\n');
}

export type Verdict =
  | { readonly go: true; readonly maxCredits: number | null; readonly note: string | null }
  | { readonly go: false; readonly code: string; readonly message: string; readonly advice: string };

/** May it be sent? `stopThere`: run as far as the credits go. `spent`: by earlier batches of the same list. */
export function judgeProjection(dry: DryRunBody, stopThere: boolean, spent = 0): Verdict {
  const { projected_credits: projected, available, max_credits: cap } = dry;
  if (dry.items > 0 && dry.refused.length === dry.items) {
    const advice = 'Correct the file; nothing was sent.';
    return { go: false, code: 'invalid_request', message: 'Every item would fail at once.', advice };
  }
  const reach = (credits: number) => number(exact(spent + credits));
  if (projected > 0 && cap === 0) {
    const message = `Nothing is left of the cap of ${reach(0)} credits; it needs ${number(projected)} more.`;
    const advice = `Raise it: --max-credits ${exact(spent + projected)}. Nothing was sent.`;
    return { go: false, code: 'budget_exceeded', message, advice };
  }
  if (projected > available && (cap === null || cap > available)) {
    if (stopThere && available > 0) {
      const note = `the credits end at ${number(available)}: items beyond will be cancelled`;
      return { go: true, maxCredits: available, note };
    }
    return {
      go: false,
      code: 'insufficient_credits',
      message: `It needs ${credits(projected)}, but only ${number(available)} are available.`,
      advice:
        available > 0
          ? `Ask for more credits, or say where to stop: --max-credits ${exact(spent + available)} (--yes does that). Nothing was sent.`
          : 'Ask for more credits. Nothing was sent.',
    };
  }
  const note =
    cap !== null && projected > cap ? `it stops at ${reach(cap)} credits: items beyond will be cancelled` : null;
  return { go: true, maxCredits: cap, note };
}

/** A report whose failures say where they stand in the file. */
export type LinedReport = Omit<ReportBody, 'failures'> & {
  readonly failures: readonly (ReportBody['failures'][number] & { readonly line: number | null })[];
};

export const withLines = (report: ReportBody, line: (index: number) => number | null): LinedReport => ({
  ...report,
  failures: report.failures.map((f) => ({ line: line(f.index), ...f })),
});

export interface Desk {
  /** Null: none were fetched. */
  readonly pictures: { readonly saved: number; readonly folder: string; readonly failed: readonly string[] } | null;
  readonly reportFile: string | null;
}

const SHOWN = 20;
const PLACES = 12;

export function sayReport(r: LinedReport, { pictures, reportFile }: Desk): string {
  const took =
    r.finished_at === null ? '' : ` in ${duration((Date.parse(r.finished_at) - Date.parse(r.created_at)) / 1000)}`;
  return [
    `${plain(r.name ?? r.id)}: ${number(r.counts.succeeded)} of ${number(r.total)} succeeded${took} (${r.status}, ${r.id})`,
    ...(r.counts.succeeded < r.total ? [`  ${sayCounts(r)}`] : []),
    ...(r.failures.length > 0 ? ['', ...sayFailures(r.failures)] : []),
    ...sayUntold(r),
    '',
    `  credits   ${sayReconciliation(r)}`,
    ...saySeconds(r.seconds_per_job),
    ...(pictures === null ? [] : [`  pictures  ${number(pictures.saved)} in ${pictures.folder}`]),
    ...(pictures?.failed ?? []).slice(0, SHOWN).map((f) => `            not fetched: ${plain(f)}`),
    ...(pictures?.failed.length ? ['            run again to fetch them'] : []),
    ...(reportFile === null ? [] : [`  report    ${reportFile}`]),
  ].join('\n');
}

/** A report lists only so many. */
function sayUntold({ failures, failures_total: total }: LinedReport): readonly string[] {
  return total > failures.length ? [`  and ${count(total - failures.length, 'more item')} without a picture`] : [];
}

type Failed = LinedReport['failures'][number];

/** One cause is told once: first what was kept from being made at all, then what failed, the commonest first. */
function sayFailures(failures: LinedReport['failures']): readonly string[] {
  const alike = Map.groupBy(failures, ({ error, reason }) =>
    isNotBegun(error.code) ? error.code : `${error.code}\n${reason}`,
  );
  const rank = ([first]: readonly Failed[]) => (first && isNotBegun(first.error.code) ? 0 : 1);
  const causes = [...alike.values()].sort((a, b) => rank(a) - rank(b) || b.length - a.length);
  const rest = causes.slice(SHOWN).reduce((n, cause) => n + cause.length, 0);
  return [...causes.slice(0, SHOWN).flatMap(sayCause), ...(rest > 0 ? [`  … and ${number(rest)} more`] : [])];
}

function sayCause(alike: readonly Failed[]): readonly string[] {
  const [first] = alike;
  if (first === undefined) return [];
  const { code } = first.error;
  const why = `${code}: ${cut(plain(first.reason), 100)}`;
  if (isNotBegun(code)) return [`  ${count(alike.length, 'item')} NOT MADE: ${why}`];
  const prompt = `    "${cut(plain(first.prompt), 70)}"`;
  if (alike.length === 1) return [`  ${placesOf(alike)}: ${why}`, prompt];
  return [`  ${count(alike.length, 'item')}: ${why}`, `    ${placesOf(alike)}`, prompt];
}

/** `lines 3, 7 and 12 more`. */
function placesOf(alike: readonly Failed[]): string {
  const inFile = alike.every(({ line }) => line !== null);
  const places = alike.slice(0, PLACES).map((f) => (inFile ? f.line : f.index));
  const more = alike.length > PLACES ? ` and ${number(alike.length - PLACES)} more` : '';
  return `${inFile ? 'line' : 'item'}${alike.length > 1 ? 's' : ''} ${places.join(', ')}${more}`;
}

/** What was kept from being made explains itself; any other difference somebody should look at. */
function sayReconciliation({ reconciliation: r, failures }: LinedReport): string {
  const sign = r.delta_percent > 0 ? '+' : '';
  const unmade = failures.filter((f) => isNotBegun(f.error.code)).length;
  const why = unmade > 0 && r.charged < r.projected;
  const flag = !r.flagged ? '' : why ? `  ${count(unmade, 'item')} not made` : '  LOOK: off by more than 5 %';
  return `${number(r.charged)} charged of ${number(r.projected)} projected (${sign}${number(r.delta_percent)} %)${flag}`;
}

const saySeconds = ({ mean, p50, p95 }: ReportBody['seconds_per_job']): readonly string[] =>
  mean === null || p50 === null || p95 === null
    ? []
    : [`  seconds   ${number(mean)} per item (half within ${number(p50)}, 95 % within ${number(p95)})`];

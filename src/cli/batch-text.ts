// What is said of a batch, in words and numbers: before it runs, while it runs, and when it lies on the desk. Pure.

import type { BatchBody, DryRunBody, ReportBody } from '../contract/batches.ts';
import { count, credits, cut, duration, plain } from './words.ts';

export const number = (n: number): string => n.toLocaleString('en', { maximumFractionDigits: 3 });

const clockTime = (at: string): string => new Date(at).toLocaleTimeString('en-GB');

export const endedOf = ({ counts }: Pick<BatchBody, 'counts'>): number =>
  counts.succeeded + counts.failed + counts.timeout + counts.cancelled;

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
export function sayHold({ status, breaker, finished_at }: BatchBody): string | null {
  if (status === 'halted') return 'HALTED by its breaker: too many items failed twice in a row';
  if (status === 'cancelled') return finished_at === null ? 'cancelled: waiting for what still runs' : 'cancelled';
  if (breaker.state === 'paused') {
    const until = breaker.resumes_at === null ? '' : ` until ${clockTime(breaker.resumes_at)}`;
    return `BREAKER: too many items failed, paused${until} (trip ${breaker.trips})`;
  }
  return status === 'paused' ? 'paused by somebody: darkroom batch resume goes on' : null;
}

export interface Pace {
  /** Items that ended within the last minute. */
  readonly perMinute: number | null;
}

export function sayPace(batch: BatchBody, { perMinute }: Pace): string {
  const rate = perMinute === null ? [] : [`${number(Math.round(perMinute * 10) / 10)} a minute`];
  const left = batch.eta_seconds === null ? [] : [`about ${duration(batch.eta_seconds)} left`];
  return [...rate, ...left].join(', ');
}

/** One line that says it all, for logs. */
export function sayStanding(batch: BatchBody, pace: Pace): string {
  const share = batch.total === 0 ? 100 : Math.floor((endedOf(batch) / batch.total) * 100);
  const head = `${String(share).padStart(3)} %  ${number(endedOf(batch))} of ${number(batch.total)}`;
  return [head, sayCounts(batch), saySpend(batch), sayPace(batch, pace)].filter((s) => s !== '').join(' | ');
}

const CONFLICT =
  '    These shots were made from another request before: raise their prompt_version, or name more columns with --key.';

/** `lineOf`: where an item stands in the file. */
export function sayProjection(source: string, dry: DryRunBody, lineOf: (index: number) => number): string {
  const models = Object.entries(dry.by_model).sort(([, a], [, b]) => b.items - a.items);
  const width = Math.max(0, ...models.map(([id]) => id.length));
  const cap = dry.max_credits === null ? '' : `, cap ${number(dry.max_credits)}`;
  const refused = dry.refused.slice(0, 20).map((r) => `    line ${lineOf(r.index)}: ${r.code}: ${plain(r.message)}`);
  const more = dry.refused.length > 20 ? [`    … and ${dry.refused.length - 20} more`] : [];
  return [
    `${source}: ${count(dry.items, 'item')}`,
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

/** May it be sent? `stopThere`: run as far as the credits go. */
export function judgeProjection(dry: DryRunBody, stopThere: boolean): Verdict {
  const { projected_credits: projected, available, max_credits: cap } = dry;
  if (dry.items > 0 && dry.refused.length === dry.items) {
    const advice = 'Correct the file; nothing was sent.';
    return { go: false, code: 'invalid_request', message: 'Every item would fail at once.', advice };
  }
  if (projected > available && (cap === null || cap > available)) {
    if (stopThere) {
      const note = `the credits end at ${number(available)}: items beyond will be cancelled`;
      return { go: true, maxCredits: available, note };
    }
    return {
      go: false,
      code: 'insufficient_credits',
      message: `It needs ${credits(projected)}, but only ${number(available)} are available.`,
      advice: `Ask for more credits, or say where to stop: --max-credits ${available} (--yes does that). Nothing was sent.`,
    };
  }
  const note =
    cap !== null && projected > cap ? `it stops at ${number(cap)} credits: items beyond will be cancelled` : null;
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
/** What ended for all alike, and not by their own doing: told once. */
const NOT_BEGUN: ReadonlySet<string> = new Set([
  'batch_halted',
  'budget_exceeded',
  'insufficient_credits',
  'cancelled_by_caller',
  'cancelled_by_admin',
]);

export function sayReport(r: LinedReport, { pictures, reportFile }: Desk): string {
  const took =
    r.finished_at === null ? '' : ` in ${duration((Date.parse(r.finished_at) - Date.parse(r.created_at)) / 1000)}`;
  const broken = r.failures.filter((f) => !NOT_BEGUN.has(f.error.code));
  const failures = broken.slice(0, SHOWN).flatMap((f) => {
    const at = f.line === null ? `item ${f.index}` : `line ${f.line}`;
    return [`  ${at}: ${f.error.code}: ${cut(plain(f.reason), 100)}`, `    "${cut(plain(f.prompt), 70)}"`];
  });
  const more = broken.length > SHOWN ? [`  … and ${number(broken.length - SHOWN)} more`] : [];
  const stopped = Map.groupBy(r.failures, (f) => f.error.code);
  for (const [code, alike] of stopped) {
    if (NOT_BEGUN.has(code))
      more.push(`  ${count(alike.length, 'item')}: ${code}: ${cut(plain(alike[0]?.reason ?? ''), 100)}`);
  }
  return [
    `${plain(r.name ?? r.id)}: ${number(r.counts.succeeded)} of ${number(r.total)} succeeded${took} (${r.status}, ${r.id})`,
    ...(r.counts.succeeded < r.total ? [`  ${sayCounts(r)}`] : []),
    ...(r.failures.length > 0 ? ['', ...failures, ...more] : []),
    '',
    `  credits   ${sayReconciliation(r)}`,
    ...(r.seconds_per_job === null ? [] : [`  seconds   ${saySeconds(r.seconds_per_job)}`]),
    ...(pictures === null ? [] : [`  pictures  ${number(pictures.saved)} in ${pictures.folder}`]),
    ...(pictures?.failed ?? []).slice(0, SHOWN).map((f) => `            not fetched: ${f}`),
    ...(pictures?.failed.length ? ['            run again to fetch them'] : []),
    ...(reportFile === null ? [] : [`  report    ${reportFile}`]),
  ].join('\n');
}

function sayReconciliation({ reconciliation: r }: LinedReport): string {
  const sign = r.delta_percent > 0 ? '+' : '';
  const flag = r.flagged ? '  LOOK: off by more than 5 %' : '';
  return `${number(r.charged)} charged of ${number(r.projected)} projected (${sign}${number(r.delta_percent)} %)${flag}`;
}

const saySeconds = ({ mean, p50, p95 }: { mean: number; p50: number; p95: number }): string =>
  `${number(mean)} per item (half within ${number(p50)}, 95 % within ${number(p95)})`;

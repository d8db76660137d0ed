// What a batch has not made, by what it takes to have it made after all, and the commands that do it. Every way a batch
// can end has its own advice here, and each must be true when it is typed. Pure.

import type { ReportBody } from '../contract/batches.ts';
import { count } from './words.ts';

export interface Missing {
  /** Kept back by the cap or for want of credits. */
  readonly short: number;
  /** Of those, for want of credits. */
  readonly poor: number;
  /** Cancelled by a person, one by one or with the whole batch. */
  readonly stopped: number;
  /** Cannot be made as they are asked for. */
  readonly faulty: number;
  /** Refused or withheld for what they show. */
  readonly withheld: number;
  /** Failed, timed out or halted: the same request may succeed the next time. */
  readonly failed: number;
}

const KINDS: Readonly<Record<string, keyof Missing>> = {
  budget_exceeded: 'short',
  insufficient_credits: 'poor',
  cancelled_by_caller: 'stopped',
  cancelled_by_admin: 'stopped',
  invalid_request: 'faulty',
  unknown_model: 'faulty',
  model_gone: 'faulty',
  unsupported_input: 'faulty',
  idempotency_conflict: 'faulty',
  too_large: 'faulty',
  not_found: 'faulty',
  safety_filter: 'withheld',
  policy_block: 'withheld',
};

/** What was not begun, for a reason that is not its own. */
export const isNotBegun = (code: string): boolean =>
  code === 'batch_halted' || ['short', 'poor', 'stopped'].includes(KINDS[code] ?? '');

export function missingOf({ counts, failures }: Pick<ReportBody, 'counts' | 'failures'>): Missing {
  const of = { short: 0, poor: 0, stopped: 0, faulty: 0, withheld: 0, failed: 0 };
  for (const { error } of failures) of[KINDS[error.code] ?? 'failed']++;
  // Nothing was cancelled: it was the item's own max_credits.
  if (counts.cancelled === 0) return { ...of, faulty: of.faulty + of.short, short: 0 };
  return { ...of, short: of.short + of.poor };
}

export interface Again {
  /** The whole command that was typed, less what holds for one run only. */
  readonly again: string;
  /** The cap that was typed; null: none. */
  readonly cap: number | null;
  /** By earlier batches of the same list. */
  readonly spent: number;
}

export interface Advice {
  readonly why: string;
  readonly command: string;
}

/** Credits have three decimals; floats do not. */
export const exact = (credits: number): number => Math.round(credits * 1000) / 1000;

/** What to do about all that is missing, dearest first; empty when nothing is. */
export function adviceOf(report: ReportBody, { again, cap, spent }: Again): readonly Advice[] {
  const { short, stopped, faulty, withheld, failed } = missingOf(report);
  const all = exact(spent + report.credits.projected);
  const more = exact(report.credits.projected - report.credits.charged);
  const advice: Advice[] = [];
  const say = (why: string, command: string) => void advice.push({ why, command });
  if (report.status === 'cancelled') {
    say('It was cancelled. To make what is missing after all:', again);
    return advice;
  }
  if (short > 0 && cap !== null) {
    say(`Its cap of ${cap} credits kept ${count(short, 'item')} from being made. To make them:`, raised(again, all));
  } else if (short > 0) {
    say(`The credits ended: ${count(short, 'item')} not made. With ${more} more of them:`, again);
  }
  if (failed > 0) {
    const why = report.status === 'halted' ? 'Mend the cause, then:' : 'To try the failed ones again:';
    say(why, `${again} --retry-failed`);
  } else if (stopped > 0) {
    say(`To make the ${count(stopped, 'cancelled item')} after all:`, `${again} --retry-failed`);
  }
  if (withheld > 0) say(`Soften the prompts of the ${count(withheld, 'withheld item')}, then:`, again);
  if (faulty > 0) say(`Correct the ${count(faulty, 'item')} that cannot be made as asked for, then:`, again);
  return advice;
}

const raised = (again: string, cap: number): string => `${again} --max-credits ${cap}`;

/** The same words for a shell: quoted where it would read something into them. */
export const typed = (words: readonly (string | number)[]): string =>
  words
    .map((word) => (/^[\w./:=,@%+-]+$/.test(`${word}`) ? `${word}` : `'${`${word}`.replaceAll("'", "'\\''")}'`))
    .join(' ');

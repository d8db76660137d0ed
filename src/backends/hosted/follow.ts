// Asking about a job that was begun, until it is over. Trouble with asking is no outcome: the job is paid, and only our own
// deadline ends it. A provider does not know a job in its first moments; when it says again and again that it knows no such
// job, it is believed. A key that it refuses meanwhile may be mended, and the picture is there: it is asked again, slowly.

import { GatewayError } from '../../domain/failure.ts';
import type { System } from '../../system/system.ts';
import type { Desk, Standing } from './desk.ts';
import type { Begun } from './parts.ts';
import type { Provider, Result } from './provider.ts';

/** A provider does not know a job for a moment after taking it: that long, and for so many questions. */
const GRACE_MS = 10_000;
const GRACE_POLLS = 3;
/** Times in a row that a job was said to be unknown, until that is believed. */
const DENIALS = 3;
/** Longest pause between questions that are refused for another reason. */
const DENIED_PAUSE_MS = 15_000;
/** They speak of the job; other refusals are said of the account, or of the question. */
const ABOUT_THE_JOB: ReadonlySet<number> = new Set([404, 410]);

export interface Asking {
  readonly provider: Pick<Provider, 'pollMs'>;
  readonly desk: Pick<Desk, 'ask'>;
  readonly system: Pick<System, 'clock' | 'random'>;
}

/** How it stands, or why that is not said, each time that is news, and how it came out. */
export async function* follow(asking: Asking, begun: Begun, signal: AbortSignal): AsyncGenerator<Standing> {
  if ('outcome' in begun) {
    yield begun.outcome;
    return;
  }
  const { provider, desk, system } = asking;
  const { marker, reference } = begun;
  const { clock } = system;
  const [first, longest] = provider.pollMs;
  const began = clock.monotonic();
  let last = '';
  let asked = 0;
  let unknown = 0;
  for (let pause = first, polls = 1; ; polls++) {
    await clock.sleep(Math.max(asked, pause * (0.85 + 0.3 * system.random.fraction())), signal);
    const young = polls <= GRACE_POLLS || clock.monotonic() - began < GRACE_MS;
    const standing = await desk.ask(reference, { marker, young }, signal).catch((error: unknown): Standing => {
      if (signal.aborted || !(error instanceof GatewayError)) throw error;
      return { state: 'failed', failure: error.failure };
    });
    unknown = isUnknown(standing) ? unknown + 1 : 0;
    const seen = believed(standing, unknown);
    if (seen.state !== 'running' && seen.state !== 'denied') {
      yield seen;
      return;
    }
    pause = Math.min(seen.state === 'denied' ? DENIED_PAUSE_MS : longest, pause * 1.5);
    asked = seen.state === 'running' ? (seen.pauseMs ?? 0) : 0;
    const told = seen.state === 'denied' ? seen.failure.code : `${seen.fraction} ${seen.message}`;
    if (told !== last) yield seen;
    last = told;
  }
}

const isUnknown = (standing: Standing): boolean => standing.state === 'denied' && ABOUT_THE_JOB.has(standing.status);

const believed = (standing: Standing, unknown: number): Standing => {
  if (standing.state !== 'denied' || !isUnknown(standing)) return standing;
  return unknown < DENIALS ? { state: 'running' } : { state: 'failed', failure: standing.failure };
};

/** A result once more, for its link: some providers renew it when asked. Null: not by this one, or no longer. */
export async function renewed(
  { desk }: Pick<Asking, 'desk'>,
  begun: Begun,
  index: number,
  signal: AbortSignal,
): Promise<Result | null> {
  if (!('reference' in begun)) return null;
  const outcome = await desk.ask(begun.reference, { marker: begun.marker, young: false }, signal);
  return outcome.state === 'done' ? (outcome.results[index] ?? null) : null;
}

// Asking about a job that was begun, until it is over. Trouble with asking is no outcome: the job is paid, and only our own
// deadline ends it. A provider does not know a job in its first moments, and what it refuses to say once is asked again.

import { GatewayError } from '../domain/failure.ts';
import type { System } from '../system/system.ts';
import type { Desk, Standing } from './desk.ts';
import type { Begun } from './parts.ts';
import type { Outcome, Provider, Result } from './provider.ts';

/** A provider does not know a job for a moment after taking it: that long, and for so many questions. */
const GRACE_MS = 10_000;
const GRACE_POLLS = 3;
/** Refusals to say how a job stands, in a row, until they are believed. */
const DENIALS = 3;

export interface Asking {
  readonly provider: Pick<Provider, 'pollMs'>;
  readonly desk: Pick<Desk, 'ask'>;
  readonly system: Pick<System, 'clock' | 'random'>;
}

/** How it stands, each time that is news, and how it came out. */
export async function* follow(asking: Asking, begun: Begun, signal: AbortSignal): AsyncGenerator<Outcome> {
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
  let denials = 0;
  for (let pause = first, polls = 1; ; pause = Math.min(longest, pause * 1.5), polls++) {
    await clock.sleep(Math.max(asked, pause * (0.85 + 0.3 * system.random.fraction())), signal);
    const young = polls <= GRACE_POLLS || clock.monotonic() - began < GRACE_MS;
    const standing = await desk.ask(reference, { marker, young }, signal).catch((error: unknown): Standing => {
      if (signal.aborted || !(error instanceof GatewayError)) throw error;
      return { state: 'failed', failure: error.failure };
    });
    denials = standing.state === 'denied' ? denials + 1 : 0;
    const outcome = believed(standing, denials);
    if (outcome.state !== 'running') {
      yield outcome;
      return;
    }
    asked = outcome.pauseMs ?? 0;
    const told = `${outcome.fraction} ${outcome.message}`;
    if (told !== last) yield outcome;
    last = told;
  }
}

const believed = (standing: Standing, denials: number): Outcome => {
  if (standing.state !== 'denied') return standing;
  return denials < DENIALS ? { state: 'running' } : { state: 'failed', failure: standing.failure };
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

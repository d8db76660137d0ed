// An account at a hosted provider, as a connection like a node's. Money leaves the house here, so: what is about to be
// asked is stored first and sent once (parts.ts), what was paid is asked about until our own deadline (follow.ts), and what
// came of it is handed over as soon as it is there, since links run out.

import { type Failure, GatewayError } from '../../domain/failure.ts';
import type { Kind } from '../../domain/model.ts';
import { seedOfOutput } from '../../domain/params.ts';
import { type Connect, type Connection, type Job, Refusal, type RemoteFile, type RunEvent } from '../backend.ts';
import { notTaken } from './asked.ts';
import { createDesk, type Standing } from './desk.ts';
import { createFiles, type Files } from './files.ts';
import { follow, renewed } from './follow.ts';
import { merged } from './merged.ts';
import { nothing, shortOf, worstOf } from './outcome.ts';
import { type Begun, begin, isNone, lookedFor, type Part, partsOf, type Sending } from './parts.ts';
import type { Brought, Outcome, Provider } from './provider.ts';

/** Connects an account of this provider. Its base URL and token are the spec's. */
export const connectAccount =
  (provider: Provider): Connect =>
  ({ spec, system }) => {
    const baseUrl = spec.url === '' ? provider.baseUrl : spec.url;
    const desk = createDesk({ provider, baseUrl, token: spec.token ?? '', system });
    const files = createFiles({ provider, baseUrl, system });
    const account: Account = { provider, desk, files, system, unanswered: new Map() };
    const refuses = refusing(provider);
    return {
      resumable: true,
      paid: true,
      async probe() {
        return {
          flavour: provider.kind,
          version: null,
          device: null,
          memory: null,
          checkpoints: null,
          loras: null,
          samplers: null,
          schedulers: null,
          upscalers: null,
          classes: null,
          files: null,
          foreignQueue: 0,
        };
      },
      refuses,
      async *run(job, signal) {
        const pictures = job.files.map(({ role }) => role);
        const why = refuses(job.route, { pictures, loras: job.params.loras.map(({ name }) => name) });
        if (why !== null) throw new Refusal('unsupported_input', `The provider ${why}.`);
        if (!provider.makes.includes(job.kind)) throw new Refusal('unsupported_input', MAKES[job.kind]);
        yield* run(account, job, [], signal);
      },
      resume: (job, remote, signal) => run(account, job, partsOf(remote), signal),
      cancel: (remote, signal) => cancel(account, partsOf(remote), signal),
      async close() {},
    } satisfies Connection;
  };

/** Asked at every decision of the scheduler: what a model takes is looked up once. */
function refusing({ takes }: Provider): NonNullable<Connection['refuses']> {
  const known = new Map<string, readonly Brought[]>();
  return ({ remote }, given) => {
    const name = remote ?? '';
    const taken = known.get(name) ?? takes(name);
    known.set(name, taken);
    return notTaken(taken, given);
  };
}

const MAKES: Readonly<Record<Kind, string>> = {
  image: 'The provider makes no pictures.',
  video: 'The provider makes no clips.',
  audio: 'The provider makes no sound.',
};

interface Account extends Sending {
  readonly files: Files;
}

/** First the one that begins the parts, then one for each. */
type Stream = (until: AbortSignal) => AsyncIterator<RunEvent | Begun | Standing>;
type Done = Extract<Outcome, { readonly state: 'done' }>;

async function* run(
  account: Account,
  job: Job,
  before: readonly Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent> {
  const begun: Begun[] = [];
  const standings: Standing[] = [];
  const streams: Stream[] = [(until) => begin(account, job, before, until)];
  let made = 0;
  let fraction = 0;
  let trouble: Failure['code'] | undefined;
  for await (const [place, seen] of merged(streams, signal)) {
    if ('type' in seen) yield seen;
    if ('marker' in seen) {
      // asked about at once: the next part may hang
      streams.push((until) => follow(account, seen, until));
      standings[begun.push(seen) - 1] = { state: 'running' };
    }
    if (!('state' in seen)) continue;
    const k = place - 1;
    standings[k] = seen;
    const denied = standings.find((one) => one.state === 'denied');
    if (denied?.failure.code !== trouble) yield { type: 'trouble', failure: denied?.failure ?? null };
    trouble = denied?.failure.code;
    fraction = Math.max(fraction, fractionOf(standings, begun, job.params.n));
    if (seen.state === 'running')
      yield { type: 'progress', fraction, message: seen.message ?? 'waiting for the provider' };
    if (seen.state === 'done')
      for (const file of filesOf(account, begun[k], seen, signal)) {
        made++;
        yield { type: 'file', file };
      }
  }
  const failures = standings.flatMap((one) => (one.state === 'failed' ? [one.failure] : []));
  const withheld = standings.reduce((sum, one) => sum + (one.state === 'done' ? (one.withheld ?? 0) : 0), 0);
  const failed = worstOf(withheld > 0 ? [...failures, nothing(withheld)] : failures);
  if (made === 0) throw new GatewayError(failed ?? nothing(withheld));
  const missing = job.params.n - made;
  if (missing > 0) yield { type: 'warning', message: shortOf(missing, withheld, failed) };
  yield { type: 'rendered' };
}

/** Of all `n`: a part that is over counts as one that is done. */
const fractionOf = (standings: readonly Standing[], begun: readonly Begun[], n: number): number =>
  standings.reduce((sum, one, k) => sum + doneOf(one) * (begun[k]?.n ?? 0), 0) / n;

const doneOf = (one: Standing): number => {
  if (one.state === 'denied') return 0;
  return one.state === 'running' ? (one.fraction ?? 0) : 1;
};

/** What one part made, of which no more is taken than it was asked for. */
function filesOf(account: Account, one: Begun | undefined, { results }: Done, signal: AbortSignal): RemoteFile[] {
  if (one === undefined) return [];
  return results.slice(0, one.n).map((result, index) => {
    const seed = result.seed ?? seedOfOutput(one.seed, result.place ?? index);
    return account.files.of(result, seed, () => renewed(account, one, index, signal));
  });
}

/** All of them, whatever becomes of one. */
async function cancel(account: Account, parts: readonly Part[], signal: AbortSignal): Promise<void> {
  const ended = await Promise.allSettled(
    parts.map(async (part) => {
      const reference = part.reference ?? (await lookedFor(account, part, signal));
      if (reference !== null && !isNone(reference)) await account.desk.cancel(reference, signal);
    }),
  );
  for (const one of ended) if (one.status === 'rejected') throw one.reason;
}

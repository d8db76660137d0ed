// One job as the calls it is made of: a provider may make fewer pictures at a time than were asked for. Each part is stored
// before it is sent; it is sent once, and what was sent and never answered is looked for, and never sent again. Only a POST
// that provably was not taken is repeated, and while that is waited for, what is stored says that nothing was asked. A part
// that came to nothing is stored so: whoever takes the job up is told the same.

import { readFile } from 'node:fs/promises';
import { type Failure, GatewayError } from '../../domain/failure.ts';
import type { RemoteRef } from '../../domain/generation.ts';
import { seedOfOutput } from '../../domain/params.ts';
import type { Json, Millis } from '../../domain/units.ts';
import type { System } from '../../system/system.ts';
import { type Job, Refusal, type RunEvent } from '../backend.ts';
import type { Desk, Submitted } from './desk.ts';
import { nothing } from './outcome.ts';
import type { Call, Order, Outcome, Picture, Provider, Reference } from './provider.ts';

/** One call and what became of it, as stored. */
export interface Part {
  readonly marker: string;
  /** The provider's name of the model it asked for. */
  readonly model?: string;
  readonly n: number;
  /** When it was about to be sent. */
  readonly at: Millis;
  readonly reference?: Reference;
  /** It came to nothing, and there is nothing to ask about. */
  readonly ended?: Ended;
}

interface Ended {
  readonly failure: Failure;
  /** Nothing was begun: another route may be tried. */
  readonly refused: boolean;
}

/** The reference of a call whose answer was the end of it: there is nothing to ask about. */
const NONE: Reference = {};
export const isNone = (reference: Reference): boolean => Object.keys(reference).length === 0;

export interface Sending {
  readonly provider: Provider;
  readonly desk: Desk;
  readonly system: System;
  /** Where a lost job can be looked for: what was sent and not answered yet, by its marker. */
  readonly unanswered: Map<string, Order>;
}

/** What became of one call: a job to ask about, or how it came out. `n`: what it was to make; `seed`: of the first of them. */
export type Begun = { readonly marker: string; readonly n: number; readonly seed: number } & (
  | { readonly reference: Reference; readonly trouble?: never }
  /** `trouble`: what broke it off. */
  | { readonly outcome: Outcome; readonly trouble?: GatewayError }
);

/** What has a reference is told, what was about to be sent is looked for, the rest is sent: each part as soon as it is begun. */
export async function* begin(
  sending: Sending,
  job: Job,
  before: readonly Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent | Begun, void> {
  const pictures = isAnswered(job, before) ? { initImage: null, mask: null } : await picturesOf(job);
  const each = Math.max(1, sending.provider.most(job.route.remote ?? ''));
  const parts = [...before];
  const all: Begun[] = [];
  for (let made = 0, k = 0; made < job.params.n; k++) {
    const known = before[k];
    if (known === undefined && all.some((one) => endOf(one) !== null)) break;
    const n = known?.n ?? Math.min(each, job.params.n - made);
    const order = orderOf(job, k, n, made, pictures);
    made += n;
    const call =
      known === undefined ? send(sending, order, parts, signal) : recall(sending, order, known, parts, signal);
    const one = yield* outlived(call, order, signal);
    all.push(one);
    if (known === undefined && noteEnd(parts, one)) yield { type: 'intent', remote: remoteOf(parts) };
    yield one;
  }
  // what the other parts made is paid for, and is not thrown away for the sake of one
  const thrown = all.flatMap(({ trouble }) => trouble ?? []);
  if (thrown[0] !== undefined && thrown.length === all.length) throw thrown[0];
}

/** What breaks a call off is what came of it. */
async function* outlived(
  call: AsyncGenerator<RunEvent, Begun>,
  { marker, n, seed }: Order,
  signal: AbortSignal,
): AsyncGenerator<RunEvent, Begun> {
  try {
    return yield* call;
  } catch (error) {
    if (signal.aborted || !(error instanceof GatewayError)) throw error;
    return { marker, n, seed, outcome: { state: 'failed', failure: error.failure }, trouble: error };
  }
}

/** Why a call came to nothing, and what follows would fare no better; null where it did not, or is not known yet. */
function endOf(one: Begun): Failure | null {
  if (!('outcome' in one)) return null;
  const { outcome } = one;
  if (outcome.state === 'failed') return outcome.failure;
  if (outcome.state !== 'done' || outcome.results.length > 0 || !outcome.withheld) return null;
  return nothing(outcome.withheld);
}

/** Whether it was taken, and paid for, is not known. */
const isDoubtful = ({ code, possiblyBilled }: Failure): boolean => possiblyBilled === true || code === 'node_lost';

/** Stores with a part that it came to nothing. False where that is not so, or where it was never about to be sent. */
function noteEnd(parts: Part[], one: Begun): boolean {
  const failure = endOf(one);
  const refused = one.trouble instanceof Refusal;
  const at = parts.findIndex(({ marker }) => marker === one.marker);
  const part = parts[at];
  if (failure === null || part === undefined || (!refused && isDoubtful(failure))) return false;
  parts[at] = { ...part, ended: { failure, refused } };
  return true;
}

/** Nothing is left to be sent or looked for. */
const isAnswered = (job: Job, parts: readonly Part[]): boolean =>
  parts.every(({ reference, ended }) => reference !== undefined || ended !== undefined) &&
  parts.reduce((sum, { n }) => sum + n, 0) >= job.params.n;

async function* send(
  sending: Sending,
  order: Order,
  parts: Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent, Begun> {
  const { provider, desk, system } = sending;
  const { marker, n, seed } = order;
  if (order.remote === '')
    throw new GatewayError(
      'model_gone',
      'The route that served this is no longer in the catalog; nothing more is asked.',
    );
  const first = parts.length === 0;
  const { call, warnings } = await provider.submit(order);
  if (first) for (const message of warnings) yield { type: 'warning', message };
  for (let nth = 1, waited = 0; ; nth++) {
    // nothing is asked meanwhile, and whoever takes it up from here may ask
    waited = await desk.admitted(waited, signal);
    const part: Part = { marker, model: order.remote, n, at: system.clock.now() };
    const at = parts.push(part) - 1;
    yield { type: 'intent', remote: remoteOf(parts) };
    const begun = await submitted(sending, call, order, nth, signal);
    if ('again' in begun) {
      parts.pop();
      yield { type: 'intent', remote: remoteOf(parts) };
      continue;
    }
    const reference = 'reference' in begun ? begun.reference : NONE;
    parts[at] = { ...part, reference };
    if ('reference' in begun) yield { type: 'accepted', remote: remoteOf(parts) };
    return { marker, n, seed, ...begun };
  }
}

/** One POST. While it is unanswered, and after it was broken off, the order is kept to look for its job by. */
async function submitted(
  { provider, desk, unanswered }: Sending,
  call: Call,
  order: Order,
  nth: number,
  signal: AbortSignal,
): Promise<Submitted> {
  if (provider.search !== undefined) unanswered.set(order.marker, order);
  try {
    return await desk.submit(call, order, nth, signal);
  } finally {
    if (!signal.aborted) unanswered.delete(order.marker);
  }
}

async function* recall(
  { desk }: Sending,
  order: Order,
  known: Part,
  parts: Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent, Begun> {
  const { marker, n } = known;
  const { seed } = order;
  if (known.ended !== undefined) {
    const { failure, refused } = known.ended;
    throw refused ? new Refusal(failure) : new GatewayError(failure);
  }
  if (known.reference !== undefined) {
    if (isNone(known.reference)) throw lost(marker);
    return { marker, n, seed, reference: known.reference };
  }
  const reference = await desk.find({ ...order, marker }, known.at, signal);
  if (reference === null) throw lost(marker);
  parts[parts.indexOf(known)] = { ...known, reference };
  yield { type: 'accepted', remote: remoteOf(parts) };
  return { marker, n, seed, reference };
}

/** The job of a POST that was broken off before its answer came. Of two that ask for the same nobody can tell whose it is. */
export async function lookedFor(
  { desk, unanswered }: Sending,
  { marker, at }: Part,
  signal: AbortSignal,
): Promise<Reference | null> {
  const order = unanswered.get(marker);
  if (order === undefined) return null;
  const alike = [...unanswered.values()].some((other) => other !== order && sought(other) === sought(order));
  unanswered.delete(marker);
  return alike ? null : desk.find(order, at, signal);
}

const sought = ({ remote, params, n, seed }: Order): string => JSON.stringify([remote, params, n, seed]);

const orderOf = (
  job: Job,
  part: number,
  n: number,
  made: number,
  pictures: Pick<Order, 'initImage' | 'mask'>,
): Order => ({
  job,
  remote: job.route.remote ?? '',
  params: job.params,
  n,
  seed: seedOfOutput(job.params.seed, made),
  marker: `${job.id}-${job.attempt}-${part}`,
  ...pictures,
});

async function picturesOf(job: Job): Promise<Pick<Order, 'initImage' | 'mask'>> {
  const read = async (role: 'init_image' | 'mask'): Promise<Picture | null> => {
    const file = job.files.find((f) => f.role === role);
    return file === undefined ? null : { bytes: await readFile(file.path), mediaType: file.mediaType };
  };
  return { initImage: await read('init_image'), mask: await read('mask') };
}

/** A copy: whoever stores it compares it with what it stored before. What everybody may know of it is beside the parts. */
function remoteOf(parts: readonly Part[]): RemoteRef {
  const model = parts[0]?.model;
  return {
    parts: [...parts] as unknown as Json,
    ...(model === undefined ? {} : { model }),
    ...(isAsked(parts) ? {} : { asked: false }),
  };
}

/** Was any of them sent, or about to be, without being refused? */
const isAsked = (parts: readonly Part[]): boolean => parts.some(({ ended }) => ended?.refused !== true);

/** What was stored by `remoteOf`. */
export function partsOf(remote: { readonly [key: string]: Json }): readonly Part[] {
  return Array.isArray(remote.parts) ? (remote.parts as unknown as readonly Part[]) : [];
}

/** Nobody can tell whether it was taken: it may have been paid, and is never sent again. */
const lost = (marker: string): GatewayError =>
  new GatewayError(
    'node_lost',
    'The connection to the provider broke off, and what became of the request is not known.',
    {
      retryable: false,
      possiblyBilled: true,
      cause: new Error(`${marker} was about to be sent, or was sent, and cannot be found`),
    },
  );

// An account at a hosted provider, as a connection like a node's. Money leaves the house here, so: what is about to be
// asked is stored first, each call is sent once, an answer that was lost is looked for and never asked for again, and what
// was paid is asked about until our own deadline. Only a POST that provably was not taken is repeated, and while that is waited
// for, what is stored says that nothing was asked.

import { readFile } from 'node:fs/promises';
import { type Failure, failure, GatewayError } from '../domain/failure.ts';
import { seedOfOutput } from '../domain/params.ts';
import type { Json, Millis } from '../domain/units.ts';
import type { System } from '../system/system.ts';
import type { Connect, Connection, Job, RunEvent } from './backend.ts';
import { createDesk, type Desk, type Standing, type Submitted } from './desk.ts';
import { createFiles, type Files } from './files.ts';
import type { Call, Order, Outcome, Picture, Provider, Reference, Result } from './provider.ts';

/** One call and what became of it, as stored. */
interface Part {
  readonly marker: string;
  readonly n: number;
  /** When it was about to be sent. */
  readonly at: Millis;
  readonly reference?: Reference;
}

/** A provider does not know a job for a moment after taking it: that long, and for so many questions. */
const GRACE_MS = 10_000;
const GRACE_POLLS = 3;
/** Refusals to say how a job stands, in a row, until they are believed. */
const DENIALS = 3;
/** The reference of a call whose answer was the end of it: there is nothing to ask about. */
const NONE: Reference = {};
const isNone = (reference: Reference): boolean => Object.keys(reference).length === 0;

/** Connects an account of this provider. Its base URL and token are the spec's. */
export const connectAccount =
  (provider: Provider): Connect =>
  ({ spec, system }) => {
    const baseUrl = spec.url === '' ? provider.baseUrl : spec.url;
    const desk = createDesk({ provider, baseUrl, token: spec.token ?? '', system });
    const files = createFiles({ provider, baseUrl, system });
    const account: Account = { provider, desk, files, system, unanswered: new Map() };
    return {
      resumable: true,
      paid: true,
      asked: (remote) => partsOf(remote).length > 0,
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
      run: (job, signal) => run(account, job, [], signal),
      resume: (job, remote, signal) => run(account, job, partsOf(remote), signal),
      cancel: (remote, signal) => cancel(account, partsOf(remote), signal),
      async close() {},
    } satisfies Connection;
  };

interface Account {
  readonly provider: Provider;
  readonly desk: Desk;
  readonly files: Files;
  readonly system: System;
  /** Where a lost job can be looked for: what was sent and not answered yet, by its marker. */
  readonly unanswered: Map<string, Order>;
}

/** What became of one call: a job to ask about, or how it came out. `seed`: of the first it was to make. */
type Begun = { readonly marker: string; readonly seed: number } & (
  | { readonly reference: Reference }
  | { readonly outcome: Outcome }
);

/** One result and where to ask for its link again. */
interface Made {
  readonly result: Result;
  readonly begun: Begun;
  readonly index: number;
}

async function* run(
  account: Account,
  job: Job,
  before: readonly Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent> {
  const begun = yield* begin(account, job, before, signal);
  const made: Made[] = [];
  const failures: Failure[] = [];
  let withheld = 0;
  let told = 0;
  for (const [k, one] of begun.entries()) {
    // links run out: what the parts before have made is not kept waiting for this one
    yield* filesOf(account, made.slice(told, job.params.n), signal);
    told = made.length;
    for await (const seen of 'outcome' in one ? [one.outcome] : follow(account, one, signal)) {
      if (seen.state === 'running') yield progress(seen, k, begun.length);
      if (seen.state === 'failed') failures.push(seen.failure);
      if (seen.state !== 'done') continue;
      withheld += seen.withheld ?? 0;
      made.push(...seen.results.map((result, index) => ({ result, begun: one, index })));
    }
  }
  const failed = worstOf(withheld > 0 ? [...failures, nothing(withheld)] : failures);
  if (made.length === 0) throw new GatewayError(failed ?? nothing(withheld));
  const missing = job.params.n - made.length;
  if (missing > 0) yield { type: 'warning', message: shortOf(missing, withheld, failed) };
  yield { type: 'rendered' };
  yield* filesOf(account, made.slice(told, job.params.n), signal);
}

function* filesOf(account: Account, made: readonly Made[], signal: AbortSignal): Generator<RunEvent> {
  for (const { result, begun, index } of made) {
    const seed = seedOfOutput(begun.seed, result.place ?? index);
    yield { type: 'file', file: account.files.of(result, seed, () => again(account, begun, index, signal)) };
  }
}

/** What has a reference is followed, what was about to be sent is looked for, the rest is sent. */
async function* begin(
  account: Account,
  job: Job,
  before: readonly Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent, readonly Begun[]> {
  const pictures = isAnswered(job, before) ? { initImage: null, mask: null } : await picturesOf(job);
  const each = Math.max(1, account.provider.most(job.route.remote ?? ''));
  const parts = [...before];
  const all: Begun[] = [];
  const trouble: GatewayError[] = [];
  for (let made = 0, k = 0; made < job.params.n; k++) {
    const known = before[k];
    if (known === undefined && all.some(isOver)) break;
    const n = known?.n ?? Math.min(each, job.params.n - made);
    const order = orderOf(job, k, n, made, pictures);
    made += n;
    try {
      all.push(
        yield* known === undefined ? send(account, order, parts, signal) : recall(account, order, known, parts, signal),
      );
    } catch (error) {
      if (signal.aborted || !(error instanceof GatewayError)) throw error;
      trouble.push(error);
      all.push({ marker: order.marker, seed: order.seed, outcome: { state: 'failed', failure: error.failure } });
    }
  }
  // what the other parts made is paid for, and is not thrown away for the sake of one
  if (trouble[0] !== undefined && trouble.length === all.length) throw trouble[0];
  return all;
}

/** It came to nothing: what follows would fare no better. */
const isOver = (one: Begun): boolean =>
  'outcome' in one &&
  (one.outcome.state === 'failed' ||
    (one.outcome.state === 'done' && one.outcome.results.length === 0 && (one.outcome.withheld ?? 0) > 0));

/** Nothing is left to be sent or looked for. */
const isAnswered = (job: Job, parts: readonly Part[]): boolean =>
  parts.every(({ reference }) => reference !== undefined) && parts.reduce((sum, { n }) => sum + n, 0) >= job.params.n;

async function* send(
  account: Account,
  order: Order,
  parts: Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent, Begun> {
  const { provider, system } = account;
  const { marker, n, seed } = order;
  if (order.remote === '')
    throw new GatewayError(
      'model_gone',
      'The route that served this is no longer in the catalog; nothing more is asked.',
    );
  const first = parts.length === 0;
  const { call, warnings } = await provider.submit(order);
  if (first) for (const message of warnings) yield { type: 'warning', message };
  for (let nth = 1; ; nth++) {
    const part: Part = { marker, n, at: system.clock.now() };
    const at = parts.push(part) - 1;
    yield { type: 'intent', remote: remoteOf(parts) };
    const begun = await submitted(account, call, order, nth, signal);
    if ('pauseMs' in begun) {
      // nothing was asked, and whoever takes it up from here may ask
      parts.pop();
      yield { type: 'intent', remote: remoteOf(parts) };
      await system.clock.sleep(begun.pauseMs, signal);
      continue;
    }
    const reference = 'reference' in begun ? begun.reference : NONE;
    parts[at] = { ...part, reference };
    if ('reference' in begun) yield { type: 'accepted', remote: remoteOf(parts) };
    return { marker, seed, ...begun };
  }
}

/** One POST. While it is unanswered, and after it was broken off, the order is kept to look for its job by. */
async function submitted(
  { provider, desk, unanswered }: Account,
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
  { desk }: Account,
  order: Order,
  known: Part,
  parts: Part[],
  signal: AbortSignal,
): AsyncGenerator<RunEvent, Begun> {
  const { marker } = known;
  const { seed } = order;
  if (known.reference !== undefined) {
    if (isNone(known.reference)) throw lost(marker);
    return { marker, seed, reference: known.reference };
  }
  const reference = await desk.find({ ...order, marker }, known.at, signal);
  if (reference === null) throw lost(marker);
  parts[parts.indexOf(known)] = { ...known, reference };
  yield { type: 'accepted', remote: remoteOf(parts) };
  return { marker, seed, reference };
}

const progress = (seen: Extract<Outcome, { state: 'running' }>, part: number, of: number): RunEvent => ({
  type: 'progress',
  fraction: (part + (seen.fraction ?? 0)) / of,
  message: seen.message ?? 'waiting for the provider',
});

/** Asks until it is over. Trouble with asking is no outcome: the job is paid, and our deadline ends it. */
async function* follow(
  account: Account,
  { marker, reference }: Extract<Begun, { reference: Reference }>,
  signal: AbortSignal,
): AsyncGenerator<Outcome> {
  const { provider, desk, system } = account;
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

/** The link to a result once more: some providers renew it when asked. Null: not by this one, or no longer. */
async function again({ desk }: Account, begun: Begun, index: number, signal: AbortSignal): Promise<Result | null> {
  if (!('reference' in begun)) return null;
  const outcome = await desk.ask(begun.reference, { marker: begun.marker, young: false }, signal);
  return outcome.state === 'done' ? (outcome.results[index] ?? null) : null;
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

/** The job of a POST that was broken off before its answer came. Of two that ask for the same nobody can tell whose it is. */
async function lookedFor({ desk, unanswered }: Account, { marker, at }: Part, signal: AbortSignal) {
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

/** A copy: whoever stores it compares it with what it stored before. */
const remoteOf = (parts: readonly Part[]): { readonly parts: Json } => ({ parts: [...parts] as unknown as Json });

/** What was stored by `remoteOf`. */
function partsOf(remote: { readonly [key: string]: Json }): readonly Part[] {
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

const REFUSALS: ReadonlySet<Failure['code']> = new Set(['policy_block', 'safety_filter']);

/** What may have been paid comes first, then what the caller can mend. */
const worstOf = (failures: readonly Failure[]): Failure | null =>
  failures.find(({ possiblyBilled }) => possiblyBilled) ??
  failures.find(({ code }) => REFUSALS.has(code)) ??
  failures[0] ??
  null;

const nothing = (withheld: number): Failure =>
  withheld > 0
    ? failure('safety_filter', 'The provider made the picture and withheld it.')
    : failure('model_error', 'The provider said it was done, without a picture.');

function shortOf(missing: number, withheld: number, failed: Failure | null): string {
  const why = withheld > 0 ? 'the provider withheld them' : (failed?.message ?? 'the provider made fewer');
  return `${missing} of the pictures asked for ${missing === 1 ? 'is' : 'are'} missing: ${why}`;
}

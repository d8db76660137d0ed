// The requests of one account: each bounded, each answer read as the provider's adapter reads it. A submit is sent once;
// what happens to it decides whether it may be sent again, and only "too many", a refused connection and the like do.

import { type Failure, failure, GatewayError, toFailure } from '../../domain/failure.ts';
import type { Millis } from '../../domain/units.ts';
import { HttpError, type System } from '../../system/system.ts';
import { Refusal } from '../backend.ts';
import { isBreakdown, ok, PAID, textOf, unanswered, unheardOf } from './answered.ts';
import { createGate, LONGEST_WAIT_MS } from './gate.ts';
import { createLostAndFound } from './lost-and-found.ts';
import type { Call, Order, Outcome, Provider, Reference, Reply } from './provider.ts';

/** POSTs per route when the provider says "too many", or cannot be reached. */
const POSTS = 3;
const FIRST_RETRY_MS: Millis = 1_000;
const POLL_ANSWER_MS: Millis = 30_000;
/** Pictures may come inside the answer; where they are asked for, a state repeats at most the pictures that were sent. */
const MAX_RESULT_BYTES = 160 * 1024 * 1024;
const MAX_STATE_BYTES = 32 * 1024 * 1024;
/** Looks at a job that is to be cancelled. */
const LOOKS = 3;
/** Unknown statuses that are told of; more are nonsense. */
const HEARD = 100;

export interface DeskOptions {
  readonly provider: Provider;
  /** Without trailing slash. */
  readonly baseUrl: string;
  readonly token: string;
  readonly system: System;
}

/** What came of a submit. `again`: nothing was begun, and it may be sent again, through the gate. */
export type Submitted = { readonly reference: Reference } | { readonly outcome: Outcome } | { readonly again: true };

/** `denied`: the question was refused, by this status, as a passing fault may do; what that means to the job is for follow.ts to say. */
export type Standing = Outcome | { readonly state: 'denied'; readonly status: number; readonly failure: Failure };

export interface Desk {
  /** Waits while the account takes no more; how often the job has waited by then. Throws Refusal where that takes too long. */
  admitted(waited: number, signal: AbortSignal): Promise<number>;
  /** Sends it once, for the `nth` time. Throws Refusal when nothing was begun, GatewayError with `possiblyBilled` when nobody can tell. */
  submit(call: Call, order: Order, nth: number, signal: AbortSignal): Promise<Submitted>;
  /** How it stands. `young`: the provider may not know it yet. Trouble with asking is `running`. `about` names it in the log. */
  ask(
    reference: Reference,
    about: { readonly marker: string; readonly young: boolean },
    signal: AbortSignal,
  ): Promise<Standing>;
  /** The job of a submit at `since` whose answer was lost; null: it cannot be told, or there is none. */
  find(order: Order, since: Millis, signal: AbortSignal): Promise<Reference | null>;
  /** Best effort. */
  cancel(reference: Reference, signal: AbortSignal): Promise<void>;
}

export function createDesk({ provider, baseUrl, token, system }: DeskOptions): Desk {
  const { clock, log, http } = system;
  const gate = createGate(system);
  const base = new URL(baseUrl);
  /** Unknown statuses that were told of: each once. */
  const heard = new Set<string>();

  /** On the base's origin, or on another host of the provider's where the base is one of them. */
  const isOwn = (url: URL): boolean =>
    url.origin === base.origin || (isOf(provider.apiHosts, url) && isOf(provider.apiHosts, base));

  const urlOf = ({ path, at }: Call): URL => {
    const better = at === undefined ? null : URL.parse(at);
    if (better !== null && isOwn(better)) return better;
    return new URL(`${baseUrl}${path}`);
  };

  const send = async (call: Call, timeoutMs: Millis, signal: AbortSignal): Promise<Reply> => {
    const url = urlOf(call);
    const posts = call.method === 'POST';
    const response = await http.request(url.href, {
      method: call.method,
      trust: url.origin === base.origin ? 'node' : 'public',
      fresh: posts,
      timeoutMs,
      maxBytes: provider.poll === undefined ? MAX_RESULT_BYTES : MAX_STATE_BYTES,
      headers: {
        accept: 'application/json',
        ...provider.headers(token),
        ...(call.json === undefined ? {} : { 'content-type': 'application/json' }),
        ...call.headers,
      },
      body: call.json === undefined ? (call.form ?? null) : JSON.stringify(call.json),
      signal,
    });
    const text = await response.text();
    const body = parsed(text);
    const reply = { status: response.status, header: (name: string) => response.header(name), body };
    return body === undefined ? { ...reply, unread: beginningOf(text, token) } : reply;
  };

  const { claim, find } = createLostAndFound({
    provider,
    clock,
    ask: (call, signal) => send(call, POLL_ANSWER_MS, signal),
  });

  const told = ({ marker }: Pick<Order, 'marker'>, reply: Reply, what: string) => {
    const fields = { marker, provider: provider.kind, status: reply.status };
    if (reply.body !== undefined) {
      const hint = reply.status === 404 ? { hint: 'check the name of the model, and base_url' } : {};
      log.warn({ ...fields, ...hint, answer: textOf(reply.body, token).slice(0, 2_000) }, what);
    } else {
      const page = { content_type: reply.header('content-type'), answer: reply.unread, hint: 'check base_url' };
      log.warn({ ...fields, ...page }, `${what}, in no form of its own`);
    }
  };

  /** After an answer that did not come, cannot be read, or leaves open whether it was taken: found, or `lost`. */
  const reconcile = async (order: Order, since: Millis, lost: GatewayError, signal: AbortSignal) => {
    const reference = await find(order, since, signal).catch((error: unknown) => {
      if (signal.aborted) throw error;
      return null;
    });
    if (reference === null) throw lost;
    return { reference };
  };

  /** Again, no sooner than was asked for, or a little later each time; `why` if that has been done often enough. */
  const again = (asked: Millis | null, nth: number, why: (seconds: number) => Refusal): { readonly again: true } => {
    const pause = asked ?? FIRST_RETRY_MS * 2 ** (nth - 1);
    if (asked === null) gate.close(pause / 2, pause, why);
    else gate.close(pause, pause / 4, why);
    if (nth >= POSTS || pause > LONGEST_WAIT_MS) throw why(Math.ceil(pause / 1000));
    return { again: true };
  };

  /** A stop of ours does not wait for an answer for ever, and where nothing can be asked or looked for later it is lost. */
  const leftBehind = ({ marker }: Order, why: unknown) => {
    if (provider.search !== undefined || toFailure(why).code !== 'shutting_down') return;
    log.warn(
      { marker, provider: provider.kind, longest_answer_seconds: provider.answerMs / 1000 },
      'stopped before the answer to a paid request came, which is lost; a longer scheduling.drain_seconds waits for it',
    );
  };

  const submit: Desk['submit'] = async (call, order, nth, signal) => {
    const since = clock.now();
    let reply: Reply;
    try {
      reply = await send(call, provider.answerMs, signal);
    } catch (error) {
      if (signal.aborted) leftBehind(order, signal.reason);
      if (signal.aborted || error instanceof GatewayError) throw error;
      if (error instanceof HttpError && (error.kind === 'unsent' || error.kind === 'refused_address'))
        return again(null, nth, () => new Refusal('node_lost', 'The provider cannot be reached.', { cause: error }));
      if (error instanceof HttpError && isSentAway(error)) {
        const { status, location } = error;
        const fields = { marker: order.marker, provider: provider.kind, status, location, hint: 'check base_url' };
        log.warn(fields, 'a job was sent on to another address, where it never goes');
        throw new Refusal('node_lost', NOBODY);
      }
      return reconcile(order, since, lost(BROKEN_OFF, error), signal);
    }
    if (!ok(reply)) {
      if (isNobody(reply)) {
        told(order, reply, 'nobody there knows the way a job is asked for');
        throw new Refusal('node_lost', NOBODY);
      }
      const why = provider.refused(reply, 'submit');
      const open = isOpen(reply, why);
      if (why.code === 'rate_limited' && !open) return again(waitOf(reply, why), nth, busyFor);
      told(order, reply, 'the provider refused a job');
      if (open) return reconcile(order, since, lost(why.possiblyBilled ? why.message : UNREADABLE), signal);
      throw refusalOf(why);
    }
    if (reply.body === undefined) {
      told(order, reply, 'the provider answered a job');
      return reconcile(order, since, lost(UNREADABLE), signal);
    }
    return taken(reply, order, since, signal);
  };

  /** A 2xx answer: something was begun, whether or not we understand what. */
  const taken = async (reply: Reply, order: Order, since: Millis, signal: AbortSignal) => {
    try {
      const begun = provider.begun(reply, order);
      if ('reference' in begun) claim(begun.reference);
      else note(order, reply, begun.outcome);
      return begun;
    } catch (error) {
      told(order, reply, 'the provider took a job and answered with something unreadable');
      if (provider.poll === undefined && error instanceof GatewayError)
        throw new GatewayError({ ...error.failure, ...PAID });
      return reconcile(order, since, lost(UNREADABLE, error), signal);
    }
  };

  /** What a provider says about a job that went wrong is for the operator's log only. */
  const note = (about: Pick<Order, 'marker'>, reply: Reply, outcome: Standing) => {
    if (outcome.state === 'denied') told(about, reply, 'the provider refused to say how a job stands');
    if (outcome.state === 'failed' || (outcome.state === 'done' && (outcome.withheld ?? 0) > 0))
      told(about, reply, 'the provider failed or withheld a job');
    const status = outcome.state === 'running' && ok(reply) ? unheardOf(reply) : null;
    if (status === null || heard.has(status) || heard.size >= HEARD) return;
    heard.add(status);
    told(about, reply, `the provider gives a job the unknown status "${status}", which is taken for one under way`);
  };

  /** Was it just seen running? Trouble with asking is no such sight. */
  const isRunning = async (reference: Reference, signal: AbortSignal): Promise<boolean> => {
    const call = provider.poll?.(reference);
    for (let k = 1; call !== undefined && k <= LOOKS; k++) {
      const reply = await send(call, POLL_ANSWER_MS, signal).catch(unanswered(signal));
      if (reply !== null && ok(reply) && reply.body !== undefined)
        return read(() => provider.polled?.(reply, reference, call) ?? { state: 'running' }).state === 'running';
      if (reply !== null && !isPassing(reply)) return false;
      await clock.sleep(provider.pollMs[0], signal);
    }
    return false;
  };

  /** When to come back: some say so in the body only. */
  const waitOf = (reply: Reply, { retryAfterSeconds }: Failure): Millis | null => {
    const said = reply.header('retry-after') ?? '';
    const ms = /^\d+(\.\d+)?$/.test(said) ? Number(said) * 1000 : Date.parse(said) - clock.now();
    if (ms > 0) return ms;
    return retryAfterSeconds === undefined ? null : retryAfterSeconds * 1000;
  };

  /** Trouble with asking says nothing about the job, but it may say when to ask again. */
  const later = (reply: Reply | null): Outcome => {
    const asked = reply === null ? null : waitOf(reply, provider.refused(reply, 'poll'));
    return { state: 'running', ...(asked === null ? {} : { pauseMs: Math.min(asked, LONGEST_WAIT_MS) }) };
  };

  /** What an answer to a poll says, whatever its status. */
  const answerOf = (reply: Reply, reference: Reference, call: Call, young: boolean): Standing => {
    const end = reply.status >= 500 && reply.body !== undefined ? (provider.ended?.(reply, call) ?? null) : null;
    if (end !== null) return { state: 'failed', failure: end };
    if (isPassing(reply)) return later(reply);
    if (reply.status === 404 && young) return { state: 'unknown' };
    if (!ok(reply)) return denied(reply, provider.refused(reply, 'poll'));
    if (reply.body === undefined) return { state: 'running' };
    return read(() => provider.polled?.(reply, reference, call) ?? { state: 'running' });
  };

  return {
    admitted: (waited, signal) => gate.pass(waited, signal),
    submit,
    async ask(reference, { marker, young }, signal) {
      if (provider.poll === undefined || provider.polled === undefined)
        throw new GatewayError('internal', 'This provider cannot be asked about a job.');
      const unknown = (): Outcome => (young ? { state: 'running' } : { state: 'failed', failure: FORGOTTEN });
      claim(reference);
      let call = provider.poll(reference);
      for (let hops = 0; hops < 3; hops++) {
        const reply = await send(call, POLL_ANSWER_MS, signal).catch(unanswered(signal));
        const outcome = reply === null ? later(null) : answerOf(reply, reference, call, young);
        if (reply !== null) note({ marker }, reply, outcome);
        if (outcome.state === 'unknown') return unknown();
        if (outcome.state !== 'ask') return outcome;
        call = outcome.call;
      }
      return { state: 'running' };
    },
    find,
    async cancel(reference, signal) {
      const call = provider.cancel?.(reference);
      if (provider.cancelDestroys && !(await isRunning(reference, signal))) return;
      if (call !== undefined) await send(call, POLL_ANSWER_MS, signal).catch(unanswered(signal));
    },
  };
}

/** Trouble with asking, or somebody's on the way: the provider itself answers in JSON. A 404 is one without words too. */
const isPassing = ({ status, body }: Reply): boolean =>
  status >= 500 ||
  [408, 425, 429].includes(status) ||
  (status >= 400 && body === undefined && status !== 404 && status !== 410);
/** Said of the question, or of the account, as often as of the job. */
const DENIED: ReadonlySet<number> = new Set([401, 402, 403, 404, 410]);
const denied = ({ status }: Reply, why: Failure): Standing =>
  DENIED.has(status) ? { state: 'denied', status, failure: { ...why, ...PAID } } : { state: 'failed', failure: why };

const busyFor = (retryAfterSeconds: number) =>
  new Refusal('rate_limited', 'The provider takes no more work from this account for now.', { retryAfterSeconds });

/** The way a job is asked for is known to whoever is the provider, and it says in JSON what it lacks. */
const isNobody = ({ status, body }: Reply): boolean => body === undefined && [403, 404, 405, 410].includes(status);

/** Whether it was taken is open, whatever a page of somebody on the way may say. */
const isOpen = (reply: Reply, { code, possiblyBilled }: Failure): boolean =>
  (code === 'node_lost' && possiblyBilled === true) || (reply.body === undefined && isBreakdown(reply));

/** A refusal of the prompt is final, and what may have been paid; everything else that was refused began nothing and may be tried elsewhere. */
const FINAL = new Set<Failure['code']>(['policy_block', 'safety_filter', 'node_lost']);
const refusalOf = (why: Failure): GatewayError =>
  FINAL.has(why.code) || why.possiblyBilled ? new GatewayError(why) : new Refusal(why);

const FORGOTTEN = failure('node_lost', 'The provider no longer knows the job it began.', PAID);

const isOf = (hosts: readonly string[] = [], { protocol, hostname }: URL): boolean =>
  protocol === 'https:' && hosts.some((host) => hostname === host || hostname.endsWith(`.${host}`));

function read(outcome: () => Outcome): Outcome {
  try {
    return outcome();
  } catch (error) {
    return {
      state: 'failed',
      failure: error instanceof GatewayError ? toFailure(error) : failure('model_error', UNREADABLE, PAID),
    };
  }
}

const NOBODY = 'What answers at the address of the account is not the provider.';
/** http for https, or an address that has moved: nothing was taken there. "See other" may be said of what was. */
const isSentAway = ({ kind, status }: HttpError): boolean => kind === 'redirect' && status !== 303;

const UNREADABLE = 'The provider answered with something unreadable.';
const BROKEN_OFF = 'The connection to the provider broke off, and what became of the request is not known.';

/** Nobody can tell whether it was taken. */
const lost = (message: string, cause?: unknown) => new GatewayError('node_lost', message, { ...PAID, cause });

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** For the operator's log: of a page that is no answer of the provider's. */
const beginningOf = (text: string, token: string): string => {
  const some = text.slice(0, 4_000);
  return (token === '' ? some : some.replaceAll(token, '(the key)')).slice(0, 200);
};

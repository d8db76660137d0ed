// Events: the only way a generation changes. `ACCEPTS` says which event may meet which status, `apply` is the pure
// reducer, `entriesFor` says what moves in the ledger with it. The table feeds the reducer, the doors' 409s and tests.

import type { Failure } from './failure.ts';
import {
  type Attempt,
  type Generation,
  type GenerationState,
  isHeld,
  type Output,
  type RemoteRef,
  type Status,
} from './generation.ts';
import type { Params } from './params.ts';
import { charge, type Quote } from './price.ts';
import type { Cursor, Millicredits, Millis, ModelId, NodeId } from './units.ts';

/** Another model than the one asked for: its own parameters and price, never more than was reserved. */
export interface Served {
  readonly model: ModelId;
  readonly params: Params;
  readonly quote: Quote;
}

export type GenerationEvent =
  | { readonly type: 'submitted'; readonly at: Millis }
  /** Its batch hands it over: credits are reserved, and it waits in a lane like any other. */
  | { readonly type: 'admitted'; readonly at: Millis }
  | {
      readonly type: 'started';
      readonly at: Millis;
      readonly node: NodeId;
      readonly backend: string;
      /** What serves, where an alias or a fallback took over. */
      readonly served?: Served;
    }
  | { readonly type: 'submitted_to_node'; readonly at: Millis; readonly remote: RemoteRef }
  | {
      readonly type: 'requeued';
      readonly at: Millis;
      readonly notBefore: Millis;
      readonly failure: Failure;
      /** Where this attempt failed (`placeOf`), to be avoided from now on; null: that says nothing of the place. */
      readonly avoid: string | null;
      /** Nothing ran, or we broke it off ourselves: the attempt number is given back. */
      readonly giveBack: boolean;
      /** Continue with the softened prompt (once). */
      readonly soften?: boolean;
    }
  | {
      readonly type: 'succeeded';
      readonly at: Millis;
      readonly outputs: readonly Output[];
      readonly nodeMs: Millis;
      /** What the backend could not honour. */
      readonly warnings?: readonly string[];
    }
  | { readonly type: 'failed'; readonly at: Millis; readonly failure: Failure }
  | { readonly type: 'timed_out'; readonly at: Millis; readonly failure: Failure }
  | { readonly type: 'cancelled'; readonly at: Millis; readonly failure: Failure };

export type EventType = GenerationEvent['type'];

export const ACCEPTS: Readonly<Record<Status, readonly EventType[]>> = {
  queued: ['admitted', 'started', 'failed', 'timed_out', 'cancelled'],
  running: ['submitted_to_node', 'requeued', 'succeeded', 'failed', 'timed_out', 'cancelled'],
  succeeded: [],
  failed: [],
  timeout: [],
  cancelled: [],
};

/** A held item can only be admitted or end; any other queued one cannot be admitted again. */
export const accepts = (g: { readonly state: GenerationState }, type: EventType): boolean =>
  ACCEPTS[g.state.status].includes(type) && (type === 'admitted' ? isHeld(g) : type === 'started' ? !isHeld(g) : true);

/** An event as stored: numbered inside its generation (`seq`) and in the whole log (`cursor`, in commit order). */
export interface StoredEvent {
  readonly cursor: Cursor;
  readonly workspaceId: string;
  readonly generationId: string;
  readonly batchId: string | null;
  readonly seq: number;
  readonly event: GenerationEvent;
}

/** The public name of what an event did: `generation.` + this. Null: not announced. */
export const ANNOUNCED = {
  submitted: 'queued',
  admitted: null,
  started: 'running',
  submitted_to_node: null,
  requeued: 'requeued',
  succeeded: 'succeeded',
  failed: 'failed',
  timed_out: 'timeout',
  cancelled: 'cancelled',
} as const satisfies Record<EventType, string | null>;

const closeAttempt = (attempts: readonly Attempt[], at: Millis, outcome: string): readonly Attempt[] =>
  attempts.map((a) => (a.finishedAt === null ? { ...a, finishedAt: at, outcome } : a));

/** Who waits for an account that is in trouble tries it every minute: of such tries the last is told, or there would be thousands. */
function lastOfAlike(attempts: readonly Attempt[]): readonly Attempt[] {
  const [before, last] = attempts.slice(-2);
  if (before === undefined || last === undefined || last.outcome === 'handed_over') return attempts;
  const alike = (['n', 'node', 'backend', 'model', 'outcome'] as const).every((key) => before[key] === last[key]);
  return alike ? [...attempts.slice(0, -2), last] : attempts;
}

/** Applies an event. Throws (our own bug) when ACCEPTS forbids it; callers that may race check `accepts` first. */
export function apply(g: Generation, event: GenerationEvent): Generation {
  if (!accepts(g, event.type)) throw new Error(`${event.type} cannot follow ${g.state.status}`);
  const next = { ...g, seq: g.seq + 1 };
  const { state } = g;
  switch (event.type) {
    case 'submitted':
      return next;
    case 'admitted': {
      const { attempt, notBefore } = state as Extract<GenerationState, { status: 'queued' }>;
      return { ...next, reserved: g.quote.reserve, state: { status: 'queued', attempt, notBefore } };
    }
    case 'started': {
      const attempt = (state as Extract<GenerationState, { status: 'queued' }>).attempt;
      const opened: Attempt = {
        n: attempt,
        node: event.node,
        backend: event.backend,
        model: event.served?.model ?? g.model,
        startedAt: event.at,
        finishedAt: null,
        outcome: null,
      };
      return {
        ...next,
        ...event.served,
        requestedModel: event.served ? (g.requestedModel ?? g.model) : g.requestedModel,
        attempts: [...g.attempts, opened],
        state: { status: 'running', attempt, node: event.node, startedAt: event.at },
      };
    }
    case 'submitted_to_node':
      return {
        ...next,
        state: { ...(state as Extract<GenerationState, { status: 'running' }>), remote: event.remote },
      };
    case 'requeued': {
      const running = state as Extract<GenerationState, { status: 'running' }>;
      const { code } = event.failure;
      const attempts = closeAttempt(g.attempts, event.at, code === 'shutting_down' ? 'handed_over' : code);
      return {
        ...next,
        softened: g.softened || event.soften === true,
        params: event.soften && g.softenedPrompt !== null ? { ...g.params, prompt: g.softenedPrompt } : g.params,
        attempts: event.giveBack && event.avoid === null ? lastOfAlike(attempts) : attempts,
        avoid: event.avoid === null || g.avoid.includes(event.avoid) ? g.avoid : [...g.avoid, event.avoid],
        state: {
          status: 'queued',
          attempt: event.giveBack ? running.attempt : running.attempt + 1,
          notBefore: event.notBefore,
          lastFailure: event.failure,
        },
      };
    }
    case 'succeeded':
      return {
        ...next,
        attempts: closeAttempt(g.attempts, event.at, 'succeeded'),
        warnings: event.warnings?.length ? [...g.warnings, ...event.warnings] : g.warnings,
        reserved: 0,
        charged: charge(g.quote, event.outputs.length, event.nodeMs / 1000),
        state: { status: 'succeeded', outputs: event.outputs, finishedAt: event.at },
      };
    case 'failed':
    case 'timed_out':
    case 'cancelled': {
      const status = event.type === 'timed_out' ? 'timeout' : event.type;
      return {
        ...next,
        attempts: closeAttempt(g.attempts, event.at, event.failure.code),
        reserved: 0,
        charged: 0,
        state: { status, failure: event.failure, finishedAt: event.at },
      };
    }
  }
}

export type EntryKind = 'grant' | 'reserve' | 'charge' | 'release';

/** A line in the credits ledger. `amount` is always ≥ 0 except for grants, which may take credits away. */
export interface Entry {
  readonly kind: EntryKind;
  readonly amount: Millicredits;
}

/** What moves in the ledger when `before` became `after`. Before null: the insert. */
export function entriesFor(before: Generation | null, after: Generation): readonly Entry[] {
  const entries: Entry[] = [];
  const added = after.reserved - (before?.reserved ?? 0);
  if (added > 0) entries.push({ kind: 'reserve', amount: added });
  if (before === null || added > 0) return entries;
  if (after.charged > 0) entries.push({ kind: 'charge', amount: after.charged });
  const freed = before.reserved - after.reserved - after.charged;
  if (freed > 0) entries.push({ kind: 'release', amount: freed });
  return entries;
}

// How an attempt ends: which event follows, that it is stored even when storing fails for a while, and that the node is
// not left working on something nobody waits for.

import { type Connection, Refusal, wasAsked } from '../backends/backend.ts';
import type { GenerationEvent } from '../domain/event.ts';
import { FAILURES, type Failure, type FailureCode, failure, isOfAccount, toFailure } from '../domain/failure.ts';
import type { Generation, RemoteRef } from '../domain/generation.ts';
import { laneOf } from '../domain/lane.ts';
import { type Model, placeOf, type Route } from '../domain/model.ts';
import { obstacle, suits } from '../domain/placement.ts';
import { settle } from '../domain/retry.ts';
import type { Millis, NodeId } from '../domain/units.ts';
import type { Ingested } from '../media/media.ts';
import { needsOf } from './availability.ts';
import { LIMITS, standInsFor } from './fallback.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

/** Where and as what an attempt runs. */
export interface Plan {
  readonly node: NodeId;
  /** Null: taken up after it left the catalog. */
  readonly model: Model | null;
  readonly route: Route;
  readonly residency: string;
  readonly warm: boolean;
  readonly expectMs: Millis;
}

/** What an attempt has so far. */
export interface Tale {
  g: Generation;
  /** Taken up after a restart. */
  readonly resumed: boolean;
  remote: RemoteRef | null;
  connection: Connection | undefined;
  /** Why it cannot be said how the work stands; null while it can. */
  trouble: Failure | null;
  /** Null until the render ended. */
  renderMs: Millis | null;
  readonly files: { readonly seed: number | undefined; readonly stored: Promise<PromiseSettledResult<Ingested>> }[];
  readonly warnings: string[];
}

export const createTale = (g: Generation, remote: RemoteRef | null): Tale => ({
  g,
  resumed: remote !== null,
  remote,
  connection: undefined,
  trouble: null,
  renderMs: null,
  files: [],
  warnings: [],
});

/** The generation moved on without us (it was cancelled); whatever we hold is thrown away. */
export class MovedOn extends Error {}

export interface Settling {
  /** Settles a failed attempt. `broken`: its signal was aborted, so `thrown` is our own reason. */
  failed(tale: Tale, plan: Plan, broken: boolean, thrown: unknown): Promise<void>;
  /** Its account is in trouble, which those who see to it should know before this attempt is over. */
  warn(tale: Tale, plan: Plan, why: Failure): void;
  /** Stops what is still at work there for this attempt and will not be waited for. Never rejects. */
  cleanUp(tale: Tale): Promise<void>;
  /** Appends, again and again while the store cannot (a full disk): the outcome of a render is not given up. Null: someone moved first. */
  append(g: Generation, event: GenerationEvent): Promise<Generation | null>;
  /** What could not be stored by now is left to the next start. */
  stop(): void;
}

const CLEAN_UP_MS = 30_000;
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 30_000;
/** The node itself said that it is over. */
const OVER: ReadonlySet<FailureCode> = new Set(['model_error', 'out_of_memory', 'safety_filter', 'policy_block']);

/** Says nothing about what became of the work elsewhere. */
const TELLS_NOTHING: ReadonlySet<FailureCode> = new Set(['internal', 'run_timeout']);
/** A refusal mostly says something about the job; these say something about the node or account. */
const TELLING_REFUSALS: ReadonlySet<FailureCode> = new Set([
  'provider_auth',
  'provider_balance',
  'rate_limited',
  'model_gone',
  'node_lost',
]);

export function createSettling({ system, fleet, catalog, settings }: Rooms, recorder: Recorder): Settling {
  const { clock, random, log } = system;
  const stopping = new AbortController();

  const append = async (g: Generation, event: GenerationEvent): Promise<Generation | null> => {
    for (let pause = FIRST_RETRY_MS; ; pause = Math.min(LONGEST_RETRY_MS, pause * 2)) {
      try {
        return await recorder.append(g, event);
      } catch (error) {
        if (stopping.signal.aborted) throw error;
        log.error(
          { err: error, generation: g.id, event: event.type, retry_in_ms: pause },
          'could not store an outcome; trying again',
        );
        await clock.sleep(pause, stopping.signal).catch(() => {});
      }
    }
  };

  /** When time was up while nobody could say how it stood, that is why. */
  const whyOf = ({ trouble }: Tale, thrown: unknown, broken: boolean): Failure => {
    const why = toFailure(thrown);
    if (why.code === 'run_timeout' && trouble !== null) return trouble;
    return why.code === 'shutting_down' && !broken ? failure('node_lost', why.message) : why;
  };

  /** It may have been paid for: whatever went wrong since is no reason to ask, and pay, again. */
  const ours = ({ connection, remote, files }: Tale, why: Failure, refused: boolean): Failure => {
    const asked = connection?.paid === true && remote !== null && wasAsked(remote) && !refused;
    const again = TELLS_NOTHING.has(why.code) || FAILURES[why.code].retry !== 'never';
    const made = files.length > 0;
    return asked && (again || made) ? { ...why, retryable: false, possiblyBilled: true } : why;
  };

  /** What the node's part in it was; our own breaking off says nothing about the node. */
  const tellFleet = (tale: Tale, plan: Plan, broken: boolean, why: Failure, refused: boolean) => {
    if (tale.renderMs !== null || (broken && FAILURES[why.code].blame !== 'node')) return;
    const { residency, warm, node } = plan;
    const failure = refused && !TELLING_REFUSALS.has(why.code) ? null : why;
    fleet.learned(node, { residency, warm, renderMs: null, failure });
  };

  /** Where it may run next: as the same model, and as an equivalent where this one is limited. */
  const elsewhere = (g: Generation, { node, route, model }: Plan, why: Failure): 'now' | 'later' | 'no' => {
    const { pictures, loras } = laneOf(g);
    const needs = model === null ? [] : needsOf(catalog, model, pictures);
    const tried = [...g.avoid, placeOf(node, route)];
    const others = fleet
      .views()
      .filter((n) => n.id !== node || !isOfAccount(why.code))
      .filter((n) => needs.some((r) => !tried.includes(placeOf(n.id, r.route)) && suits(n, r, loras)));
    if (others.length === 0 && model !== null && g.fallback === 'model' && LIMITS.has(why.code)) {
      const able = standInsFor(catalog, model, g).flatMap((m) => needsOf(catalog, m, pictures));
      if (fleet.views().some((n) => able.some((r) => obstacle(n, r, loras) === null))) return 'now';
    }
    if (others.length === 0) return 'no';
    return others.some((n) => n.status === 'online') ? 'now' : 'later';
  };

  /** After a break-off the node may still be at it: make sure it is not, before the slot is used again. */
  const cleanUp = async ({ g, remote, connection, renderMs }: Tale, why: Failure | null) => {
    if (remote === null || connection === undefined || renderMs !== null || (why !== null && OVER.has(why.code)))
      return;
    try {
      await connection.cancel(remote, AbortSignal.timeout(CLEAN_UP_MS));
    } catch (error) {
      log.warn({ err: error, generation: g.id }, 'could not confirm that the node stopped');
    }
  };

  const report = (g: Generation, plan: Plan, why: Failure, thrown: unknown) => {
    const quiet = why.code.startsWith('cancelled') || why.code === 'shutting_down';
    const fields = { generation: g.id, node: plan.node, code: why.code, reason: why.message };
    if (why.code === 'internal') log.error({ ...fields, err: thrown }, 'attempt failed on a fault of ours');
    else if (quiet) log.info(fields, 'attempt stopped');
    else log.warn({ ...fields, err: (thrown as Error).cause }, 'attempt failed');
  };

  return {
    append,
    warn(tale, plan, why) {
      if (isOfAccount(why.code)) tellFleet(tale, plan, false, why, false);
    },
    cleanUp: (tale) => cleanUp(tale, null),
    stop: () => stopping.abort(),
    async failed(tale, plan, broken, thrown) {
      if (thrown instanceof MovedOn) return cleanUp(tale, null);
      const refused = thrown instanceof Refusal;
      const why = ours(tale, whyOf(tale, thrown, broken), refused);
      // stays running in the store: the next gateway takes it up by its reference
      if (why.code === 'shutting_down' && tale.remote !== null && tale.connection?.resumable === true) return;
      report(tale.g, plan, why, thrown);
      const known = isOfAccount(why.code) && fleet.node(plan.node)?.breaker !== 'closed';
      tellFleet(tale, plan, broken, why, refused);
      if ((await recorder.get(tale.g.id))?.seq === tale.g.seq) {
        const around = {
          now: clock.now(),
          place: placeOf(plan.node, plan.route),
          elsewhere: elsewhere(tale.g, plan, why),
          refused,
          known,
          refusedElsewhere: settings.refusedElsewhere,
          chance: random.fraction(),
        };
        await append(tale.g, settle(tale.g, why, around));
      }
      await cleanUp(tale, why);
    },
  };
}

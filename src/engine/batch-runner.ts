// Works batches off. One loop looks at each batch that stirs: it judges the breaker, hands held items over while there is
// room, clears away what a cancel or a halt leaves behind, and brings the batch to its end. Nothing it does depends on
// what it did before, so a new process goes on where the last one died.

import { setImmediate as turn } from 'node:timers/promises';
import { type Batch, type BatchEvent, clearing, endOf, holdOf, judged, roomUnder } from '../domain/batch.ts';
import { resumesIn } from '../domain/breaker.ts';
import type { Workspace } from '../domain/caller.ts';
import { type Failure, failure, GatewayError } from '../domain/failure.ts';
import { type Generation, isFinal } from '../domain/generation.ts';
import type { Lane } from '../domain/lane.ts';
import { type GenerationId, type Millicredits, type Millis, toCredits, type WorkspaceId } from '../domain/units.ts';
import { type Loop, startLoop } from '../system/system.ts';
import type { Attempts } from './attempt.ts';
import { type Book, createBook, type Work } from './batch-book.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

/** Items handed over, or cancelled while they run, in one turn of the event loop. */
const SLICE = 50;
/** Waiting ones cancelled in one write: nothing of them is on a node. */
const WAITING_SLICE = 128;

const BY_CALLER = failure('cancelled_by_caller', 'Its batch was cancelled on request.');
const HALTED = failure('batch_halted', 'Its batch halted: too many of its items failed.');

export interface RunnerOptions {
  readonly rooms: Rooms;
  readonly recorder: Recorder;
  readonly attempts: Attempts;
  readonly workspace: (id: WorkspaceId) => Promise<Workspace | null>;
}

export interface Runner {
  readonly works: Book['works'];
  /** Items of this lane are not to be started now. */
  holds(lane: Lane): boolean;
  /** Why an item is kept from starting by its batch; null: it is not. */
  holdOn(g: Generation): 'paused' | 'breaker_open' | null;
  /** Its place among the held items of its batch, from 1; null: nobody knows. */
  place(g: Generation): number | null;
  /** How many have not come to their end, by what holds them up. */
  open(): Readonly<Record<'running' | 'paused' | 'breaker_open', number>>;
  /** Items of it in work at once, at most. */
  limitOf(batch: Batch): Promise<number>;
  stop(): Promise<void>;
}

/** Resolves once all open batches are known, so that none of a paused one is started. */
export async function startRunner({ rooms, recorder, attempts, workspace }: RunnerOptions): Promise<Runner> {
  const { store, settings } = rooms;
  const { clock, log } = rooms.system;
  let wake = () => {};
  const book = createBook(store, recorder, () => wake());
  book.open(await store.batches.open());

  const change = async (work: Work, event: BatchEvent) => {
    const { batch } = work;
    if ((await store.batches.change(batch, event, await store.batches.tally(batch.id))) === null) await catchUp(work);
  };

  /** Someone moved the batch first. */
  const catchUp = async (work: Work) => {
    const now = await store.batches.get(work.batch.id);
    if (now !== null && now.seq > work.batch.seq) work.batch = now;
    work.stirred = true;
  };

  const limitOf = async ({ workspaceId, concurrency }: Batch) =>
    Math.min(concurrency, ((await workspace(workspaceId))?.limits ?? settings.limits).concurrency);

  /** Hands over what there is room for. What does not fit waits for what is in work, which may give some back. */
  const handOver = async (work: Work) => {
    const { id } = work.batch;
    const limit = await limitOf(work.batch);
    let [cheapest, after] = [Number.POSITIVE_INFINITY, -1];
    let refusal: Failure | null = null;
    while (work.inWork.size < limit && holdOf(work.batch) === null) {
      const free = limit - work.inWork.size;
      const page = await store.batches.held(id, refusal === null ? Math.min(free, SLICE) : SLICE, after);
      if (after < 0) work.next = page[0]?.item ?? work.next;
      if (page.length === 0) {
        work.mayHold = refusal !== null;
        work.least = cheapest;
        break;
      }
      const fitting = page.filter((g) => g.quote.reserve < cheapest).slice(0, free);
      after = (fitting.length < free ? page.at(-1) : fitting.at(-1))?.item ?? after;
      work.crowded = true;
      const answers = await store.batches.admit(fitting, roomOf(work), clock.now());
      work.crowded = answers.some((answer) => answer.outcome === 'refused' && answer.failure.code === 'queue_full');
      if (work.crowded) return;
      for (const [n, answer] of answers.entries()) {
        if (answer.outcome !== 'refused') continue;
        const refused = fitting[n] as Generation;
        if (answer.failure.code === 'cancelled_by_admin') {
          await cancel(refused.id, answer.failure);
          continue;
        }
        cheapest = Math.min(cheapest, refused.quote.reserve);
        refusal ??= answer.failure;
      }
      if (refusal === null) work.next = (fitting.at(-1)?.item ?? after) + 1;
      if (cheapest <= work.least) break;
      await turn();
    }
    if (refusal !== null && work.inWork.size === 0) await cancelHeld(work, refusal, cheapest);
  };

  const roomOf = ({ batch, charged, inWork }: Work): Millicredits | null =>
    roomUnder(
      batch,
      charged,
      inWork.values().reduce((sum, one) => sum + one, 0),
    );

  /**
   * Nothing of it is in work, so nothing of its own will come back. What others of the workspace have reserved is spoken
   * for: a batch that waited for it could wait for ever, so running dry cancels the rest.
   */
  const cancelHeld = async (work: Work, refusal: Failure, cheapest: Millicredits) => {
    for (let after = -1; work.inWork.size === 0 && holdOf(work.batch) === null; await turn()) {
      const page = await store.batches.held(work.batch.id, SLICE, after);
      if (page.length === 0) return;
      after = page.at(-1)?.item ?? after;
      const room = roomOf(work);
      const short = page.filter((g) => g.quote.reserve >= cheapest);
      await Promise.all(short.map((g) => cancel(g.id, shortage(g, room, refusal))));
    }
  };

  const cancel = async (id: GenerationId, why: Failure) => {
    const result = await recorder.insist(id, { type: 'cancelled', at: clock.now(), failure: why });
    if (result?.moved) attempts.abort(id, new GatewayError(why));
  };

  /** A slice at a time: what was cancelled stirs the batch again. True: there was nothing left. */
  const clearAway = async (work: Work) => {
    const all = clearing(work.batch) === 'all';
    const why = all ? BY_CALLER : HALTED;
    const waiting = await store.batches.cancelWaiting(work.batch, WAITING_SLICE, why, clock.now());
    if (waiting === null) {
      await catchUp(work);
      return false;
    }
    const running = all && waiting.length === 0 ? await store.batches.idsIn(work.batch.id, 'running', SLICE) : [];
    await Promise.all(running.map((id) => cancel(id, why)));
    if (waiting.length + running.length === 0) return true;
    work.stirred = true;
    return false;
  };

  /** Ends it when all its items have ended; waits for attached ones, which others work off. */
  const end = async (work: Work) => {
    const { id } = work.batch;
    if (work.inWork.size > 0) return;
    if (work.mayHold) work.mayHold = (await store.batches.held(id, 1)).length > 0;
    if (work.mayHold) return;
    const { batch } = work;
    const tally = await store.batches.tally(id);
    const event = endOf(batch, tally);
    if (event !== null) await change(work, { type: event, at: clock.now() });
    else if (tally.counts.queued + tally.counts.running > 0) await awaitOthers(work);
  };

  /** One of them is enough to look again. */
  const awaitOthers = async (work: Work) => {
    const { data } = await store.batches.items(work.batch.id, { statuses: ['queued', 'running'] }, 1);
    const open = data[0]?.generation.id;
    if (open !== undefined) book.await(work, open);
    const now = open === undefined ? null : await recorder.get(open);
    if (now === null || isFinal(now)) work.stirred = true;
  };

  const look = async (work: Work) => {
    if (!work.loaded) await book.load(work);
    const verdict = judged(work.batch, work.outcomes, clock.now());
    if (verdict !== null) return change(work, verdict);
    if (holdOf(work.batch) === null) await handOver(work);
    if (clearing(work.batch) === null || (await clearAway(work))) await end(work);
  };

  /** All that stir get their look, whatever goes wrong with one of them. */
  const tick = async (): Promise<Millis | null> => {
    let next: Millis | null = null;
    const errors: unknown[] = [];
    for (const work of book.works.values()) {
      if (work.stirred || dueIn(work) === 0) {
        work.stirred = false;
        await look(work).catch((error: unknown) => {
          work.stirred = true;
          errors.push(error);
        });
      }
      if (work.stirred) wake();
      next = Math.min(next ?? Number.POSITIVE_INFINITY, dueIn(work) ?? Number.POSITIVE_INFINITY);
    }
    if (errors.length > 0) throw errors[0];
    return next === Number.POSITIVE_INFINITY ? null : next;
  };

  /** Until its breaker is to be asked without anything having happened. */
  const dueIn = ({ batch }: Work): Millis | null =>
    batch.rules === null || clearing(batch) !== null ? null : resumesIn(batch.breaker, batch.rules, clock.now());

  const workFor = ({ batchId, item }: Generation) =>
    batchId === null || item === null ? undefined : book.works.get(batchId);

  const loop: Loop = startLoop({ name: 'batches', clock, log, tick });
  wake = loop.wake;
  return {
    works: book.works,
    holds({ batchId, items }) {
      const work = items && batchId !== null ? book.works.get(batchId) : undefined;
      return work !== undefined && holdOf(work.batch) !== null;
    },
    holdOn(g) {
      const work = workFor(g);
      return work === undefined ? null : holdOf(work.batch);
    },
    place(g) {
      const work = workFor(g);
      return work === undefined ? null : Math.max(1, (g.item ?? 0) - work.next + 1);
    },
    open() {
      const count = { running: 0, paused: 0, breaker_open: 0 };
      for (const { batch } of book.works.values()) count[holdOf(batch) ?? 'running']++;
      return count;
    },
    limitOf,
    stop: () => loop.stop(),
  };
}

function shortage(g: Generation, room: Millicredits | null, refusal: Failure): Failure {
  const need = toCredits(g.quote.reserve);
  if (room !== null && g.quote.reserve > room) {
    const why = `This costs up to ${need} credits; the batch's max_credits leaves ${toCredits(room)}.`;
    return failure('budget_exceeded', why);
  }
  return refusal;
}

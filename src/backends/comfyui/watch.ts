// Follows one prompt to its end. Looking (history, then queue) is the truth; the ear only says when a look is due, so a
// working socket ends a run within milliseconds and a deaf one within a poll. What can end it otherwise: the prompt is
// nowhere to be found, the server is gone, or it is silent for longer than anything plausible.

import { GatewayError } from '../../domain/failure.ts';
import type { RunEvent } from '../backend.ts';
import { cancelPrompt } from './cancel.ts';
import type { Ear } from './ear.ts';
import { look, type Presence } from './presence.ts';
import type { HistoryEntry } from './replies.ts';
import { isProcessGone } from './server.ts';
import type { Session, Wedge } from './session.ts';

const FIRST_RETRY_MS = 10;
const OUTCOME_MS = 100;
const RECHECK_MS = 250;
/** A socket that is open and says nothing of a running prompt is replaced after so many looks. */
const DEAF_LOOKS = 5;
const GIVE_UP_MS = 15_000;

/** Yields progress and previews; returns the history entry, whatever it says. Throws GatewayError('node_lost'). */
export async function* watch(
  session: Session,
  ear: Ear,
  signal: AbortSignal,
  firstLookMs = session.limits.pollMs,
): AsyncGenerator<RunEvent, HistoryEntry> {
  const { clock } = session.system;
  const judge = createJudge(session, ear);
  let nextLook = clock.monotonic() + firstLookMs;
  let urged: Ear['urgency'] = 'none';
  for (;;) {
    const now = clock.monotonic();
    yield* ear.take(now);
    if (ear.urgency !== urged) {
      urged = ear.urgency;
      nextLook = Math.min(nextLook, urged === 'now' ? now : now + OUTCOME_MS);
    }
    if (now >= nextLook) {
      const presence = await tryLook(session, ear.promptId, signal);
      if (presence.at === 'history') return presence.entry;
      nextLook = clock.monotonic() + judge.pauseAfter(presence);
    }
    const wedge = judge.silence();
    if (wedge) await giveUp(session, ear.promptId, wedge, signal);
    await ear.wait(Math.max(0, nextLook - clock.monotonic()), signal);
  }
}

type Seen = Exclude<Presence, { at: 'history' }> | { readonly at: 'unknown'; readonly gone: boolean };

async function tryLook(session: Session, id: string, signal: AbortSignal): Promise<Presence | Seen> {
  try {
    return await look(session, id, signal);
  } catch (error) {
    signal.throwIfAborted();
    session.system.log.debug({ err: error, node: session.spec.id }, 'a look at a running prompt failed');
    return { at: 'unknown', gone: isProcessGone(error) };
  }
}

/** Weighs what the looks say over time. */
function createJudge(session: Session, ear: Ear) {
  const { limits, socket } = session;
  const { clock } = session.system;
  const restartsBefore = session.restarts;
  let last: Seen = { at: 'running' };
  let since = clock.monotonic();
  let looks = 0;
  let picture = pictureOf(last);
  let movedAt = since;

  const enter = (seen: Seen): number => {
    const now = clock.monotonic();
    const same = seen.at === last.at;
    if (!same) since = now;
    if (seen.at !== 'unknown' && pictureOf(seen) !== picture) {
      picture = pictureOf(seen);
      movedAt = now;
    }
    looks = same ? looks + 1 : 1;
    last = seen;
    return now - since;
  };
  const retry = () => Math.min(limits.pollMs, FIRST_RETRY_MS * 2 ** looks);

  return {
    /** Milliseconds until the next look. Throws when the prompt is lost. */
    pauseAfter(seen: Seen): number {
      const forMs = enter(seen);
      if (seen.at === 'nowhere') {
        const proof = session.restarts > restartsBefore ? RECHECK_MS : limits.lostMs;
        if (looks > 1 && forMs >= proof) throw lost('The node lost the work, probably by a restart.');
        if (ear.urgency === 'now') return retry();
        return looks === 1 ? RECHECK_MS : proof - forMs;
      }
      if (seen.at === 'unknown') {
        if (seen.gone) session.restarts++;
        if (seen.gone ? looks > 1 : forMs >= limits.unreachableMs) throw lost('The node stopped answering.');
        return seen.gone ? RECHECK_MS : limits.pollMs;
      }
      if (ear.urgency === 'now') return retry();
      if (seen.at === 'running' && looks === DEAF_LOOKS && !ear.hears && socket.open) socket.renew();
      return limits.pollMs;
    },
    /** Has nothing moved for longer than plausible? */
    silence(): Wedge | null {
      const quietMs = clock.monotonic() - Math.max(movedAt, ear.heardAt);
      const stuck = { promptId: ear.promptId, until: 'prompt_left_queue' } as const;
      if (last.at === 'pending' && last.idle) {
        const dead = { reason: 'its worker takes no work', until: 'restart', restarts: session.restarts } as const;
        return quietMs >= limits.stepMs ? dead : null;
      }
      const patience = !ear.hears ? limits.blindMs : ear.stepping ? limits.stepMs : limits.coldMs;
      return quietMs >= patience ? { ...stuck, reason: 'its worker hangs' } : null;
    },
  };
}

const pictureOf = (seen: Seen): string => (seen.at === 'pending' ? seen.picture : seen.at);

/** The work is taken away; where even that fails, or the worker is dead, the node gets no more until it was restarted. */
async function giveUp(session: Session, id: string, wedge: Wedge, signal: AbortSignal): Promise<never> {
  try {
    await cancelPrompt(session, id, signal, GIVE_UP_MS);
    if (wedge.until === 'restart') session.wedge = wedge;
  } catch {
    signal.throwIfAborted();
    session.wedge = wedge;
  }
  throw lost('The node went silent while it had the work.');
}

const lost = (message: string) => new GatewayError('node_lost', message);

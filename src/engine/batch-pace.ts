// When a batch will be done: by the pace of its last items, else by what its items should take.

import { clearing, holdOf, type Tally } from '../domain/batch.ts';
import type { Millis } from '../domain/units.ts';
import type { Work } from './batch-book.ts';
import type { Outlook } from './outlook.ts';

/** Fewer ends tell no pace. */
const ENOUGH = 5;

/** Seconds until its last item ends; null when nobody can say, and while it is held up. `limit`: items in work at once. */
export function etaOf(work: Work, { counts }: Tally, limit: number, outlook: Outlook, now: Millis): number | null {
  const left = counts.queued + counts.running;
  if (left === 0 || clearing(work.batch) !== null || holdOf(work.batch) !== null) return null;
  const each = paceOf(work.ends, now) ?? expectedPace(work, left, limit, outlook);
  return each === null ? null : Math.max(1, Math.ceil((left * each) / 1000));
}

/** Milliseconds from one end to the next, of late; a stall counts. */
function paceOf([from, ...ends]: readonly Millis[], now: Millis): Millis | null {
  if (from === undefined || ends.length < ENOUGH || now <= from) return null;
  return (now - from) / ends.length;
}

function expectedPace({ sample }: Work, left: number, limit: number, outlook: Outlook): Millis | null {
  if (sample === null) return null;
  const { able } = outlook.standing(sample);
  return able === 0 ? null : outlook.expected(sample).renderMs / Math.min(able, limit, left);
}

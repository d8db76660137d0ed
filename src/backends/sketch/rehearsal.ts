// Rehearsals: tags in a prompt that make the built-in renderer fail or dawdle on purpose, so that callers can try their
// own handling of bad days without a GPU: [[fail:CODE]], [[fail:CODE once]] (first attempt only), [[slow:SECONDS]].

import { FAILURE_CODES, type FailureCode } from '../../domain/failure.ts';
import type { Millis } from '../../domain/units.ts';
import { Refusal } from '../backend.ts';

export interface Rehearsal {
  /** The prompt without its tags: what is drawn and what the label says. */
  readonly prompt: string;
  /** How this attempt has to end; null: well. */
  readonly fail: FailureCode | null;
  /** Time to spread over the steps. */
  readonly slowMs: Millis;
}

const TAG = /\[\[\s*(fail|slow)\s*:\s*([^\][]*?)\s*\]\]/gi;
const LONGEST_MS = 24 * 60 * 60 * 1000;

/** Throws Refusal('invalid_request') for a tag that cannot be obeyed, so that a typing error is not taken for success. */
export function parseRehearsal(text: string, attempt: number): Rehearsal {
  let fail: FailureCode | null = null;
  let slowMs = 0;
  for (const [tag, verb, value] of text.matchAll(TAG)) {
    if (verb?.toLowerCase() === 'slow') slowMs += parseSeconds(tag, value ?? '');
    else fail ??= parseFailure(tag, value ?? '', attempt);
  }
  return { prompt: text.replace(TAG, ' ').replace(/\s+/g, ' ').trim(), fail, slowMs: Math.min(slowMs, LONGEST_MS) };
}

function parseFailure(tag: string, value: string, attempt: number): FailureCode | null {
  const [name, once, ...rest] = value.split(/\s+/);
  const code = FAILURE_CODES.find((known) => known === name);
  if (!code || rest.length > 0 || (once !== undefined && once !== 'once')) {
    throw new Refusal(
      'invalid_request',
      `The rehearsal ${tag} names no error code; write [[fail:CODE]] or [[fail:CODE once]].`,
    );
  }
  return once && attempt > 1 ? null : code;
}

function parseSeconds(tag: string, value: string): Millis {
  const seconds = Number(value);
  if (value === '' || !Number.isFinite(seconds) || seconds < 0) {
    throw new Refusal('invalid_request', `The rehearsal ${tag} names no time; write [[slow:SECONDS]].`);
  }
  return seconds * 1000;
}

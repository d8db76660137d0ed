// Rehearsals: tags in a prompt that make the built-in renderer fail or dawdle on purpose, so that callers can try their
// own handling of bad days without a GPU: [[fail:CODE]], [[fail:CODE once]] (first attempt only), [[slow:SECONDS]].
// Prompts are anybody's: a tag is found by a pattern that reads every letter once, and taken apart in code.

import type { FailureCode } from '../../domain/failure.ts';
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

/** How an attempt may end by its node, its provider or its time; never what only a caller, an operator or a restart does. */
const REHEARSED = [
  'safety_filter',
  'policy_block',
  'model_error',
  'model_gone',
  'out_of_memory',
  'no_capable_node',
  'node_lost',
  'run_timeout',
  'start_timeout',
  'rate_limited',
  'unsupported_input',
  'invalid_request',
  'provider_balance',
  'provider_auth',
  'internal',
] as const satisfies readonly FailureCode[];

/** What is inside holds no bracket, so no two places where a tag may begin read the same letters. */
const BRACKETED = /\[\[([^\][]*)\]\]/g;
const LONGEST_MS = 24 * 60 * 60 * 1000;

/** Throws Refusal('invalid_request') for a tag that cannot be obeyed, so that a typing error is not taken for success. */
export function parseRehearsal(text: string, attempt: number): Rehearsal {
  let fail: FailureCode | null = null;
  let slowMs = 0;
  const prompt = text.replace(BRACKETED, (tag: string, inside: string) => {
    const [verb, value] = halves(inside);
    if (verb === 'slow') slowMs += parseSeconds(tag, value);
    else if (verb === 'fail') fail ??= parseFailure(tag, value, attempt);
    else return tag;
    return ' ';
  });
  return { prompt: prompt.replace(/\s+/g, ' ').trim(), fail, slowMs: Math.min(slowMs, LONGEST_MS) };
}

function halves(inside: string): readonly [verb: string, value: string] {
  const colon = inside.indexOf(':');
  return colon === -1 ? ['', ''] : [inside.slice(0, colon).trim().toLowerCase(), inside.slice(colon + 1).trim()];
}

function parseFailure(tag: string, value: string, attempt: number): FailureCode | null {
  const [name, once, ...rest] = value.split(/\s+/);
  const code = REHEARSED.find((known) => known === name);
  if (!code || rest.length > 0 || (once !== undefined && once !== 'once')) {
    throw new Refusal(
      'invalid_request',
      `The rehearsal ${shown(tag)} names no way in which an attempt can fail; write [[fail:CODE]] or [[fail:CODE once]].`,
    );
  }
  return once && attempt > 1 ? null : code;
}

function parseSeconds(tag: string, value: string): Millis {
  const seconds = Number(value);
  if (value === '' || !Number.isFinite(seconds) || seconds < 0) {
    throw new Refusal('invalid_request', `The rehearsal ${shown(tag)} names no time; write [[slow:SECONDS]].`);
  }
  return seconds * 1000;
}

const shown = (tag: string): string => (tag.length > 80 ? `${tag.slice(0, 80)}…` : tag);

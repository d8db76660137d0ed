// Patterns that are matched in linear time, whatever they are and whatever is tried on them: all ways of reading the text
// are followed at once, one step per character, and none is ever taken back. JavaScript's own expressions can take
// ages on a line of text and cannot be stopped.

import { type Edge, isWordChar, PatternError, parsePattern, type Syntax } from './pattern-syntax.ts';

export { PatternError } from './pattern-syntax.ts';

/** Steps of a compiled pattern; each is looked at once per character of the text. */
const MAX_STEPS = 500;

type Step =
  | { readonly do: 'take'; readonly test: (char: string) => boolean; readonly next: number }
  | { readonly do: 'fork'; readonly ways: readonly number[] }
  | { readonly do: 'check'; readonly edge: Edge; readonly next: number }
  | { readonly do: 'found' };

export interface Pattern {
  readonly steps: number;
  /** A part of the text that it matches; null where there is none. */
  find(text: readonly string[]): string | null;
}

/** Throws PatternError. `fold`: what is done to every text before it is searched. */
export function compilePattern(source: string, fold: (text: string) => string): Pattern {
  const syntax = parsePattern(source, fold);
  if (mayBeEmpty(syntax)) throw new PatternError('it matches even without a single character');
  const steps: Step[] = [{ do: 'found' }];
  const start = build(syntax, FOUND, steps);
  return { steps: steps.length, find: (text) => find(steps, start, text) };
}

const FOUND = 0;

function mayBeEmpty(syntax: Syntax): boolean {
  if (syntax.is === 'char') return false;
  if (syntax.is === 'edge') return true;
  if (syntax.is === 'repeat') return syntax.min === 0 || mayBeEmpty(syntax.part);
  return syntax.is === 'seq' ? syntax.parts.every(mayBeEmpty) : syntax.parts.some(mayBeEmpty);
}

/** Puts the steps for `syntax` in front of step `next`; where they begin. */
function build(syntax: Syntax, next: number, steps: Step[]): number {
  const put = (step: Step): number => {
    if (steps.length >= MAX_STEPS) throw new PatternError('it is too large; count repetitions less high');
    return steps.push(step) - 1;
  };
  if (syntax.is === 'char') return put({ do: 'take', test: syntax.test, next });
  if (syntax.is === 'edge') return put({ do: 'check', edge: syntax.edge, next });
  if (syntax.is === 'seq') return syntax.parts.reduceRight((then, part) => build(part, then, steps), next);
  if (syntax.is === 'either') return put({ do: 'fork', ways: syntax.parts.map((part) => build(part, next, steps)) });
  const { part, min, max } = syntax;
  let at = next;
  if (max === null) {
    const ways: number[] = [];
    at = put({ do: 'fork', ways });
    ways.push(build(part, at, steps), next);
  } else {
    for (let k = min; k < max; k++) at = put({ do: 'fork', ways: [build(part, at, steps), next] });
  }
  for (let k = 0; k < min; k++) at = build(part, at, steps);
  return at;
}

const NOWHERE = -1;

/** Where the readings of a text stand: each at a step, and which of them began where. */
interface Readings {
  readonly at: number[];
  readonly began: Int32Array;
}

function find(steps: readonly Step[], start: number, text: readonly string[]): string | null {
  const none = (): Readings => ({ at: [], began: new Int32Array(steps.length).fill(NOWHERE) });
  let now = none();
  let then = none();
  for (let at = 0; ; at++) {
    enter(steps, now, start, at, text, at);
    const began = now.began[FOUND] ?? NOWHERE;
    if (began !== NOWHERE) return text.slice(began, at).join('');
    const char = text[at];
    if (char === undefined) return null;
    for (const k of now.at) {
      const step = steps[k];
      if (step?.do === 'take' && step.test(char)) enter(steps, then, step.next, now.began[k] ?? at, text, at + 1);
    }
    for (const k of now.at.splice(0)) now.began[k] = NOWHERE;
    [now, then] = [then, now];
  }
}

/** Stands at a step, and at all that can be reached from it without a character; once at each, so that time is linear. */
function enter(
  steps: readonly Step[],
  readings: Readings,
  first: number,
  began: number,
  text: readonly string[],
  at: number,
): void {
  const open = [first];
  for (let k = open.pop(); k !== undefined; k = open.pop()) {
    const step = steps[k];
    if (step === undefined || readings.began[k] !== NOWHERE) continue;
    readings.began[k] = began;
    readings.at.push(k);
    if (step.do === 'fork') open.push(...step.ways);
    if (step.do === 'check' && holds(step.edge, text, at)) open.push(step.next);
  }
}

function holds(edge: Edge, text: readonly string[], at: number): boolean {
  if (edge === 'start') return at === 0;
  if (edge === 'end') return at === text.length;
  return (isWordChar(text[at - 1]) !== isWordChar(text[at])) === (edge === 'word');
}

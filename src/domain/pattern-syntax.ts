// The patterns of a blocklist, read: a small part of what regular expressions can say, without whatever makes them slow
// (no looking around, no references back). Repetitions are bounded in what they unfold to, not in what they match.

/** Nothing in it is empty, so what it unfolds to is never smaller than itself. `max` null is without end. */
export type Syntax =
  | { readonly is: 'char'; readonly test: (char: string) => boolean }
  | { readonly is: 'seq'; readonly parts: readonly Syntax[] }
  | { readonly is: 'either'; readonly parts: readonly Syntax[] }
  | { readonly is: 'repeat'; readonly part: Syntax; readonly min: number; readonly max: number | null }
  | { readonly is: 'edge'; readonly edge: Edge };
/** `word`: between a letter or digit and something else; `inner`: where that is not so. */
export type Edge = 'start' | 'end' | 'word' | 'inner';

export class PatternError extends Error {}

const MAX_REPEAT = 100;
const WORD = /[\p{L}\p{N}\p{M}_]/u;
export const isWordChar = (char: string | undefined): boolean => char !== undefined && WORD.test(char);

const KINDS: Readonly<Record<string, (char: string) => boolean>> = {
  d: (char) => /\p{Nd}/u.test(char),
  w: isWordChar,
  s: (char) => /\s/u.test(char),
};
const EDGES: Readonly<Record<string, Edge>> = { b: 'word', B: 'inner' };
const fail = (message: string): never => {
  throw new PatternError(message);
};

/** Reads what stands between the slashes. `fold` is what was done to the text: it is done to each character as well. */
export function parsePattern(source: string, fold: (text: string) => string): Syntax {
  const chars = [...source.normalize('NFC')];
  let at = 0;
  const peek = () => chars[at];
  const eat = (char: string): boolean => {
    if (chars[at] !== char) return false;
    at++;
    return true;
  };

  const either = (): Syntax => {
    const parts = [sequence()];
    while (eat('|')) parts.push(sequence());
    return parts.length === 1 ? (parts[0] as Syntax) : { is: 'either', parts };
  };
  const sequence = (): Syntax => {
    const parts: Syntax[] = [];
    while (at < chars.length && peek() !== '|' && peek() !== ')') parts.push(repeated(atom()));
    return parts.length > 0 ? { is: 'seq', parts } : fail('a bracket or an alternative is empty; use ?');
  };
  const repeated = (part: Syntax): Syntax => {
    const bounds = repetition();
    if (bounds === null) return part;
    if (part.is === 'edge') fail('an edge cannot be repeated');
    eat('?');
    if (repetition() !== null) fail('a repetition cannot be repeated; use brackets');
    return { is: 'repeat', part, min: bounds[0], max: bounds[1] };
  };
  const repetition = (): readonly [min: number, max: number | null] | null => {
    if (eat('*')) return [0, null];
    if (eat('+')) return [1, null];
    if (eat('?')) return [0, 1];
    const counted = /^\{(\d{1,3})(,(\d{1,3})?)?\}/.exec(chars.slice(at, at + 9).join(''));
    if (counted === null) return peek() === '{' ? fail('expected {2}, {2,} or {2,5}; write \\{ for the sign') : null;
    at += counted[0].length;
    const min = Number(counted[1]);
    const max = counted[2] === undefined ? min : counted[3] === undefined ? null : Number(counted[3]);
    if (Math.max(min, max ?? 0) > MAX_REPEAT) fail(`a repetition counts to ${MAX_REPEAT} at most`);
    if (max !== null && max < min) fail('a repetition counts upwards');
    if (max === 0) fail('what is repeated 0 times can be left out');
    return [min, max];
  };
  const atom = (): Syntax => {
    const char = chars[at++] as string;
    if (char === '.') return { is: 'char', test: () => true };
    if (char === '^') return { is: 'edge', edge: 'start' };
    if (char === '$') return { is: 'edge', edge: 'end' };
    if (char === '(') return group();
    if (char === '[') return set();
    if (char === '\\') return escaped();
    return '*+?{'.includes(char) ? fail(`nothing to repeat before ${char}`) : literal(char);
  };
  const group = (): Syntax => {
    if (eat('?') && !eat(':')) fail('only (…) and (?:…) are understood');
    const inner = either();
    return eat(')') ? inner : fail('a bracket is not closed');
  };
  const escaped = (): Syntax => {
    const char = chars[at++] ?? fail('it ends in a backslash');
    const edge = EDGES[char];
    return edge === undefined ? { is: 'char', test: kind(char) ?? sameAs(sign(char)) } : { is: 'edge', edge };
  };
  const set = (): Syntax => {
    const negated = eat('^');
    const tests: ((char: string) => boolean)[] = [];
    while (!eat(']')) tests.push(member());
    if (tests.length === 0) fail('a set is empty');
    return { is: 'char', test: (char) => tests.some((test) => test(char)) !== negated };
  };
  const member = (): ((char: string) => boolean) => {
    const char = chars[at++] ?? fail('a set is not closed');
    const known = char === '\\' ? kind(chars[at] ?? '') : null;
    if (known !== null) {
      at++;
      return known;
    }
    const from = single(char === '\\' ? sign(chars[at++] ?? '') : char);
    if (peek() !== '-' || chars[at + 1] === ']' || chars[at + 1] === undefined) return sameAs(from);
    at++;
    const last = chars[at++] as string;
    const to = single(last === '\\' ? sign(chars[at++] ?? '') : last);
    if (to < from) fail('a range in a set goes upwards');
    return (one) => one >= from && one <= to;
  };
  const literal = (char: string): Syntax => {
    const parts = [...fold(char)].map((one) => ({ is: 'char', test: sameAs(one) }) as const);
    return parts.length > 0 ? { is: 'seq', parts } : fail('a character that cannot be seen is never in the text');
  };
  const single = (char: string): string => {
    const folded = [...fold(char)];
    return folded.length === 1 ? (folded[0] as string) : fail(`${char} cannot stand in a set`);
  };

  const syntax = either();
  return at < chars.length ? fail('a bracket is closed that was not opened') : syntax;
}

const sameAs = (char: string) => (other: string) => other === char;

/** \d \w \s, and what they are not. */
function kind(char: string): ((char: string) => boolean) | null {
  const test = KINDS[char.toLowerCase()];
  if (test === undefined) return null;
  return char === char.toLowerCase() ? test : (other) => !test(other);
}

/** A sign that stands for itself behind a backslash. */
const sign = (char: string): string =>
  /^[^\p{L}\p{N}\p{M}\s]$/u.test(char) ? char : fail(`\\${char} is not understood`);

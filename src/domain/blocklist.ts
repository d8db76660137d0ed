// What a prompt may not contain. An entry is a word or phrase, found only as whole words, or a pattern `/…/i`. Case,
// accents, width, invisible characters and the way words are joined make no difference, and no entry can make the search
// slow: patterns are matched in linear time (pattern.ts).

import { compilePattern, PatternError } from './pattern.ts';
import { isWordChar } from './pattern-syntax.ts';

export const MAX_ENTRIES = 1000;
export const MAX_ENTRY_CHARS = 200;
/** Steps of all patterns of a list together: what one character of a prompt may cost. */
const MAX_LIST_STEPS = 2000;

export interface Hit {
  /** As it stands in the list. */
  readonly entry: string;
  /** What of the prompt it was, in the form in which it is compared. */
  readonly found: string;
}

export interface Blocklist {
  /** The first entry that the prompt contains, in the order of the list. */
  hit(prompt: string): Hit | null;
}

/** An entry that cannot be used, and why. `index` is its place in the list. */
export class BlocklistError extends Error {
  readonly index: number;
  constructor(index: number, message: string) {
    super(message);
    this.name = 'BlocklistError';
    this.index = index;
  }
}

/** A prompt in the forms in which entries look for themselves. */
interface Text {
  readonly chars: readonly string[];
  /** Words parted by single spaces. */
  readonly words: string;
}

/** Throws BlocklistError for the first entry that cannot be used. */
export function createBlocklist(entries: readonly string[]): Blocklist {
  if (entries.length > MAX_ENTRIES) throw new BlocklistError(MAX_ENTRIES, `expected at most ${MAX_ENTRIES} entries`);
  let steps = 0;
  const searches = entries.map((entry, index) => {
    try {
      const search = searchFor(entry);
      steps += search.steps;
      if (steps > MAX_LIST_STEPS) throw new PatternError('the patterns of the list are too large together');
      return { entry, find: search.find };
    } catch (error) {
      throw error instanceof PatternError
        ? new BlocklistError(index, `expected another entry: ${error.message}`)
        : error;
    }
  });
  return {
    hit(prompt) {
      if (searches.length === 0) return null;
      const text = textOf(prompt);
      for (const { entry, find } of searches) {
        const found = find(text);
        if (found !== null) return { entry, found };
      }
      return null;
    },
  };
}

interface Search {
  readonly steps: number;
  find(text: Text): string | null;
}

function searchFor(entry: string): Search {
  if (entry.length > MAX_ENTRY_CHARS) throw new PatternError(`it is longer than ${MAX_ENTRY_CHARS} characters`);
  const [, source] = /^\/(.+)\/i$/su.exec(entry.trim()) ?? [];
  if (source !== undefined) {
    const { steps, find } = compilePattern(source, fold);
    return { steps, find: ({ chars }) => find(chars) };
  }
  if (/^\/.+\/[a-z]*$/su.test(entry.trim())) throw new PatternError('a pattern is written /…/i');
  const term = wordsOf(fold(entry));
  if (term === '') throw new PatternError('it is empty');
  return { steps: 0, find: ({ words }) => (contains(words, term) ? term : null) };
}

function textOf(prompt: string): Text {
  const folded = fold(prompt);
  return { chars: [...folded], words: wordsOf(folded) };
}

/** Letters whose stroke or bar is no accent to Unicode. */
const BARRED: Readonly<Record<string, string>> = { ø: 'o', ł: 'l', đ: 'd', ħ: 'h', ŧ: 't', ς: 'σ' };

/** Without case, accents, width and what cannot be seen. */
function fold(text: string): string {
  return text
    .normalize('NFKD')
    .replace(/[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]|\p{Default_Ignorable_Code_Point}/gu, '')
    .toUpperCase()
    .toLowerCase()
    .normalize('NFKD')
    .replace(/[\u0300-\u036f]/gu, '')
    .replace(/[øłđħŧς]/gu, (char) => BARRED[char] ?? char)
    .normalize('NFC');
}

/** However words are joined, by spaces, dashes or underscores, it is one space. */
const wordsOf = (folded: string): string => folded.replace(/[\s\p{Pd}_]+/gu, ' ').trim();

/** Scripts that do not part their words: there, a term is found inside of a run of letters. */
const UNPARTED = /[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}\p{scx=Thai}\p{scx=Lao}\p{scx=Khmr}\p{scx=Mymr}]/u;
const parts = (char: string | undefined): boolean => isWordChar(char) && !UNPARTED.test(char ?? '');

function contains(words: string, term: string): boolean {
  const [first, last] = [[...term][0], [...term].at(-1)];
  for (let at = words.indexOf(term); at >= 0; at = words.indexOf(term, at + 1)) {
    const before = [...words.slice(Math.max(0, at - 2), at)].at(-1);
    const after = [...words.slice(at + term.length, at + term.length + 2)][0];
    if (!(parts(before) && parts(first)) && !(parts(after) && parts(last))) return true;
  }
  return false;
}

// Answers as people see them: aligned columns that fit the terminal, or the one JSON document that programs read.

import { stripVTControlCharacters } from 'node:util';
import { harmless, wrapped } from './words.ts';

const GAP = '  ';

/** Columns that are all numbers stand to the right. The last column is cut where the terminal ends, never in a file. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, i) => Math.max(...[title, ...rows.map((row) => row[i] ?? '')].map(widthOf)));
  const right = head.map((_, i) => rows.length > 0 && rows.every((row) => /^-?[\d.,]*$/.test(row[i] ?? '')));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => pad(harmless(cell), widths[i] ?? 0, right[i] ?? false))
      .join(GAP)
      .trimEnd();
  return `${[head, ...rows].map((cells) => clipped(line(cells))).join('\n')}\n`;
}

/** `name  value` lines, wrapped where a terminal ends; what is null is left out. */
export function facts(pairs: readonly (readonly [name: string, value: string | null])[]): string {
  const known = pairs.filter((pair): pair is readonly [string, string] => pair[1] !== null);
  const widest = Math.max(0, ...known.map(([name]) => name.length));
  const indent = ' '.repeat(widest + GAP.length);
  return known.map(([name, value]) => `${name.padEnd(widest)}${GAP}${wrapped(harmless(value), indent)}\n`).join('');
}

/** What a command answers: `document` with --json, else `text`. Standard output carries nothing else. */
export function answer({ json = false }: { readonly json?: boolean }, document: unknown, text: () => string): void {
  process.stdout.write(json ? `${JSON.stringify(document, null, 2)}\n` : text());
}

/** Said beside the answer, so that the answer can be piped on. Indented lines are to be copied and stay whole. */
export function note(text: string): void {
  const lines = text.split('\n').map(harmless);
  const said = lines.map((line) => (line.startsWith('  ') ? line : wrapped(line, '', process.stderr)));
  process.stderr.write(`${said.join('\n')}\n`);
}

const WIDE = /\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}|\p{Emoji_Presentation}/u;

/** Terminal cells: ideographs and emoji take two, marks none. */
export function widthOf(text: string): number {
  let cells = 0;
  for (const letter of stripVTControlCharacters(text)) cells += WIDE.test(letter) ? 2 : /\p{M}/u.test(letter) ? 0 : 1;
  return cells;
}

function pad(cell: string, width: number, right: boolean): string {
  const fill = ' '.repeat(Math.max(0, width - widthOf(cell)));
  return right ? fill + cell : cell + fill;
}

function clipped(line: string): string {
  const { isTTY, columns } = process.stdout;
  if (!isTTY || !columns || widthOf(line) <= columns) return line;
  let [kept, cells] = ['', 0];
  for (const part of line.split(ESCAPES)) {
    if (part.startsWith('\u001b')) kept += part;
    else
      for (const letter of part) {
        cells += widthOf(letter);
        if (cells < columns) kept += letter;
      }
  }
  return `${kept}…`;
}

/** Colour sequences, kept whole when a line is cut. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: it looks for exactly these
const ESCAPES = /(\u001b\[[\d;]*m)/;

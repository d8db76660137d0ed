// What a batch's commands say, fitted to the terminal it is said on: sentences broken between words, commands whole.

import { note } from './table.ts';
import { wrapped } from './words.ts';

/** Long lines broken between words where the terminal ends; commands stay whole, so that they can be copied. */
export const fitted = (text: string, stream: NodeJS.WriteStream): string =>
  text
    .split('\n')
    .map((line) => {
      const [indent = ''] = /^ */.exec(line) ?? [];
      if (line.startsWith('darkroom ', indent.length)) return line;
      return indent + wrapped(line.slice(indent.length), `${indent}  `, stream);
    })
    .join('\n');

/** Beside the answer. */
export const say = (text: string): void => note(fitted(text, process.stderr));

/** A sentence, and the command to copy on a line of its own. */
export const advise = (why: string, command: string): void => say(`${why}\n  ${command}`);

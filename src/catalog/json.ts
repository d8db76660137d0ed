// JSON files that people export and edit: parsed with the place of a mistake as file, line and column. V8 tells the
// position of some mistakes only; the longest beginning that could still become JSON ends at every one of them.

import { YamlError } from '../system/system.ts';

/** Throws YamlError `FILE:LINE:COLUMN: expected valid JSON`. */
export function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    const at = mistakeAt(text);
    const before = text.slice(0, at).split('\n');
    const found = at < text.length ? `found ${JSON.stringify(text[at])}` : 'but it ends here';
    throw new YamlError([
      `${file}:${before.length}:${(before.at(-1) ?? '').length + 1}: expected valid JSON, ${found}`,
    ]);
  }
}

function mistakeAt(text: string): number {
  let good = 0;
  let bad = text.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (couldGoOn(text.slice(0, middle))) good = middle;
    else bad = middle;
  }
  return good;
}

/** Could more text make this JSON? */
function couldGoOn(beginning: string): boolean {
  try {
    JSON.parse(beginning);
    return true;
  } catch (error) {
    const reason = error instanceof Error ? error.message : '';
    const position = /at position (\d+)/.exec(reason)?.[1];
    return position === undefined ? reason.includes('end of JSON input') : Number(position) >= beginning.length;
  }
}

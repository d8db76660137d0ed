// GIF at block level: is it there to its end? The decoder shows what it has of a cut animation and says nothing, so
// its blocks are walked to the trailer. Layout: GIF89a, §§ 17–27.

import { Refusal } from './verdict.ts';

const EXTENSION = 0x21;
const IMAGE = 0x2c;
const TRAILER = 0x3b;

/** Bytes of the colour table that a packed field announces. */
const tableSize = (packed: number) => (packed & 0x80 ? 3 << ((packed & 7) + 1) : 0);

/** Refuses a GIF that is not whole. Reading beyond the end gives undefined, which no block begins with. */
export function checkGif(gif: Buffer): void {
  const skipData = (from: number) => {
    let at = from;
    while (gif[at]) at += 1 + (gif[at] as number);
    return at + 1;
  };
  let at = 13 + tableSize(gif[10] ?? 0);
  for (;;) {
    const block = gif[at];
    if (block === TRAILER) return;
    if (block === EXTENSION) at = skipData(at + 2);
    else if (block === IMAGE) at = skipData(at + 11 + tableSize(gif[at + 9] ?? 0));
    else throw new Refusal('broken', 'is a GIF that stops before its end');
  }
}

// The sizes OpenAI's models make: three for the older, any within bounds since the second generation. Servers that imitate
// OpenAI make what their own model can, so they are asked for what was wanted.

import type { Params } from '../../domain/params.ts';
import { nearest, notThatShape, type Size, shapeDistance, sizeOf } from '../hosted/asked.ts';

const FIXED: readonly Size[] = [
  { width: 1024, height: 1024 },
  { width: 1536, height: 1024 },
  { width: 1024, height: 1536 },
];
const FREE = /^gpt-image-([2-9]|\d\d)/i;
const GRID = 16;
const LONGEST_SIDE = 3840;
const MOST_PIXELS = 3840 * 2160;
const LONGEST_RATIO = 3;

/** `WIDTHxHEIGHT`; null: as the server likes. `own`: it is OpenAI itself. */
export function spellSize(
  remote: string,
  params: Params,
  own: boolean,
): { readonly size: string | null; readonly warnings: readonly string[] } {
  const asked = sizeOf(params);
  if (asked === null) return { size: null, warnings: [] };
  const made = !own ? asked : FREE.test(remote) ? within(asked) : nearest(FIXED, (one) => shapeDistance(asked, one));
  const size = `${made.width}x${made.height}`;
  const same = made.width === asked.width && made.height === asked.height;
  return { size, warnings: same ? [] : [notThatShape(asked, size)] };
}

function within({ width, height }: Size): Size {
  const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height), Math.sqrt(MOST_PIXELS / (width * height)));
  const round = scale < 1 ? Math.floor : Math.round;
  const onGrid = (side: number) => Math.max(GRID, round((side * scale) / GRID) * GRID);
  const [w, h] = [onGrid(width), onGrid(height)];
  return { width: Math.min(w, LONGEST_RATIO * h), height: Math.min(h, LONGEST_RATIO * w) };
}

// The WebSocket's words: what a client asks for on the handshake, the frames it gets, the codes it is closed with.
// A cursor is opaque to clients; inside it is the position in the event log.

import { z } from 'zod';
import { ANNOUNCED } from '../domain/event.ts';
import type { Cursor } from '../domain/units.ts';
import { ErrorBody } from './errors.ts';
import { GenerationBody, ProgressBody } from './generations.ts';
import { commaList } from './lists.ts';

export const KEY_PROTOCOL = 'darkroom.key.';

/** Close codes of our own. */
export const CLOSE = { badCursor: 4400, keyGone: 4401, tooSlow: 4408 } as const;

export const EventsQuery = z
  .strictObject({
    ids: commaList(
      z.string().regex(/^gen_[0-9A-HJKMNP-TV-Z]{26}$/),
      250,
      'expected at most 250 ids (gen_…) with commas between',
    ).describe('Generations to watch.'),
    batch_id: z.string().min(1).max(64).optional(),
    cursor: z.string().min(1).max(100).optional().describe('Of the last frame seen; without it, live from now.'),
    progress: z.enum(['0', '1']).default('1'),
  })
  .refine((q) => q.ids === undefined || q.batch_id === undefined, {
    path: ['batch_id'],
    message: 'expected ids or batch_id, not both',
  });

type Announced = NonNullable<(typeof ANNOUNCED)[keyof typeof ANNOUNCED]>;
const announced = Object.values(ANNOUNCED).filter((name): name is Announced => name !== null);
const names = announced.map((name) => `generation.${name}` as const) as [
  `generation.${Announced}`,
  ...`generation.${Announced}`[],
];

export const ReadyFrame = z.object({ type: z.literal('ready'), cursor: z.string() });
export const EventFrame = z.object({
  type: z.literal('event'),
  event: z.enum(names),
  cursor: z.string(),
  generation: GenerationBody,
});
export const ProgressFrame = z.object({ type: z.literal('progress'), id: z.string(), progress: ProgressBody });
export const ErrorFrame = ErrorBody.extend({ type: z.literal('error') });
export const Frame = z
  .discriminatedUnion('type', [ReadyFrame, EventFrame, ProgressFrame, ErrorFrame])
  .meta({ id: 'Frame' });
export type Frame = z.infer<typeof Frame>;

export const renderCursor = (cursor: Cursor): string => `c${cursor.toString(36)}`;

/** Null: not one of ours. */
export function parseCursor(text: string): Cursor | null {
  const cursor = /^c[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text.slice(1), 36) : Number.NaN;
  return Number.isSafeInteger(cursor) ? cursor : null;
}

// The WebSocket's words: what a client asks for on the handshake, the frames it gets, the codes it is closed with.
// A cursor is opaque to clients; inside it is the position in the event log.

import { z } from 'zod';
import { BATCH_ANNOUNCED } from '../domain/batch.ts';
import { ANNOUNCED } from '../domain/event.ts';
import type { Cursor } from '../domain/units.ts';
import { BatchBody } from './batches.ts';
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

type BatchAnnounced = NonNullable<(typeof BATCH_ANNOUNCED)[keyof typeof BATCH_ANNOUNCED]>;
type Announced = NonNullable<(typeof ANNOUNCED)[keyof typeof ANNOUNCED]>;
const announced = Object.values(ANNOUNCED).filter((name): name is Announced => name !== null);
const names = announced.map((name) => `generation.${name}` as const) as [
  `generation.${Announced}`,
  ...`generation.${Announced}`[],
];

const batchNames = [...new Set(Object.values(BATCH_ANNOUNCED))].flatMap((name) =>
  name === null ? [] : [`batch.${name}` as const],
) as [`batch.${BatchAnnounced}`, ...`batch.${BatchAnnounced}`[]];

export const ReadyFrame = z.object({ type: z.literal('ready'), cursor: z.string() });
export const BatchFrame = z.object({
  type: z.literal('event'),
  event: z.enum(batchNames),
  cursor: z.string(),
  batch: BatchBody,
});
export const EventFrame = z.object({
  type: z.literal('event'),
  event: z.enum(names),
  cursor: z.string(),
  generation: GenerationBody,
});
export const ProgressFrame = z.object({ type: z.literal('progress'), id: z.string(), progress: ProgressBody });
export const ErrorFrame = ErrorBody.extend({ type: z.literal('error') });
export const Frame = z.union([ReadyFrame, EventFrame, BatchFrame, ProgressFrame, ErrorFrame]).meta({ id: 'Frame' });
export type Frame = z.infer<typeof Frame>;

export const renderCursor = (cursor: Cursor): string => `c${cursor.toString(36)}`;

/** Null: not one of ours. */
export function parseCursor(text: string): Cursor | null {
  const cursor = /^c[0-9a-z]{1,11}$/.test(text) ? Number.parseInt(text.slice(1), 36) : Number.NaN;
  return Number.isSafeInteger(cursor) ? cursor : null;
}

// Frames as bytes. An event is stringified once for all sockets it goes to; a few hundred recent ones are kept, since
// live sockets ask for the same one at nearly the same moment.

import { renderBatch } from '../../contract/batches.ts';
import { renderError } from '../../contract/errors.ts';
import { renderGeneration } from '../../contract/render.ts';
import { type Frame, renderCursor } from '../../contract/socket.ts';
import { BATCH_ANNOUNCED } from '../../domain/batch.ts';
import { ANNOUNCED } from '../../domain/event.ts';
import type { Failure } from '../../domain/failure.ts';
import type { Gateway, Watched } from '../../engine/gateway.ts';

const KEPT = 256;

export interface Frames {
  /** Null: not announced. */
  of(item: Watched, baseUrl: string): Buffer | null;
}

const bytes = (frame: Frame): Buffer => Buffer.from(JSON.stringify(frame));

export function createFrames(gateway: Pick<Gateway, 'view'>): Frames {
  const recent = new Map<string, Buffer>();

  const event = (item: Extract<Watched, { type: 'event' }>, baseUrl: string): Buffer | null => {
    const { stored, generation } = item;
    const name = ANNOUNCED[stored.event.type];
    if (name === null) return null;
    const key = `${stored.cursor} ${baseUrl}`;
    const known = recent.get(key);
    if (known) return known;
    const made = bytes({
      type: 'event',
      event: `generation.${name}`,
      cursor: renderCursor(stored.cursor),
      generation: renderGeneration(generation, gateway.view(generation, baseUrl)),
    });
    const oldest = recent.size >= KEPT ? recent.keys().next().value : undefined;
    if (oldest !== undefined) recent.delete(oldest);
    recent.set(key, made);
    return made;
  };

  return {
    of(item, baseUrl) {
      switch (item.type) {
        case 'event':
          return event(item, baseUrl);
        case 'batch': {
          const { event, batch, tally, cursor } = item.stored;
          const name = BATCH_ANNOUNCED[event.type];
          return name === null
            ? null
            : bytes({
                type: 'event',
                event: `batch.${name}`,
                cursor: renderCursor(cursor),
                batch: renderBatch(batch, tally, null),
              });
        }
        case 'progress':
          return bytes({
            type: 'progress',
            id: item.id,
            progress: { fraction: item.fraction, message: item.message },
          });
        case 'ready':
          return bytes({ type: 'ready', cursor: renderCursor(item.cursor) });
      }
    },
  };
}

export const errorFrame = (failure: Failure): Buffer => bytes({ type: 'error', ...renderError(failure) });

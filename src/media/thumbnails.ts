// Thumbnails are promised, not waited for: a result is done as soon as it is stored, its thumbnail is made in a quiet
// moment, so that it takes nothing from the results that follow, and whoever asks earlier (or after a crash, or a full backlog) has it made at
// once. It can always be made again from its picture, so nothing about it has to be remembered.

import { join } from 'node:path';
import type { Clock, Log } from '../system/system.ts';
import { type BlobStore, type Blobs, pictureKey } from './blobs.ts';
import type { Pool } from './pool.ts';
import type { Staging } from './staging.ts';

/** Beyond it the oldest are left to be made when they are asked for. */
const MAX_BACKLOG = 2_000;
/** From this backlog on they are made without waiting for quiet. */
const LONG_BACKLOG = 200;
/** Quiet: no result was stored for so long. */
const QUIET_MS = 150;

export interface Thumbnails {
  /** The store in which thumbnails are always there. */
  readonly blobs: Blobs;
  /** Makes it when a thread is to spare. */
  promise(key: string): void;
  close(): void;
}

export interface ThumbnailOptions {
  readonly blobs: BlobStore;
  readonly pool: Pool;
  readonly staging: Staging;
  readonly clock: Pick<Clock, 'timer'>;
  readonly log: Log;
}

export function createThumbnails({ blobs, pool, staging, clock, log }: ThumbnailOptions): Thumbnails {
  const making = new Map<string, Promise<void>>();
  const backlog = new Set<string>();
  const closing = new AbortController();
  let background = 0;
  let noise: Disposable | null = null;

  const make = async (key: string, picture: string) => {
    if ((await blobs.stat(key)) !== null || (await blobs.stat(picture)) === null) return;
    await using box = await staging.open();
    const to = join(box.path, 'thumbnail');
    const verdict = await pool.run('makeThumbnail', { path: await blobs.path(picture), to }, closing.signal);
    if (!verdict.ok) throw new Error(`the thumbnail could not be made: ${verdict.message}`);
    await blobs.put([{ key, from: to }]);
  };
  /** After it the thumbnail is there, if its picture is. Other keys pass. */
  const ensure = async (key: string) => {
    const picture = pictureKey(key);
    if (picture === null) return;
    backlog.delete(key);
    const begun = making.get(key) ?? make(key, picture).finally(() => making.delete(key));
    making.set(key, begun);
    await begun;
  };
  const pump = () => {
    const most = Math.max(1, pool.workers - 1);
    for (const key of backlog) {
      if (noise !== null && backlog.size <= LONG_BACKLOG) return;
      if (background >= most || !pool.idle || closing.signal.aborted) return;
      background++;
      ensure(key)
        .catch((error: unknown) => closing.signal.aborted || log.warn({ err: error }, 'a thumbnail failed'))
        .finally(() => {
          background--;
          pump();
        });
    }
  };
  pool.onIdle(pump);
  /** A result was stored: the others of its burst go before its thumbnail. */
  const hush = () => {
    noise?.[Symbol.dispose]();
    noise = clock.timer(QUIET_MS, () => {
      noise = null;
      pump();
    });
  };

  return {
    promise(key) {
      backlog.delete(key);
      backlog.add(key);
      if (backlog.size > MAX_BACKLOG) backlog.delete(backlog.values().next().value as string);
      hush();
      pump();
    },
    blobs: {
      async stat(key) {
        await ensure(key);
        return blobs.stat(key);
      },
      async open(key, range) {
        await ensure(key);
        return blobs.open(key, range);
      },
      async path(key) {
        await ensure(key);
        return blobs.path(key);
      },
      remove: (key) => blobs.remove(key),
      usedBytes: () => blobs.usedBytes(),
    },
    close() {
      noise?.[Symbol.dispose]();
      closing.abort(new Error('media is closing'));
    },
  };
}

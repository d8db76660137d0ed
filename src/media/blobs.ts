// Where blobs live: local files under `blobs/ab/cd/<sha256>.<ext>`, never changed once there. A file appears by rename
// after it and its directory entry are on disk, so a key that was given out stays good through a power loss. Equal
// content is one file: who stores it again relies on a file that is being swept for another, so it is spared a while.

import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Readable } from 'node:stream';
import { GatewayError } from '../domain/failure.ts';
import type { Bytes, Millis } from '../domain/units.ts';
import type { Clock } from '../system/system.ts';
import { type Extension, FORMATS } from './formats.ts';

export interface BlobStat {
  readonly bytes: Bytes;
  readonly mediaType: string;
  /** Names the content: an entity tag without its quotes. The sha256, for files that were ingested. */
  readonly etag: string;
}

/** Where blobs live. Local files now; an S3-compatible store is the same interface. Keys are `<sha256>.<ext>`. */
export interface Blobs {
  stat(key: string): Promise<BlobStat | null>;
  /** `range`: inclusive byte offsets. Throws GatewayError('not_found'). */
  open(key: string, range?: { readonly start: number; readonly end: number }): Promise<Readable>;
  /** A local path of the blob for workers and uploads (fetched to scratch where the store is remote). Throws GatewayError('not_found'). */
  path(key: string): Promise<string>;
  /**
   * Removes the blob with its sidecar and thumbnail. Idempotent. False: it was left where it is, because the same content
   * was stored again within the last ten minutes and may not be on record yet; ask again later, if nobody refers to it.
   */
  remove(key: string): Promise<boolean>;
  /** Sum of all blobs, from a running count. */
  usedBytes(): Promise<Bytes>;
}

/** The side of the store that only this room sees: how a finished file gets in. */
export interface BlobStore extends Blobs {
  /** Moves finished, fsynced files into place, in order. A file that is already there stays. */
  put(files: readonly { readonly key: string; readonly from: string }[]): Promise<void>;
}

const KEY = /^[0-9a-f]{64}\.[a-z0-9]{2,4}(\.thumb\.webp)?$/;
const THUMBNAIL = '.thumb.webp';
/** From storing a file to its record: other files of the same generation may have to be fetched in between. */
const SPARED_MS = 10 * 60_000;

/** A thumbnail's key is made from its picture's, so each can be found from the other. */
export const thumbnailKey = (key: string): string => `${key}${THUMBNAIL}`;
/** The picture that a thumbnail's key belongs to; null for other keys. */
export const pictureKey = (key: string): string | null =>
  key.endsWith(THUMBNAIL) ? key.slice(0, -THUMBNAIL.length) : null;
export const sidecarKey = (key: string): string => `${key.slice(0, 64)}.json`;

const isMissing = (error: unknown) => (error as NodeJS.ErrnoException).code === 'ENOENT';
const missing = () => new GatewayError('not_found', 'The file is not there; it may have been swept.');

export async function openBlobs(directory: string, clock: Pick<Clock, 'monotonic'>): Promise<BlobStore> {
  await mkdir(directory, { recursive: true });
  const pathOf = (key: string) => join(directory, key.slice(0, 2), key.slice(2, 4), key);
  const inTurn = createTurns();
  const spared = createSpared(clock);
  const count = startCount(directory);

  const size = async (key: string): Promise<Bytes | null> => {
    if (!KEY.test(key) && !/^[0-9a-f]{64}\.json$/.test(key)) return null;
    try {
      return (await stat(pathOf(key))).size;
    } catch (error) {
      if (isMissing(error)) return null;
      throw error;
    }
  };
  const place = (key: string, from: string) =>
    inTurn(key, async () => {
      if ((await size(key)) !== null) return spared.add(key);
      count.arrived(key, (await stat(from)).size);
      await rename(from, pathOf(key));
    });
  const drop = (key: string) =>
    inTurn(key, async () => {
      if (spared.has(key)) return false;
      const bytes = await size(key);
      if (bytes === null) return true;
      await rm(pathOf(key), { force: true });
      count.left(bytes);
      return true;
    });

  return {
    async stat(key) {
      const bytes = await size(key);
      return bytes === null ? null : { bytes, mediaType: mediaTypeOf(key), etag: key.replace(/\.[a-z0-9]+$/, '') };
    },
    async open(key, range) {
      if (!KEY.test(key)) throw missing();
      const file = await open(pathOf(key)).catch((error: unknown) => {
        throw isMissing(error) ? missing() : error;
      });
      return file.createReadStream({ ...range, highWaterMark: 256 * 1024 });
    },
    async path(key) {
      if ((await size(key)) === null) throw missing();
      return pathOf(key);
    },
    async put(files) {
      const changed = new Set<string>();
      for (const { key, from } of files) {
        const home = dirname(pathOf(key));
        const made = await mkdir(home, { recursive: true });
        await place(key, from);
        for (const path of made === undefined ? [home] : [home, dirname(home), directory]) changed.add(path);
      }
      await Promise.all([...changed].map(syncDirectory));
    },
    async remove(key) {
      await count.scanned;
      const belongings = pictureKey(key) === null ? [thumbnailKey(key), sidecarKey(key)] : [];
      if (!(await drop(key))) return false;
      for (const each of belongings) await drop(each);
      return true;
    },
    usedBytes: () => count.total(),
  };
}

const mediaTypeOf = (key: string): string => FORMATS[key.slice(key.lastIndexOf('.') + 1) as Extension].mediaType;

/** One after the other for one key, so that no file is found that is being removed. */
function createTurns() {
  const last = new Map<string, Promise<unknown>>();
  return <T>(key: string, work: () => Promise<T>): Promise<T> => {
    const mine = (last.get(key) ?? Promise.resolve()).then(work, work);
    last.set(key, mine);
    const over = () => {
      if (last.get(key) === mine) last.delete(key);
    };
    mine.then(over, over);
    return mine;
  };
}

/** Keys whose content was stored again a moment ago, oldest first. */
function createSpared(clock: Pick<Clock, 'monotonic'>) {
  const until = new Map<string, Millis>();
  return {
    add(key: string) {
      const now = clock.monotonic();
      until.delete(key);
      until.set(key, now + SPARED_MS);
      for (const [oldest, end] of until) {
        if (end > now) break;
        until.delete(oldest);
      }
    },
    has: (key: string) => (until.get(key) ?? Number.NEGATIVE_INFINITY) > clock.monotonic(),
  };
}

async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, 'r');
  await directory.sync();
}

/**
 * The running count: one scan in the background, arrivals and departures added as they happen. Files that arrive while
 * the scan runs are remembered by name, so it does not count them again; removals wait for its end.
 */
function startCount(directory: string) {
  const fresh = new Set<string>();
  let bytes = 0;
  let scanning = true;
  const scan = async () => {
    for (const outer of await readdir(directory)) {
      for (const inner of await readdir(join(directory, outer))) {
        const home = join(directory, outer, inner);
        for (const name of await readdir(home)) {
          const { size } = await stat(join(home, name));
          if (!fresh.has(name)) bytes += size;
        }
      }
    }
  };
  const scanned = scan().finally(() => {
    scanning = false;
    fresh.clear();
  });
  scanned.catch(() => undefined);
  return {
    scanned,
    arrived(name: string, size: Bytes) {
      if (scanning) fresh.add(name);
      bytes += size;
    },
    left(size: Bytes) {
      bytes -= size;
    },
    async total() {
      await scanned;
      return bytes;
    },
  };
}

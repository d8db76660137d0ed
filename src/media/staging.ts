// Where files are while they are not yet ours: one directory per piece of work, gone with its owner whatever happened.
// A stream is written there in bounds; a late writer finds its directory gone and can leave nothing behind.

import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { GatewayError } from '../domain/failure.ts';
import type { Bytes } from '../domain/units.ts';
import type { Random } from '../system/system.ts';

/** What goes wrong on our side of a stream; all else is the sender's. */
const DISK = new Set(['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS', 'EIO', 'EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOENT']);
/** Written in few large pieces rather than one per network packet. */
const WRITE_STEP = 1024 * 1024;

export interface Box extends AsyncDisposable {
  readonly path: string;
}

export interface Staging {
  open(): Promise<Box>;
  /** Removes what a crashed process left. Only while nothing is in work. */
  clear(): Promise<void>;
}

export async function openStaging(directory: string, random: Random): Promise<Staging> {
  await mkdir(directory, { recursive: true });
  return {
    async open() {
      const path = join(directory, random.uuid());
      await mkdir(path);
      return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
    },
    async clear() {
      for (const name of await readdir(directory)) await rm(join(directory, name), { recursive: true, force: true });
    },
  };
}

/**
 * Writes a stream to a new file. An abort is not held up by a source that does not let go. Throws GatewayError('too_large') beyond `maxBytes`, `internal` when the disk fails, the
 * signal's reason when aborted, otherwise what broke the stream.
 */
export async function writeStream(bytes: Readable, path: string, maxBytes: Bytes, signal: AbortSignal): Promise<void> {
  let size = 0;
  const bound = new Transform({
    readableHighWaterMark: WRITE_STEP,
    transform(chunk: Buffer, _encoding, done) {
      size += chunk.length;
      if (size <= maxBytes) return done(null, chunk);
      done(new GatewayError('too_large', `The file is larger than ${Math.floor(maxBytes / 1024 / 1024)} MB.`));
    },
  });
  const file = createWriteStream(path, { flags: 'wx', highWaterMark: WRITE_STEP });
  const abort = Promise.withResolvers<never>();
  const onAbort = () => abort.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    signal.throwIfAborted();
    await Promise.race([pipeline(bytes, bound, file, { signal }), abort.promise]);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (!DISK.has((error as NodeJS.ErrnoException).code ?? '')) throw error;
    throw new GatewayError('internal', 'The gateway could not store the file.', { cause: error });
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

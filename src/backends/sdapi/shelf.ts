// Where pictures lie between the node's answer and our store: files in the connection's scratch directory. They stay for
// a while after their run, since they are opened when media has time for them; what is past it goes when the next run
// puts something down, and everything goes at close.

import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { GatewayError } from '../../domain/failure.ts';
import type { Bytes, Millis } from '../../domain/units.ts';
import type { System } from '../../system/system.ts';
import type { RemoteFile } from '../backend.ts';
import { createSplitter, type Piece, pictureName } from './splitter.ts';
import { lost } from './wire.ts';

/** An answer taken apart: `body` has "picture:N" where a picture was. */
export interface Harvest {
  readonly body: unknown;
  picture(name: string): RemoteFile | undefined;
}

export interface Shelf {
  /** Reads an answer to its end, pictures into files. Throws GatewayError('node_lost') for a broken or unreadable one. */
  harvest(stream: Readable, signal: AbortSignal, drop?: ReadonlySet<string>): Promise<Harvest>;
  clear(): Promise<void>;
}

const PICTURE_KEYS: ReadonlySet<string> = new Set(['images', 'image', 'b64_json']);
const NOTHING: ReadonlySet<string> = new Set();
const KEEP_MS: Millis = 5 * 60_000;
const MAX_REST: Bytes = 8 * 1024 * 1024;
const MAX_PICTURES = 64;
/** Enough to recognise `data:image/png;base64,` in front. */
const OPENING = 64;

export function createShelf(scratch: string, { clock, random }: Pick<System, 'clock' | 'random'>): Shelf {
  const lying = new Map<string, Millis>();

  const sweep = async (before: Millis) => {
    const old = [...lying].filter(([, since]) => since <= before).map(([path]) => path);
    for (const path of old) lying.delete(path);
    await Promise.all(old.map((path) => rm(path, { force: true })));
  };

  return {
    async harvest(stream, signal, drop = NOTHING) {
      await sweep(clock.monotonic() - KEEP_MS);
      const splitter = createSplitter({ pictures: PICTURE_KEYS, drop, maxRestBytes: MAX_REST });
      const paths: string[] = [];
      await using sink = createSink(() => {
        if (paths.length >= MAX_PICTURES) throw new RangeError('the answer holds too many pictures');
        const path = join(scratch, `${random.uuid()}.picture`);
        lying.set(path, clock.monotonic());
        paths.push(path);
        return path;
      });
      try {
        for await (const chunk of stream as AsyncIterable<Buffer>) {
          signal.throwIfAborted();
          for (const piece of splitter.push(chunk)) await sink.take(piece);
        }
        const body: unknown = JSON.parse(splitter.rest());
        const files = new Map(paths.map((path, index) => [pictureName(index), fileOf(path, index)]));
        return { body, picture: (name) => files.get(name) };
      } catch (error) {
        signal.throwIfAborted();
        if (!(error instanceof SyntaxError || error instanceof RangeError)) throw lost(error);
        throw new GatewayError('node_lost', 'The node sent an answer that cannot be read.', { cause: error });
      }
    },
    clear: () => sweep(Number.POSITIVE_INFINITY),
  };
}

/** Decodes pieces into one file after the other. */
function createSink(nextPath: () => string) {
  let file: Awaited<ReturnType<typeof open>> | null = null;
  let pending = '';
  let opened = false;
  return {
    async take({ letters, last }: Piece) {
      file ??= await open(nextPath(), 'w', 0o600);
      pending += letters.includes('\\') ? letters.replaceAll('\\', '') : letters;
      if (!opened && !last && pending.length < OPENING) return;
      if (!opened && pending.startsWith('data:')) pending = pending.slice(pending.indexOf(',') + 1);
      opened = true;
      const whole = last ? pending.length : pending.length - (pending.length % 4);
      await file.writeFile(Buffer.from(pending.slice(0, whole), 'base64'));
      pending = pending.slice(whole);
      if (!last) return;
      await file.close();
      file = null;
      opened = false;
    },
    async [Symbol.asyncDispose]() {
      await file?.close();
    },
  };
}

const fileOf = (path: string, index: number): RemoteFile => ({
  name: `picture-${index}`,
  mediaType: null,
  async open() {
    const handle = await open(path).catch((error: unknown) => {
      throw new GatewayError('node_lost', 'The picture is no longer there.', { cause: error });
    });
    return handle.createReadStream();
  },
});

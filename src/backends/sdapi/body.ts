// Requests that carry pictures: JSON with base64 inside, streamed from the files so that a large input neither blocks
// the process nor is held in memory. The length is known beforehand, since small servers want no chunked requests.

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import type { Json } from '../../domain/units.ts';
import { type Body, json } from './wire.ts';

/** One key of the request whose value is a picture, or a list of one. */
export interface PictureField {
  readonly key: string;
  readonly path: string;
  readonly list: boolean;
}

/** Three bytes make four letters: a multiple of three leaves nothing over. */
const READ_BYTES = 3 * 64 * 1024;

export async function withPictures(
  fields: Readonly<Record<string, Json>>,
  pictures: readonly PictureField[],
): Promise<Body> {
  if (pictures.length === 0) return json(fields);
  const head = JSON.stringify(fields).slice(0, -1);
  const frames = pictures.map(({ key, path, list }) => ({
    path,
    before: `,${JSON.stringify(key)}:${list ? '["' : '"'}`,
    after: list ? '"]' : '"',
  }));
  const sizes = await Promise.all(
    frames.map(
      async ({ path, before, after }) => before.length + after.length + 4 * Math.ceil((await stat(path)).size / 3),
    ),
  );
  const bytes = Buffer.byteLength(head) + sizes.reduce((sum, size) => sum + size, 1);
  return { content: Readable.from(letters(head, frames)), bytes };
}

async function* letters(head: string, frames: readonly { path: string; before: string; after: string }[]) {
  yield Buffer.from(head);
  for (const { path, before, after } of frames) {
    yield Buffer.from(before);
    yield* base64Of(createReadStream(path, { highWaterMark: READ_BYTES }) as AsyncIterable<Buffer>);
    yield Buffer.from(after);
  }
  yield Buffer.from('}');
}

/** Base64 of bytes that come in chunks of any size, without padding in between. */
export async function* base64Of(chunks: AsyncIterable<Buffer> | Iterable<Buffer>): AsyncGenerator<Buffer, void, void> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of chunks) {
    const all = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    const whole = all.length - (all.length % 3);
    rest = all.subarray(whole);
    yield Buffer.from(all.toString('base64', 0, whole), 'latin1');
  }
  yield Buffer.from(rest.toString('base64'), 'latin1');
}

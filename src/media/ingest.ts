// A file's way in: stream to staging, one worker task that judges and finishes it, move into place. Results of nodes
// and inputs of callers go the same way and differ in what is done with them and whose fault a bad file is.

import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { type FailureCode, GatewayError } from '../domain/failure.ts';
import type { Kind } from '../domain/model.ts';
import type { InputRef, OutputOptions } from '../domain/params.ts';
import type { Bytes } from '../domain/units.ts';
import { HttpError } from '../system/system.ts';
import { type BlobStore, sidecarKey, thumbnailKey } from './blobs.ts';
import { FORMATS } from './formats.ts';
import { MAX_INPUT_BYTES } from './inputs.ts';
import type { Pool } from './pool.ts';
import type { Provenance } from './provenance.ts';
import { type Staging, writeStream } from './staging.ts';
import type { Staged } from './tasks.ts';
import type { Thumbnails } from './thumbnails.ts';
import type { Fault, Verdict } from './verdict.ts';

const MAX_RESULT_BYTES = 512 * 1024 * 1024;

export interface IngestOptions {
  readonly signal: AbortSignal;
  /** What the model makes; the bytes must be of that kind. `text`: the backend says that this one is text. */
  readonly expect: Kind | 'text';
  readonly output: OutputOptions;
  /** null: bytes stay exactly as they came. */
  readonly provenance: Provenance | null;
}

/** A result in our store. Keys are opaque to everyone but the blob store. */
export interface Ingested {
  readonly kind: Kind | 'text';
  readonly mediaType: string;
  readonly width: number | null;
  readonly height: number | null;
  readonly bytes: Bytes;
  readonly sha256: string;
  readonly blob: string;
  readonly original: string;
  readonly thumbnail: string | null;
}

export type Open = (signal: AbortSignal) => Promise<Readable>;

export interface Inward {
  readonly staging: Staging;
  readonly pool: Pool;
  readonly blobs: BlobStore;
  readonly thumbnails: Thumbnails;
}

/** Whose fault a verdict is: a node's file is tried elsewhere, a caller's is sent back. */
const NODE: Readonly<Record<Fault, FailureCode>> = {
  broken: 'node_lost',
  too_large: 'node_lost',
  wrong_kind: 'model_error',
  gateway: 'internal',
};
const CALLER: Readonly<Record<Fault, FailureCode>> = {
  broken: 'invalid_request',
  too_large: 'too_large',
  wrong_kind: 'invalid_request',
  gateway: 'internal',
};

function accepted<T>(verdict: Verdict<T>, blame: Readonly<Record<Fault, FailureCode>>, subject: string): T {
  if (verdict.ok) return verdict.value;
  const { fault, message } = verdict;
  if (fault === 'gateway') {
    throw new GatewayError('internal', 'The gateway could not store the file.', { cause: new Error(message) });
  }
  throw new GatewayError(blame[fault], `${subject} ${message}.`);
}

/** Stores a result. */
export async function ingest(
  { staging, pool, blobs, thumbnails }: Inward,
  open: Open,
  options: IngestOptions,
): Promise<Ingested> {
  const { signal, expect, output, provenance } = options;
  await using box = await staging.open();
  const path = join(box.path, 'download');
  await download(open, path, signal);
  const work = { path, box: box.path, expect, output, provenance };
  const result = accepted(await pool.run('ingest', work, signal), NODE, 'The file that the node sent');
  signal.throwIfAborted();
  const served = result.converted ?? result.original;
  await blobs.put([...filesOf(result.original), ...(result.converted === null ? [] : filesOf(result.converted))]);
  const thumbnail = result.hasThumbnail ? thumbnailKey(keyOf(result.original)) : null;
  if (thumbnail !== null) thumbnails.promise(thumbnail);
  return {
    kind: result.kind,
    mediaType: FORMATS[served.ext].mediaType,
    width: served.width,
    height: served.height,
    bytes: served.bytes,
    sha256: served.sha256,
    blob: keyOf(served),
    original: keyOf(result.original),
    thumbnail,
  };
}

async function download(open: Open, path: string, signal: AbortSignal): Promise<void> {
  try {
    await writeStream(await open(signal), path, MAX_RESULT_BYTES, signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof GatewayError) throw error;
    const tooLarge = error instanceof HttpError && error.kind === 'too_large';
    throw tooLarge
      ? new GatewayError('too_large', 'The file that the node sent is too large.', { cause: error })
      : new GatewayError('node_lost', 'The download of the result broke off.', { cause: error });
  }
}

const keyOf = ({ sha256, ext }: Staged): string => `${sha256}.${ext}`;

/** The sidecar first: whoever finds the file finds what belongs to it. */
const filesOf = (staged: Staged) => [
  ...(staged.sidecar === null ? [] : [{ key: sidecarKey(keyOf(staged)), from: staged.sidecar }]),
  { key: keyOf(staged), from: staged.path },
];

/** Stores a caller's picture. */
export async function accept(
  { staging, pool, blobs }: Inward,
  bytes: Readable,
  signal: AbortSignal,
): Promise<Extract<InputRef, { kind: 'blob' }>> {
  await using box = await staging.open();
  const path = join(box.path, 'upload');
  try {
    await writeStream(bytes, path, MAX_INPUT_BYTES, signal);
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    if (error instanceof GatewayError) throw error;
    throw new GatewayError('invalid_request', 'The picture broke off while it was read.', { cause: error });
  }
  const staged = accepted(await pool.run('accept', { path, box: box.path }, signal), CALLER, 'The picture');
  await blobs.put(filesOf(staged));
  const { sha256, ext, width, height } = staged;
  const size = { width: width ?? 0, height: height ?? 0 };
  return { kind: 'blob', blob: keyOf(staged), sha256, mediaType: FORMATS[ext].mediaType, ...size, bytes: staged.bytes };
}

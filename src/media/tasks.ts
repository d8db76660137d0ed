// What runs in a worker thread: one task per file, given and answered by path so that no picture crosses the thread
// boundary. A task leaves finished, fsynced files in the staging box it was given; the main thread moves them into
// place. Everything blocking is done with blocking calls, since the thread is the task's own.

import { isUtf8 } from 'node:buffer';
import { createHash, type Hash } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileTypeFromFile } from 'file-type';
import type { Kind } from '../domain/model.ts';
import type { OutputOptions } from '../domain/params.ts';
import { checkContainer, type View, viewOf } from './containers.ts';
import { type Extension, extensionOf, FORMATS } from './formats.ts';
import { checkGif } from './gif.ts';
import { stampJpeg } from './jpeg.ts';
import { convert, firstFrame, measure, needsConversion, type Picture, prove, thumbnail } from './pictures.ts';
import { checkPng, stampPng } from './png.ts';
import { type Provenance, provenanceRecord } from './provenance.ts';
import { judge, Refusal, type Verdict } from './verdict.ts';
import { stampWebp } from './webp.ts';

/** Pictures are held in memory while they are worked on. */
const MAX_PICTURE_BYTES = 256 * 1024 * 1024;
const MAX_TEXT_BYTES = 1024 * 1024;
const HASH_STEP = 1024 * 1024;

/** A finished file in the staging box. */
export interface Staged {
  readonly path: string;
  readonly ext: Extension;
  readonly sha256: string;
  readonly bytes: number;
  readonly width: number | null;
  readonly height: number | null;
  /** Path of the JSON that goes beside it. */
  readonly sidecar: string | null;
}

export interface IngestWork {
  readonly path: string;
  readonly box: string;
  readonly expect: Kind | 'text';
  readonly output: OutputOptions;
  readonly provenance: Provenance | null;
}

export interface IngestResult {
  readonly kind: Kind | 'text';
  readonly original: Staged;
  /** Null: the original is what is served. */
  readonly converted: Staged | null;
  readonly hasThumbnail: boolean;
}

/** A node's result: proved whole, stamped, converted as asked. */
export const ingest = (work: IngestWork): Promise<Verdict<IngestResult>> =>
  judge(async () => {
    if (work.expect === 'text') return ingestText(work);
    const ext = await sniff(work.path);
    return FORMATS[ext].kind === 'image' ? ingestPicture(ext, work) : ingestStream(ext as StreamExtension, work);
  });

/** A caller's input picture: proved whole and kept as it is; an animation becomes its first frame. */
export const accept = (work: { readonly path: string; readonly box: string }): Promise<Verdict<Staged>> =>
  judge(async () => {
    const ext = await sniff(work.path);
    if (FORMATS[ext].kind !== 'image') throw new Refusal('wrong_kind', `is ${FORMATS[ext].mediaType}, not a picture`);
    const picture = await readPicture(ext, work.path);
    checkWhole(picture);
    await prove(picture);
    if (ext !== 'gif' && picture.frames === 1) return keep(work.path, picture);
    const still = await firstFrame(picture);
    return write(join(work.box, 'still'), still, [still.bytes]);
  });

/** Writes the thumbnail of the picture at `path` to `to`. */
export const makeThumbnail = (work: { readonly path: string; readonly to: string }): Promise<Verdict<number>> =>
  judge(async () => {
    const bytes = await thumbnail(work.path);
    writeDurably(work.to, [bytes]);
    return bytes.length;
  });

export interface Tasks {
  readonly ingest: typeof ingest;
  readonly accept: typeof accept;
  readonly makeThumbnail: typeof makeThumbnail;
}

async function sniff(path: string): Promise<Extension> {
  if (statSync(path).size === 0) throw new Refusal('broken', 'is empty');
  const found = await fileTypeFromFile(path);
  const ext = found === undefined ? null : extensionOf(found.ext);
  if (ext !== null) return ext;
  throw new Refusal('broken', found ? `is ${found.mime}, which is not supported` : 'is no picture, video or sound');
}

async function readPicture(ext: Extension, path: string): Promise<Picture> {
  if (statSync(path).size > MAX_PICTURE_BYTES) throw new Refusal('too_large', 'is a picture of more than 256 MB');
  return measure(ext, readFileSync(path));
}

/** What decoders let pass. */
function checkWhole({ ext, bytes }: Picture): void {
  if (ext === 'png') checkPng(bytes);
  if (ext === 'gif') checkGif(bytes);
}

async function ingestPicture(ext: Extension, work: IngestWork): Promise<IngestResult> {
  const picture = await readPicture(ext, work.path);
  const moves = picture.frames > 1;
  if (work.expect !== 'image' && !(work.expect === 'video' && moves)) throw wrongKind(ext, work.expect);
  const wantsCopy = needsConversion(picture, work.output);
  const decoded = wantsCopy ? convert(picture, work.output, work.provenance) : prove(picture).then(() => null);
  decoded.catch(() => undefined);
  checkWhole(picture);
  const original = keepOriginal(picture, work);
  const copy = await decoded;
  const converted = copy && stampedFile(copy, join(work.box, 'converted'), work);
  return { kind: work.expect, original, converted, hasThumbnail: true };
}

const wrongKind = (ext: Extension, expect: Kind | 'text') =>
  new Refusal(
    'wrong_kind',
    `is ${FORMATS[ext].mediaType} where ${expect === 'audio' ? 'a sound' : `a ${expect}`} was expected`,
  );

function keepOriginal(picture: Picture, work: IngestWork): Staged {
  return work.provenance === null ? keep(work.path, picture) : stampedFile(picture, join(work.box, 'original'), work);
}

function stampedFile(picture: Picture, path: string, { provenance }: IngestWork): Staged {
  const staged = write(path, picture, provenance === null ? [picture.bytes] : stamp(picture, provenance));
  return withSidecar(staged, provenance);
}

/** GIF has no place for it, AVIF gets it at encoding: their originals rely on the sidecar. */
function stamp(picture: Picture, provenance: Provenance): readonly Buffer[] {
  const { ext, bytes, orientation, canvas } = picture;
  if (ext === 'png') return stampPng(bytes, provenance, orientation);
  if (ext === 'jpg') return stampJpeg(bytes, provenance, orientation);
  if (ext === 'webp') return stampWebp(bytes, provenance, orientation, canvas);
  return [bytes];
}

/** Words are kept as they are: valid UTF-8, and not too many. */
function ingestText({ path, provenance }: IngestWork): IngestResult {
  if (statSync(path).size > MAX_TEXT_BYTES) throw new Refusal('too_large', 'is a text of more than 1 MB');
  const bytes = readFileSync(path);
  if (!isUtf8(bytes)) throw new Refusal('broken', 'is not text');
  const fd = openSync(path, 'r+');
  fsyncSync(fd);
  closeSync(fd);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const plain: Staged = { path, ext: 'txt', sha256, bytes: bytes.length, width: null, height: null, sidecar: null };
  return { kind: 'text', original: withSidecar(plain, provenance), converted: null, hasThumbnail: false };
}

type StreamExtension = Parameters<typeof checkContainer>[0];

function ingestStream(ext: StreamExtension, { path, expect, provenance }: IngestWork): IngestResult {
  const { kind } = FORMATS[ext];
  if (kind !== expect) throw wrongKind(ext, expect);
  const fd = openSync(path, 'r+');
  try {
    const { size } = fstatSync(fd);
    const file = viewOf(fd, size);
    const seen = checkContainer(ext, file) ?? { width: null, height: null };
    fsyncSync(fd);
    const plain: Staged = { path, ext, sha256: hashOf(file), bytes: size, ...seen, sidecar: null };
    return { kind, original: withSidecar(plain, provenance), converted: null, hasThumbnail: false };
  } finally {
    closeSync(fd);
  }
}

function hashOf(file: View): string {
  const hash = createHash('sha256');
  for (let at = 0; at < file.size; at += HASH_STEP) hash.update(file.read(at, HASH_STEP));
  return hash.digest('hex');
}

/** The bytes as they came, made durable where they lie. */
function keep(path: string, picture: Picture): Staged {
  const fd = openSync(path, 'r+');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return describe(path, picture, createHash('sha256').update(picture.bytes), picture.bytes.length);
}

function write(path: string, picture: Picture, pieces: readonly Buffer[]): Staged {
  const hash = createHash('sha256');
  let bytes = 0;
  for (const piece of pieces) {
    hash.update(piece);
    bytes += piece.length;
  }
  writeDurably(path, pieces);
  return describe(path, picture, hash, bytes);
}

const describe = (path: string, { ext, width, height }: Picture, hash: Hash, bytes: number): Staged => ({
  path,
  ext,
  sha256: hash.digest('hex'),
  bytes,
  width,
  height,
  sidecar: null,
});

function withSidecar(staged: Staged, provenance: Provenance | null): Staged {
  if (provenance === null) return staged;
  const { sha256, bytes, width, height, ext } = staged;
  const record = { sha256, bytes, width, height, media_type: FORMATS[ext].mediaType, ...provenanceRecord(provenance) };
  const sidecar = `${staged.path}.json`;
  writeDurably(sidecar, [Buffer.from(`${JSON.stringify(record, null, 2)}\n`)]);
  return { ...staged, sidecar };
}

/** A write may be cut short without an error where the disk is full: `writeFileSync` goes on until it gets one. */
function writeDurably(path: string, pieces: readonly Buffer[]): void {
  const fd = openSync(path, 'wx');
  try {
    for (const piece of pieces) writeFileSync(fd, piece);
    fsyncSync(fd);
    const wanted = pieces.reduce((sum, piece) => sum + piece.length, 0);
    const { size } = fstatSync(fd);
    if (size !== wanted) throw new Error(`only ${size} of ${wanted} bytes could be written`);
  } finally {
    closeSync(fd);
  }
}

// Is a video or audio file whole? Walks the container's own structure (boxes, elements, pages, frames) without decoding,
// reading only headers. Catches what really happens: a download cut short, an error page, an empty shell.

import { readSync } from 'node:fs';
import { Refusal } from './verdict.ts';

/** A file read in places. */
export interface View {
  readonly size: number;
  /** Fewer bytes at the end of the file. */
  read(at: number, length: number): Buffer;
}

export function viewOf(fd: number, size: number): View {
  return {
    size,
    read(at, length) {
      const bytes = Buffer.alloc(Math.max(0, Math.min(length, size - at)));
      return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, at));
    },
  };
}

/** In pixels, where the container tells without decoding. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

const MAX_PARTS = 1_000_000;
const stopsShort = (what: string) => new Refusal('broken', `is ${what} that stops before its end`);
const text = (bytes: Buffer, at: number) => bytes.toString('latin1', at, at + 4);

interface Box {
  readonly type: string;
  readonly data: number;
  readonly end: number;
}

/** The boxes that tile a part of the file. ISO 14496-12 §4.2: a size of 0 reaches to the end, 1 means 64 bits follow. */
function boxesIn(file: View, from: number, to: number): readonly Box[] {
  const boxes: Box[] = [];
  for (let at = from; at < to && boxes.length < MAX_PARTS; ) {
    const head = file.read(at, 16);
    if (head.length < 8) throw stopsShort('an MP4');
    const short = head.readUInt32BE(0);
    const long = short === 1 && head.length === 16;
    const size = short === 0 ? to - at : long ? Number(head.readBigUInt64BE(8)) : short;
    if (size < 8 || at + size > to) throw stopsShort('an MP4');
    boxes.push({ type: text(head, 4), data: at + (long ? 16 : 8), end: at + size });
    at += size;
  }
  return boxes;
}

/** Boxes tile the file, and there is a movie header and media. The size is that of the first track that has one. */
function checkMp4(file: View): Size | null {
  const boxes = boxesIn(file, 0, file.size);
  const movie = boxes.find((b) => b.type === 'moov');
  if (movie === undefined || !boxes.some((b) => b.type === 'mdat' || b.type === 'moof')) {
    throw new Refusal('broken', 'is an MP4 without a movie in it');
  }
  const within = (type: string) => (box: Box) => boxesIn(file, box.data, box.end).filter((b) => b.type === type);
  const headers = within('trak')(movie).flatMap(within('tkhd'));
  return headers.map((box) => trackSize(file, box)).find((size) => size !== null) ?? null;
}

/** A track header ends with width and height as 16.16 fixed point; sound tracks have 0. */
function trackSize(file: View, { end }: Box): Size | null {
  const tail = file.read(end - 8, 8);
  const size = { width: tail.readUInt16BE(0), height: tail.readUInt16BE(4) };
  return size.width > 0 && size.height > 0 ? size : null;
}

const EBML_HEADER = 0x1a45dfa3;
const SEGMENT = 0x18538067;
const CLUSTER = 0x1f43b675;

/** An EBML variable-length size: its value (null: unknown, as live writers put) and how many bytes it takes. */
function readVint(bytes: Buffer, at: number): { readonly value: number | null; readonly length: number } {
  const first = bytes[at] ?? 0;
  const length = Math.clz32(first) - 23;
  if (first === 0 || at + length > bytes.length) throw stopsShort('a WebM');
  let value = BigInt(first & (0xff >> length));
  for (let i = 1; i < length; i++) value = (value << 8n) | BigInt(bytes.readUInt8(at + i));
  const unknown = value === (1n << BigInt(7 * length)) - 1n;
  return { value: unknown ? null : Number(value), length };
}

/** EBML header, then a segment that fits the file and whose elements tile it, with at least one cluster. RFC 8794, RFC 9559. */
function checkWebm(file: View): void {
  const element = (at: number) => {
    const head = file.read(at, 12);
    const idLength = Math.clz32(head[0] ?? 0) - 23;
    if (idLength > 4 || head.length < idLength + 1) throw stopsShort('a WebM');
    const size = readVint(head, idLength);
    const data = at + idLength + size.length;
    const end = size.value === null ? file.size : data + size.value;
    if (end > file.size) throw stopsShort('a WebM');
    return { id: head.readUIntBE(0, idLength), data, end };
  };
  const header = element(0);
  const segment = element(header.end);
  if (header.id !== EBML_HEADER || segment.id !== SEGMENT) throw new Refusal('broken', 'is a WebM without a segment');
  let clusters = 0;
  for (let at = segment.data, n = 0; at < segment.end && n < MAX_PARTS; n++) {
    const { id, end } = element(at);
    if (id === CLUSTER) clusters++;
    at = end;
  }
  if (clusters === 0) throw new Refusal('broken', 'is a WebM without a movie in it');
}

const STREAMED = 0xffffffff;

/** RIFF chunks up to the samples, which must be there in full (a size of 2³²−1 means "written as a stream"). */
function checkWav(file: View): void {
  for (let at = 12, n = 0; at + 8 <= file.size && n < MAX_PARTS; n++) {
    const head = file.read(at, 8);
    const size = head.readUInt32LE(4);
    if (text(head, 0) === 'data') {
      if (size !== STREAMED && at + 8 + size > file.size) throw stopsShort('a WAV');
      if (at + 8 >= file.size) throw new Refusal('broken', 'is a WAV without a sound in it');
      return;
    }
    at += 8 + size + (size % 2);
  }
  throw stopsShort('a WAV');
}

/** Metadata blocks up to the last, then a frame. RFC 9639 §8. */
function checkFlac(file: View): void {
  for (let at = 4, n = 0; at + 4 <= file.size && n < MAX_PARTS; n++) {
    const head = file.read(at, 4);
    at += 4 + head.readUIntBE(1, 3);
    if (head.readUInt8(0) < 0x80) continue;
    const frame = file.read(at, 2);
    if (frame.length === 2 && frame.readUInt16BE(0) >> 2 === 0b11111111111110) return;
    break;
  }
  throw stopsShort('a FLAC');
}

const OGG_PAGE = 27;
const OGG_LAST = 0x04;

/** Pages tile the file and the last one says it is the last. RFC 3533 §6. */
function checkOgg(file: View): void {
  let flags = 0;
  for (let at = 0, n = 0; at < file.size && n < MAX_PARTS; n++) {
    const head = file.read(at, OGG_PAGE + 255);
    const segments = head[26] ?? 0;
    if (text(head, 0) !== 'OggS' || head.length < OGG_PAGE + segments) throw stopsShort('an Ogg');
    flags = head.readUInt8(5);
    at += OGG_PAGE + segments;
    for (const lacing of head.subarray(OGG_PAGE, OGG_PAGE + segments)) at += lacing;
    if (at > file.size) throw stopsShort('an Ogg');
  }
  if ((flags & OGG_LAST) === 0) throw stopsShort('an Ogg');
}

/** After an ID3 tag (whose size is 4 × 7 bits) there is a frame. MP3 has no end mark: more cannot be known cheaply. */
function checkMp3(file: View): void {
  const head = file.read(0, 10);
  let at = 0;
  if (head.length === 10 && head.toString('latin1', 0, 3) === 'ID3') {
    at = head.subarray(6, 10).reduce((size, seven) => (size << 7) | (seven & 0x7f), 0) + 10;
  }
  const frame = file.read(at, 4);
  if (frame.length < 4 || frame.readUInt16BE(0) >> 5 !== 0b11111111111) throw stopsShort('an MP3');
}

const CHECKS = { webm: checkWebm, wav: checkWav, flac: checkFlac, ogg: checkOgg, mp3: checkMp3 };

/** Refuses a video or audio file that is not whole; otherwise its size, where it is known. */
export function checkContainer(ext: 'mp4' | keyof typeof CHECKS, file: View): Size | null {
  if (ext === 'mp4') return checkMp4(file);
  CHECKS[ext](file);
  return null;
}

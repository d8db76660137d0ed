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

const MAX_PARTS = 1_000_000;
const stopsShort = (what: string) => new Refusal('broken', `is ${what} that stops before its end`);
const text = (bytes: Buffer, at: number) => bytes.toString('latin1', at, at + 4);

/** ISO base media: boxes tile the file, and there is a movie header and media. ISO 14496-12 §4.2. */
function checkMp4(file: View): void {
  const found = new Set<string>();
  for (let at = 0, n = 0; at < file.size && n < MAX_PARTS; n++) {
    const head = file.read(at, 16);
    if (head.length < 8) throw stopsShort('an MP4');
    const short = head.readUInt32BE(0);
    const size =
      short === 0 ? file.size - at : short === 1 && head.length === 16 ? Number(head.readBigUInt64BE(8)) : short;
    if (size < 8 || at + size > file.size) throw stopsShort('an MP4');
    found.add(text(head, 4));
    at += size;
  }
  if (!found.has('moov') || !(found.has('mdat') || found.has('moof'))) {
    throw new Refusal('broken', 'is an MP4 without a movie in it');
  }
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

const CHECKS = { mp4: checkMp4, webm: checkWebm, wav: checkWav, flac: checkFlac, ogg: checkOgg, mp3: checkMp3 };

/** Refuses a video or audio file that is not whole. */
export function checkContainer(ext: keyof typeof CHECKS, file: View): void {
  CHECKS[ext](file);
}

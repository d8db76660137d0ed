// Moving pictures and sound without a GPU: the smallest files that players accept. Containers are written by hand around
// frames that sharp made; every file carries its salt, so that different jobs give different bytes.

import { createHash } from 'node:crypto';
import sharp from 'sharp';
import type { FileBytes } from './pictures.ts';

export interface ClipOptions {
  readonly width: number;
  readonly height: number;
  readonly frames: number;
  readonly salt: string;
}

const FPS = 8;
const FRAMES_MAX = 16;

/** Animated WebP. */
export async function webpClip(options: ClipOptions): Promise<FileBytes> {
  const { width, height } = options;
  const frames = await Promise.all(colours(options).map((colour) => still(width, height, colour).png().toBuffer()));
  const bytes = await sharp(frames, { join: { animated: true } })
    .webp({ delay: frames.map(() => 1000 / FPS), loop: 0 })
    .toBuffer();
  return { parts: [bytes], mime: 'image/webp' };
}

/** WebM whose frames are the VP8 key frames inside lossy WebP pictures. */
export async function webmClip(options: ClipOptions): Promise<FileBytes> {
  const { width, height } = options;
  const stills = await Promise.all(colours(options).map((colour) => still(width, height, colour).webp().toBuffer()));
  const blocks = stills.map((webp, i) =>
    element('a3', Buffer.concat([Buffer.from([0x81, ...uint((i * 1000) / FPS, 2), 0x80]), vp8(webp)])),
  );
  const video = element('e0', element('b0', uint(width, 2)), element('ba', uint(height, 2)));
  const track = element(
    'ae',
    element('d7', uint(1, 1)),
    element('73c5', uint(1, 1)),
    element('83', uint(1, 1)),
    element('86', Buffer.from('V_VP8')),
    video,
  );
  const info = element('1549a966', element('2ad7b1', uint(1_000_000, 4)), element('4d80', Buffer.from(options.salt)));
  const head = element(
    '1a45dfa3',
    element('4286', uint(1, 1)),
    element('42f7', uint(1, 1)),
    element('42f2', uint(4, 1)),
    element('42f3', uint(8, 1)),
    element('4282', Buffer.from('webm')),
    element('4287', uint(2, 1)),
    element('4285', uint(2, 1)),
  );
  const cluster = element('1f43b675', element('e7', uint(0, 1)), ...blocks);
  return { parts: [head, element('18538067', info, element('1654ae6b', track), cluster)], mime: 'video/webm' };
}

/** MP4 with JPEG frames (object type 0x6c). */
export async function mp4Clip(options: ClipOptions): Promise<FileBytes> {
  const { width, height } = options;
  const frames = await Promise.all(colours(options).map((colour) => still(width, height, colour).jpeg().toBuffer()));
  const head = Buffer.concat([
    box('ftyp', Buffer.from('isom'), uint(512, 4), Buffer.from('isomiso2mp41')),
    box('free', Buffer.from(options.salt)),
  ]);
  const moov = box('moov', movieHeader(frames.length), track(width, height, frames, head.length + 8));
  return { parts: [head, box('mdat', ...frames), moov], mime: 'video/mp4' };
}

/** FLAC, mono 16 bit 44.1 kHz: one constant level per block, drawn from the salt. */
export function flacClip(seconds: number, salt: string): FileBytes {
  const levels = createHash('sha256').update(salt).digest();
  const blocks = Math.max(1, Math.min(500, Math.ceil((seconds * RATE) / BLOCK)));
  const frames = Array.from({ length: blocks }, (_, i) => flacFrame(i, ((levels[i % 32] ?? 0) - 128) * 16));
  const info = Buffer.alloc(34);
  info.writeUInt16BE(BLOCK, 0);
  info.writeUInt16BE(BLOCK, 2);
  info.writeUIntBE((RATE << 4) | 0, 10, 3);
  info[13] = 0xf0;
  info.writeUInt32BE(blocks * BLOCK, 14);
  return { parts: [Buffer.from('fLaC'), Buffer.from([0x80, 0, 0, 34]), info, ...frames], mime: 'audio/flac' };
}

const RATE = 44_100;
const BLOCK = 4096;

/** One constant subframe: sync, block size code 12 (4096), rate code 9 (44.1 kHz), mono, 16 bit. */
function flacFrame(number: number, level: number): Buffer {
  const coded = number < 0x80 ? [number] : [0xc0 | (number >> 6), 0x80 | (number & 0x3f)];
  const head = [0xff, 0xf8, 0xc9, 0x08, ...coded];
  const body = [...head, crc(head, 8, 0x07), 0x00, (level >> 8) & 0xff, level & 0xff];
  return Buffer.from([...body, ...uint(crc(body, 16, 0x8005), 2)]);
}

function crc(bytes: readonly number[], bits: 8 | 16, polynomial: number): number {
  const top = 1 << (bits - 1);
  const mask = (1 << bits) - 1;
  let sum = 0;
  for (const byte of bytes) {
    sum ^= byte << (bits - 8);
    for (let i = 0; i < 8; i++) sum = (sum & top ? (sum << 1) ^ polynomial : sum << 1) & mask;
  }
  return sum;
}

function colours({ frames, salt }: ClipOptions): string[] {
  const count = Math.max(2, Math.min(frames, FRAMES_MAX));
  const hex = createHash('sha512').update(salt).digest('hex');
  return Array.from({ length: count }, (_, i) => `#${hex.slice(i * 6, i * 6 + 6)}`);
}

const still = (width: number, height: number, background: string) =>
  sharp({ create: { width, height, channels: 3, background } });

/** The payload of the `VP8 ` chunk of a lossy WebP. */
function vp8(webp: Buffer): Buffer {
  const at = webp.indexOf('VP8 ', 12, 'latin1');
  return webp.subarray(at + 8, at + 8 + webp.readUInt32LE(at + 4));
}

function uint(value: number, size: number): Buffer {
  const bytes = Buffer.alloc(size);
  bytes.writeUIntBE(Math.round(value), 0, size);
  return bytes;
}

/** An EBML element with an eight-byte size. */
function element(id: string, ...content: readonly Buffer[]): Buffer {
  const body = Buffer.concat(content);
  return Buffer.concat([Buffer.from(id, 'hex'), Buffer.from([1, 0]), uint(body.length, 6), body]);
}

function box(type: string, ...content: readonly Buffer[]): Buffer {
  const body = Buffer.concat(content);
  return Buffer.concat([uint(body.length + 8, 4), Buffer.from(type, 'latin1'), body]);
}

const words = (...values: readonly number[]) => Buffer.concat(values.map((value) => uint(value, 4)));
const MATRIX = words(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000);

function movieHeader(frames: number): Buffer {
  return box(
    'mvhd',
    words(0, 0, 0, FPS, frames, 0x10000),
    Buffer.from([1, 0]),
    Buffer.alloc(10),
    MATRIX,
    Buffer.alloc(24),
    words(2),
  );
}

function track(width: number, height: number, frames: readonly Buffer[], offset: number): Buffer {
  const header = box(
    'tkhd',
    words(3, 0, 0, 1, 0, frames.length),
    Buffer.alloc(16),
    MATRIX,
    words(width * 0x10000, height * 0x10000),
  );
  const media = box(
    'mdia',
    box('mdhd', words(0, 0, 0, FPS, frames.length, 0x55c40000)),
    box('hdlr', words(0, 0), Buffer.from('vide'), Buffer.alloc(12), Buffer.from('frames\0')),
    box(
      'minf',
      box('vmhd', words(1, 0, 0)),
      box('dinf', box('dref', words(0, 1), box('url ', words(1)))),
      samples(width, height, frames, offset),
    ),
  );
  return box('trak', header, media);
}

function samples(width: number, height: number, frames: readonly Buffer[], offset: number): Buffer {
  const decoder = Buffer.concat([Buffer.from([4, 13, 0x6c, 0x11]), Buffer.alloc(11)]);
  const descriptor = Buffer.from([3, 3 + decoder.length + 3, 0, 1, 0, ...decoder, 6, 1, 2]);
  const entry = box(
    'mp4v',
    Buffer.alloc(6),
    uint(1, 2),
    Buffer.alloc(16),
    uint(width, 2),
    uint(height, 2),
    words(0x480000, 0x480000, 0),
    uint(1, 2),
    Buffer.alloc(32),
    Buffer.from([0, 24, 0xff, 0xff]),
    box('esds', words(0), descriptor),
  );
  return box(
    'stbl',
    box('stsd', words(0, 1), entry),
    box('stts', words(0, 1, frames.length, 1)),
    box('stsc', words(0, 1, 1, frames.length, 1)),
    box('stsz', words(0, 0, frames.length, ...frames.map((frame) => frame.length))),
    box('stco', words(0, 1, offset)),
  );
}

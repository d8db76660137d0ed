// WebP at chunk level: takes foreign EXIF and XMP out and puts ours in; image data is passed on as it is. Metadata
// needs the extended header, so a simple file gets one. Layout: RFC 9649, §2.

import { exifBlock, type Provenance, xmpPacket } from './provenance.ts';
import { Refusal } from './verdict.ts';

const HEADER = 12;
const ALPHA = 0x10;
const EXIF = 0x08;
const XMP = 0x04;

interface Chunk {
  readonly type: string;
  readonly data: Buffer;
}

function readChunks(webp: Buffer): readonly Chunk[] {
  const end = 8 + webp.readUInt32LE(4);
  if (end > webp.length) throw new Refusal('broken', 'is a WebP that stops before its end');
  const chunks: Chunk[] = [];
  for (let at = HEADER; at + 8 <= end; ) {
    const size = webp.readUInt32LE(at + 4);
    if (at + 8 + size > end) throw new Refusal('broken', 'is a WebP with a chunk that stops short');
    chunks.push({ type: webp.toString('latin1', at, at + 4), data: webp.subarray(at + 8, at + 8 + size) });
    at += 8 + size + (size % 2);
  }
  return chunks;
}

function chunk(type: string, data: Buffer): readonly Buffer[] {
  const head = Buffer.alloc(8);
  head.write(type, 'latin1');
  head.writeUInt32LE(data.length, 4);
  return [head, data, Buffer.alloc(data.length % 2)];
}

/** Lossless data says in its header (after a signature byte and 2 × 14 bits of size) whether it has alpha. */
const hasAlpha = ({ type, data }: Chunk) =>
  type === 'VP8L' && data.length >= 5 && (data.readUInt32LE(1) & (1 << 28)) !== 0;

function extendedHeader(chunks: readonly Chunk[], canvas: Canvas): Buffer {
  const existing = chunks.find((c) => c.type === 'VP8X');
  const header = Buffer.alloc(10);
  if (existing && existing.data.length >= 10) existing.data.copy(header, 0, 0, 10);
  else {
    header.writeUInt8(chunks.some(hasAlpha) ? ALPHA : 0);
    header.writeUIntLE(canvas.width - 1, 4, 3);
    header.writeUIntLE(canvas.height - 1, 7, 3);
  }
  header.writeUInt8(header.readUInt8() | EXIF | XMP);
  return header;
}

interface Canvas {
  readonly width: number;
  readonly height: number;
}

/** The same picture with our EXIF and XMP in place of all other. `canvas` is its size as stored. */
export function stampWebp(
  webp: Buffer,
  provenance: Provenance,
  orientation: number,
  canvas: Canvas,
): readonly Buffer[] {
  const chunks = readChunks(webp);
  const kept = chunks.filter((c) => !['VP8X', 'EXIF', 'XMP '].includes(c.type));
  const body = [
    ...chunk('VP8X', extendedHeader(chunks, canvas)),
    ...kept.flatMap((c) => chunk(c.type, c.data)),
    ...chunk('EXIF', exifBlock(provenance, orientation)),
    ...chunk('XMP ', Buffer.from(xmpPacket(provenance))),
  ];
  const head = Buffer.from('RIFF\0\0\0\0WEBP', 'latin1');
  head.writeUInt32LE(4 + body.reduce((sum, piece) => sum + piece.length, 0), 4);
  return [head, ...body];
}

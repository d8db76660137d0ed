// PNG at chunk level: checks that every chunk is whole, takes foreign text out and puts ours in. The compressed pixels
// are passed on as they are, so nothing is re-encoded. Layout: W3C PNG, §5 and §11.3.3.

import { crc32 } from 'node:zlib';
import { exifBlock, type Provenance, parametersText, provenanceJson, xmpPacket } from './provenance.ts';
import { Refusal } from './verdict.ts';

const SIGNATURE = 8;
const FOREIGN = new Set(['tEXt', 'zTXt', 'iTXt', 'eXIf']);

interface Chunk {
  readonly type: string;
  /** The whole chunk: length, type, data, checksum. */
  readonly bytes: Buffer;
}

/** The chunks up to IEND; what follows it is no part of the picture. Refuses a file that stops short. */
function readChunks(png: Buffer): readonly Chunk[] {
  const chunks: Chunk[] = [];
  let at = SIGNATURE;
  while (at + 12 <= png.length) {
    const end = at + 12 + png.readUInt32BE(at);
    if (end > png.length) break;
    const type = png.toString('latin1', at + 4, at + 8);
    chunks.push({ type, bytes: png.subarray(at, end) });
    if (type === 'IEND') return chunks;
    at = end;
  }
  throw new Refusal('broken', 'is a PNG that stops before its end');
}

function chunk(type: string, data: Buffer): Buffer {
  const out = Buffer.alloc(12 + data.length);
  out.writeUInt32BE(data.length);
  out.write(type, 4, 'latin1');
  data.copy(out, 8);
  out.writeUInt32BE(crc32(out.subarray(4, 8 + data.length)), 8 + data.length);
  return out;
}

/** Plain text where ASCII is enough (every reader knows it), international text otherwise. */
function text(keyword: string, value: string): Buffer {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the question is exactly whether it is plain ASCII.
  if (/^[\x01-\x7f]*$/.test(value)) return chunk('tEXt', Buffer.from(`${keyword}\0${value}`, 'latin1'));
  return international(keyword, value);
}

/** Keyword, then: not compressed, no language, no translated keyword. */
const international = (keyword: string, value: string): Buffer =>
  chunk('iTXt', Buffer.from(`${keyword}\0\0\0\0\0${value.replaceAll('\0', '')}`, 'utf8'));

/** The same picture with our text in place of all other, in pieces to be written one after the other. Its EXIF orientation is kept. */
export function stampPng(png: Buffer, provenance: Provenance, orientation: number): readonly Buffer[] {
  const [header, ...rest] = readChunks(png);
  if (header?.type !== 'IHDR') throw new Refusal('broken', 'is a PNG without a header');
  return [
    png.subarray(0, SIGNATURE),
    header.bytes,
    text('parameters', parametersText(provenance)),
    text('darkroom', provenanceJson(provenance)),
    international('XML:com.adobe.xmp', xmpPacket(provenance)),
    chunk('eXIf', exifBlock(provenance, orientation)),
    ...rest.filter((c) => !FOREIGN.has(c.type)).map((c) => c.bytes),
  ];
}

/** Refuses a PNG that is not whole, or of which a chunk was damaged. */
export function checkPng(png: Buffer): void {
  for (const { bytes } of readChunks(png)) {
    if (crc32(bytes.subarray(4, -4)) === bytes.readUInt32BE(bytes.length - 4)) continue;
    throw new Refusal('broken', 'is a PNG with a damaged chunk');
  }
}

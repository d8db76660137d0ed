// JPEG at segment level: takes foreign EXIF, XMP, IPTC and comments out and puts ours in; scans are passed on as they
// are. A block of ours that would not fit a segment (64 KB) is left out: the sidecar has it all.

import { exifBlock, type Provenance, xmpPacket } from './provenance.ts';
import { Refusal } from './verdict.ts';

const APP0 = 0xe0;
const APP1 = 0xe1;
const APP13 = 0xed;
const COMMENT = 0xfe;
const START_OF_SCAN = 0xda;
const MAX_SEGMENT = 0xffff - 2;
const METADATA = ['Exif\0', 'http://ns.adobe.com/xap/1.0/\0', 'http://ns.adobe.com/xmp/extension/\0'];

interface Segment {
  readonly marker: number;
  readonly bytes: Buffer;
}

/** The segments before the first scan, and all bytes from there on. */
function readSegments(jpeg: Buffer): { readonly segments: readonly Segment[]; readonly scans: Buffer } {
  const segments: Segment[] = [];
  let at = 2;
  while (at + 4 <= jpeg.length && jpeg[at] === 0xff) {
    const marker = jpeg.readUInt8(at + 1);
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === START_OF_SCAN) return { segments, scans: jpeg.subarray(at) };
    const end = at + 2 + jpeg.readUInt16BE(at + 2);
    segments.push({ marker, bytes: jpeg.subarray(at, end) });
    at = end;
  }
  throw new Refusal('broken', 'is a JPEG without a picture in it');
}

function isForeign({ marker, bytes }: Segment): boolean {
  if (marker === COMMENT || marker === APP13) return true;
  return marker === APP1 && METADATA.some((name) => bytes.toString('latin1', 4, 4 + name.length) === name);
}

function app1(name: string, data: Buffer): readonly Buffer[] {
  const length = name.length + data.length;
  if (length > MAX_SEGMENT) return [];
  const head = Buffer.from([0xff, APP1, 0, 0]);
  head.writeUInt16BE(length + 2, 2);
  return [head, Buffer.from(name, 'latin1'), data];
}

/** The same picture with our EXIF and XMP in place of all other. The EXIF orientation is kept: it turns the picture. */
export function stampJpeg(jpeg: Buffer, provenance: Provenance, orientation: number): readonly Buffer[] {
  const { segments, scans } = readSegments(jpeg);
  const kept = segments.filter((s) => !isForeign(s));
  const jfif = kept.filter((s) => s.marker === APP0);
  return [
    jpeg.subarray(0, 2),
    ...jfif.map((s) => s.bytes),
    ...app1('Exif\0\0', exifBlock(provenance, orientation)),
    ...app1('http://ns.adobe.com/xap/1.0/\0', Buffer.from(xmpPacket(provenance))),
    ...kept.filter((s) => s.marker !== APP0).map((s) => s.bytes),
    scans,
  ];
}

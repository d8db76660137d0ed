// Pictures without a GPU: real PNG files that decode, made at almost no cost. The pixels (palette indexes) are compressed
// once per size and shared; what varies with the job is the palette and the text chunks in front of them.

import { createHash } from 'node:crypto';
import { crc32, deflateSync } from 'node:zlib';
import sharp from 'sharp';

/** A file kept as pieces, so that thousands of them can share the large one. */
export interface FileBytes {
  readonly parts: readonly Buffer[];
  readonly mime: string;
}

/** `varied`: the asked size. The others: one fixed 1024×1024 picture of that weight. */
export type PictureKind = 'varied' | 'large' | 'small';

export interface PictureOptions {
  readonly width: number;
  readonly height: number;
  /** What makes this picture differ from another. */
  readonly salt: string;
  readonly kind: PictureKind;
  readonly text?: Readonly<Record<string, string>>;
}

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');
const END = chunk('IEND', Buffer.alloc(0));
const WEIGHT = { large: 1_900_000, small: 7_000 } as const;
const FIXED_SIDE = 1024;

export function picture({ width, height, salt, kind, text = {} }: PictureOptions): FileBytes {
  const texts = Object.entries(text).map(([key, value]) => chunk('tEXt', Buffer.from(`${key}\0${ascii(value)}`)));
  const middle =
    kind === 'varied'
      ? [header(width, height, 3), chunk('PLTE', palette(salt)), ...texts, waves(width, height)]
      : [header(FIXED_SIDE, FIXED_SIDE, 2), chunk('tEXt', Buffer.from(`salt\0${ascii(salt)}`)), ...texts, grain(kind)];
  return { parts: [Buffer.concat([SIGNATURE, ...middle.slice(0, -1)]), ...middle.slice(-1), END], mime: 'image/png' };
}

/** Width and height as a PNG's header states them; null when it is not a PNG. */
export function pngSize(bytes: Buffer): { readonly width: number; readonly height: number } | null {
  if (!bytes.subarray(0, 8).equals(SIGNATURE)) return null;
  return { width: bytes.readUInt32BE(16), height: bytes.readUInt32BE(20) };
}

let preview: Promise<Buffer> | null = null;

/** The small JPEG a sampler sends while it works; made once. Its JFIF marker is what the recorded ones begin with. */
export function previewJpeg(): Promise<Buffer> {
  preview ??= sharp({ create: { width: 128, height: 128, channels: 3, background: '#7a5c48' } })
    .jpeg({ quality: 95 })
    .toBuffer()
    .then((jpeg) => Buffer.concat([jpeg.subarray(0, 2), JFIF, jpeg.subarray(2)]));
  return preview;
}

const JFIF = Buffer.from('ffe000104a46494600010100000100010000', 'hex');

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, sum]);
}

function header(width: number, height: number, colourType: 2 | 3): Buffer {
  const data = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, colourType, 0, 0, 0]);
  data.writeUInt32BE(width, 0);
  data.writeUInt32BE(height, 4);
  return chunk('IHDR', data);
}

/** 256 colours along a path between four, all drawn from the salt. */
function palette(salt: string): Buffer {
  const seed = createHash('sha256').update(salt).digest();
  const colours = Buffer.alloc(768);
  for (let i = 0; i < 256; i++) {
    const leg = Math.floor(i / 64);
    const along = (i % 64) / 64;
    for (let c = 0; c < 3; c++) {
      const from = seed[leg * 3 + c] ?? 0;
      const to = seed[((leg + 1) % 4) * 3 + c] ?? 0;
      colours[i * 3 + c] = Math.round(from + (to - from) * along);
    }
  }
  return colours;
}

const shared = new Map<string, Buffer>();

function keep(key: string, make: () => Buffer): Buffer {
  const kept = shared.get(key) ?? make();
  shared.set(key, kept);
  return kept;
}

/** Interfering waves as palette indexes. */
function waves(width: number, height: number): Buffer {
  return keep(`${width}x${height}`, () => {
    const rows = Buffer.alloc((width + 1) * height);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const wave = Math.sin(x / 37) + Math.sin(y / 23) + Math.sin((x + y) / 51);
        rows[y * (width + 1) + 1 + x] = Math.floor(((wave + 3) / 6) * 255);
      }
    }
    return chunk('IDAT', deflateSync(rows, { level: 4 }));
  });
}

/** As many rows of noise as the weight needs, then flat colour. */
function grain(kind: keyof typeof WEIGHT): Buffer {
  return keep(kind, () => {
    const rows = Buffer.alloc((FIXED_SIDE * 3 + 1) * FIXED_SIDE);
    let state = 1;
    for (let i = 0; i < WEIGHT[kind]; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      rows[i] = i % (FIXED_SIDE * 3 + 1) === 0 ? 0 : state >>> 24;
    }
    return chunk('IDAT', deflateSync(rows));
  });
}

/** Text chunks are Latin-1; anything beyond goes as a JSON escape, as json.dumps writes it. */
function ascii(text: string): string {
  return text.replace(/[^\x20-\x7e\n]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

// Pictures, inside a worker: measured, proved whole by decoding them to the last row, converted, thumbnailed. libvips
// runs one thread per picture and caches nothing, since the workers are the parallelism and no picture comes twice.

import sharp, { type Sharp } from 'sharp';
import type { OutputFormat, OutputOptions } from '../domain/params.ts';
import type { Extension } from './formats.ts';
import { type Provenance, provenanceJson, xmpPacket } from './provenance.ts';
import { Refusal } from './verdict.ts';

sharp.concurrency(1);
sharp.cache(false);

export const MAX_PIXELS = 64_000_000;
/** All frames of an animation together. */
const MAX_ANIMATED_PIXELS = 16 * MAX_PIXELS;
const THUMBNAIL_SIDE = 512;
const THUMBNAIL_QUALITY = 75;

export interface Picture {
  readonly ext: Extension;
  readonly bytes: Buffer;
  /** As seen, after the turn that its EXIF asks for. */
  readonly width: number;
  readonly height: number;
  /** As stored. */
  readonly canvas: { readonly width: number; readonly height: number };
  /** EXIF 1…8. */
  readonly orientation: number;
  readonly frames: number;
}

const undecodable = (cause: unknown) =>
  new Refusal('broken', 'does not decode as the picture it claims to be', { cause });

/** libvips' errors are all of one class; each of them here says that the picture is at fault. */
async function decoding<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw undecodable(error);
  }
}

const source = (bytes: Buffer, frames: number): Sharp =>
  sharp(bytes, {
    failOn: 'error',
    limitInputPixels: frames > 1 ? MAX_ANIMATED_PIXELS : MAX_PIXELS,
    sequentialRead: true,
    pages: frames > 1 ? -1 : 1,
  });

/** Reads the header only, so that a picture which claims absurd dimensions is refused before a byte of it is inflated. */
export async function measure(ext: Extension, bytes: Buffer): Promise<Picture> {
  const header = await decoding(() => sharp(bytes, { limitInputPixels: false, failOn: 'error' }).metadata());
  const canvas = { width: header.width, height: header.pageHeight ?? header.height };
  const frames = header.pages ?? 1;
  const pixels = canvas.width * canvas.height;
  if (pixels > MAX_PIXELS || pixels * frames > MAX_ANIMATED_PIXELS) {
    const size = `${canvas.width}×${canvas.height}${frames > 1 ? ` in ${frames} frames` : ''}`;
    throw new Refusal('too_large', `claims ${size} pixels, more than 64 megapixels`);
  }
  const orientation = header.orientation ?? 1;
  const [width, height] = orientation >= 5 ? [canvas.height, canvas.width] : [canvas.width, canvas.height];
  return { ext, bytes, width, height, canvas, orientation, frames };
}

/**
 * Decodes all of it, keeping next to nothing: the last row, which cannot be had without those before it, or of an
 * animation one pixel per frame, whose frames decode as a whole.
 */
export async function prove({ bytes, canvas, frames }: Picture): Promise<void> {
  const image = source(bytes, frames);
  const least =
    frames > 1
      ? image.resize({ width: 1, height: 1, fit: 'fill', kernel: 'nearest' })
      : image.extract({ left: 0, top: canvas.height - 1, width: canvas.width, height: 1 });
  await decoding(() => least.raw().toBuffer());
}

const FORMAT_OF: Readonly<Partial<Record<Extension, OutputFormat>>> = {
  png: 'png',
  jpg: 'jpeg',
  webp: 'webp',
  avif: 'avif',
};
const EXTENSION_OF: Readonly<Record<OutputFormat, Extension>> = { png: 'png', jpeg: 'jpg', webp: 'webp', avif: 'avif' };

/** Does what was asked for differ from what came? `quality` alone re-encodes lossy pictures only. */
export function needsConversion(picture: Picture, { format, quality, maxSide }: OutputOptions): boolean {
  const shrinks = maxSide !== undefined && Math.max(picture.width, picture.height) > maxSide;
  const lossy = picture.ext !== 'png' && picture.ext !== 'gif';
  return shrinks || (format !== undefined && format !== FORMAT_OF[picture.ext]) || (quality !== undefined && lossy);
}

/**
 * Encodes a copy. The fast settings are on purpose: at the same quality WebP effort 4 costs 2.5 × effort 0 and saves 2 %
 * of the bytes, AVIF effort 4 costs forty times effort 0; and "done" waits for this. Decoding for it proves the picture.
 */
export async function convert(
  picture: Picture,
  output: OutputOptions,
  provenance: Provenance | null,
): Promise<Picture> {
  const format = output.format ?? FORMAT_OF[picture.ext] ?? 'webp';
  const side = output.maxSide ?? Math.max(picture.width, picture.height);
  const frames = format === 'webp' ? picture.frames : 1;
  const turned = source(picture.bytes, frames).autoOrient();
  const fitted = turned.resize({ width: side, height: side, fit: 'inside', withoutEnlargement: true });
  const encoded = encode(fitted, format, output.quality, provenance);
  const { data, info } = await decoding(() => encoded.toBuffer({ resolveWithObject: true }));
  const size = { width: info.width, height: info.pageHeight ?? info.height };
  return { ext: EXTENSION_OF[format], bytes: data, ...size, canvas: size, orientation: 1, frames };
}

function encode(image: Sharp, format: OutputFormat, quality: number | undefined, provenance: Provenance | null): Sharp {
  const lossy = quality === undefined ? {} : { quality };
  switch (format) {
    case 'png':
      return image.png({ compressionLevel: 4 });
    case 'jpeg':
      return image.flatten({ background: '#ffffff' }).jpeg({ quality: 90, ...lossy });
    case 'webp':
      return image.webp({ quality: 85, effort: 0, ...lossy });
    case 'avif': {
      const avif = image.avif({ quality: 60, effort: 0, ...lossy });
      if (provenance === null) return avif;
      const exif = { IFD0: { ImageDescription: provenanceJson(provenance), Software: provenance.software } };
      return avif.withExif(exif).withXmp(xmpPacket(provenance));
    }
  }
}

/** The first frame as PNG: nodes take still pictures, and some read an animation as a batch. */
export async function firstFrame(picture: Picture): Promise<Picture> {
  const bytes = await decoding(() => source(picture.bytes, 1).autoOrient().png({ compressionLevel: 4 }).toBuffer());
  return { ...picture, ext: 'png', bytes, frames: 1 };
}

/** At most 512 pixels on the longest side, never enlarged, WebP. */
export function thumbnail(path: string): Promise<Buffer> {
  return decoding(() =>
    sharp(path, { limitInputPixels: MAX_PIXELS, sequentialRead: true })
      .autoOrient()
      .resize({ width: THUMBNAIL_SIDE, height: THUMBNAIL_SIDE, fit: 'inside', withoutEnlargement: true })
      .webp({ quality: THUMBNAIL_QUALITY, effort: 0 })
      .toBuffer(),
  );
}

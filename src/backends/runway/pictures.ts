// Input pictures as Runway takes them in a request: a data URI of JPEG, PNG or WebP, of five megabytes at most. A larger
// one goes as JPEG, in its own size as long as that fits.

import sharp from 'sharp';
import { Refusal } from '../backend.ts';
import { dataUrl } from '../hosted/asked.ts';
import type { Picture } from '../hosted/provider.ts';

const TAKEN = ['image/jpeg', 'image/png', 'image/webp'];
const MAX_URI = 5 * 1000 * 1000;
const QUALITY = 92;
const MAX_SIDE = 2048;

export async function pictureUri(picture: Picture): Promise<string> {
  const tries = [
    async () => (TAKEN.includes(picture.mediaType) ? picture : jpegOf(picture.bytes, null)),
    () => jpegOf(picture.bytes, null),
    () => jpegOf(picture.bytes, MAX_SIDE),
  ];
  for (const attempt of tries) {
    const uri = dataUrl(await attempt());
    if (uri.length <= MAX_URI) return uri;
  }
  throw new Refusal('unsupported_input', 'The provider takes input pictures of at most 5 MB.');
}

async function jpegOf(bytes: Buffer, side: number | null): Promise<Picture> {
  const image = sharp(bytes).flatten({ background: 'white' });
  const fitted = side === null ? image : image.resize(side, side, { fit: 'inside', withoutEnlargement: true });
  return { bytes: await fitted.jpeg({ quality: QUALITY }).toBuffer(), mediaType: 'image/jpeg' };
}

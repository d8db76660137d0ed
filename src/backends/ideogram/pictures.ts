// Input pictures as Ideogram takes them: JPEG, PNG or WebP, and a mask of the picture's own size in which black, not
// white, is painted anew.

import sharp from 'sharp';
import type { Picture } from '../hosted/provider.ts';

const TAKEN = ['image/jpeg', 'image/png', 'image/webp'];

export async function takenPicture(picture: Picture): Promise<Picture> {
  if (TAKEN.includes(picture.mediaType)) return picture;
  return { bytes: await sharp(picture.bytes).png().toBuffer(), mediaType: 'image/png' };
}

export async function blackMask(mask: Picture, of: Buffer): Promise<Buffer> {
  const { width, height } = await sharp(of).metadata();
  return sharp(mask.bytes)
    .flatten({ background: 'black' })
    .resize(width, height, { fit: 'fill', kernel: 'nearest' })
    .greyscale()
    .threshold(128)
    .negate()
    .extractChannel(0)
    .png()
    .toBuffer();
}

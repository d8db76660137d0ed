// Changing a picture: a form with the picture and, where only a part may change, a mask. OpenAI reads the mask's alpha
// (transparent is painted anew), servers that imitate it read its grey (white is): ours says both at once.

import sharp from 'sharp';
import { blobOf, endingOf } from '../hosted/at-once.ts';
import type { Picture } from '../hosted/provider.ts';

export async function editForm(
  fields: Readonly<Record<string, string | number | boolean>>,
  image: Picture,
  mask: Picture | null,
): Promise<FormData> {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  form.append('image[]', blobOf(image), `image.${endingOf(image.mediaType)}`);
  if (mask !== null) form.append('mask', blobOf(await seeThrough(mask, image)), 'mask.png');
  return form;
}

/** As large as the picture, which OpenAI insists on. */
async function seeThrough(mask: Picture, image: Picture): Promise<Picture> {
  const { width, height } = await sharp(image.bytes).metadata();
  const raw = { width, height, channels: 1 } as const;
  const white = sharp(mask.bytes).flatten().resize(width, height, { fit: 'fill' }).toColourspace('b-w');
  const grey = await white.clone().raw().toBuffer();
  const alpha = await white.clone().negate().raw().toBuffer();
  const bytes = await sharp(grey, { raw })
    .toColourspace('srgb')
    .joinChannel([grey, grey, alpha], { raw })
    .png()
    .toBuffer();
  return { bytes, mediaType: 'image/png' };
}

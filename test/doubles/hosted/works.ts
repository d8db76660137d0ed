// The pictures and clips a hosted job ends with: real files of the asked format, made once per job, some withheld.

import sharp from 'sharp';
import { mp4Clip } from '../clips.ts';
import { type FileBytes, picture } from '../pictures.ts';
import type { Job, Order } from './jobs.ts';

export interface Work {
  readonly file: FileBytes;
  readonly extension: string;
  /** False: it was made, and is kept back. */
  readonly safe: boolean;
}

const CLIP = { width: 64, height: 36, frames: 4 } as const;
const made = new WeakMap<Job, Promise<readonly Work[]>>();

export function worksOf(job: Job): Promise<readonly Work[]> {
  const kept = made.get(job) ?? make(job);
  made.set(job, kept);
  return kept;
}

export const base64 = ({ file }: Work): string => Buffer.concat([...file.parts]).toString('base64');

function make({ id, order, fate }: Job): Promise<readonly Work[]> {
  const count = fate.has('zero_images') ? 0 : order.count;
  const withheld = (i: number) =>
    fate.has('moderation_output') || (fate.has('moderation_partial') && i === order.count - 1);
  return Promise.all(
    Array.from({ length: count }, async (_, i) => ({
      file: await paint(order, `${id}/${i}`),
      extension: order.format === 'jpeg' ? 'jpg' : order.format,
      safe: !withheld(i),
    })),
  );
}

async function paint({ width, height, format, prompt, seed }: Order, salt: string): Promise<FileBytes> {
  if (format === 'mp4') return mp4Clip({ ...CLIP, salt });
  const png = picture({ width, height, salt: `${salt}/${prompt}/${seed}`, kind: 'varied' });
  if (format === 'png') return png;
  const bytes = await sharp(Buffer.concat([...png.parts]))
    .toFormat(format, { quality: 80 })
    .toBuffer();
  return { parts: [bytes], mime: `image/${format}` };
}

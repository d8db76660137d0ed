// An uploaded picture on the wire.

import { z } from 'zod';
import { type Millis, toTimestamp } from '../domain/units.ts';

export const MAX_UPLOAD_BYTES = 64 * 1024 * 1024;
/** Kept this long after the last use. */
export const UPLOAD_KEPT_MS = 24 * 3_600_000;

export const UploadBody = z
  .object({
    id: z.string().describe('Goes into init_image or mask.'),
    media_type: z.string(),
    width: z.int(),
    height: z.int(),
    bytes: z.int(),
    sha256: z.string(),
    created_at: z.iso.datetime(),
    expires_at: z.iso.datetime().describe('Moves on with every use.'),
  })
  .meta({ id: 'Upload' });

export function renderUpload(u: {
  readonly id: string;
  readonly mediaType: string;
  readonly width: number;
  readonly height: number;
  readonly bytes: number;
  readonly sha256: string;
  readonly createdAt: Millis;
  readonly usedAt: Millis;
}): z.infer<typeof UploadBody> {
  return {
    id: u.id,
    media_type: u.mediaType,
    width: u.width,
    height: u.height,
    bytes: u.bytes,
    sha256: u.sha256,
    created_at: toTimestamp(u.createdAt),
    expires_at: toTimestamp(u.usedAt + UPLOAD_KEPT_MS),
  };
}

// How bytes leave a hosted double: as they are, or endless, or one by one, or cut short.

import type { ServerResponse } from 'node:http';
import { send } from '../listener.ts';
import { type PaceClock, pauseOn } from '../pace.ts';
import type { FileBytes } from '../pictures.ts';
import type { Job } from './jobs.ts';

export const HUGE_BYTES = 500 * 1024 * 1024;
const CHUNK = Buffer.alloc(1024 * 1024, 0x41);
const DRIP_MS = 1000;

export interface Parcel extends FileBytes {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
}

/** Misdelivers as the job's fate has it. Ends when the signal aborts. */
export async function deliver(
  res: ServerResponse,
  { status, parts, mime, headers = {} }: Parcel,
  fate: Job['fate'],
  { clock, signal }: { readonly clock: PaceClock; readonly signal: AbortSignal },
): Promise<void> {
  const whole = () => Buffer.concat([...parts]);
  const head = (length: number) =>
    res.writeHead(status, { 'content-type': mime, ...headers, 'content-length': String(length) });
  const drip = fate.get('slow_drip');
  if (fate.has('huge_image')) {
    head(HUGE_BYTES);
    await pour(res, whole());
  } else if (drip) {
    const bytes = whole();
    head(bytes.length);
    const pause = pauseOn(clock);
    for (const byte of bytes) {
      res.write(Buffer.from([byte]));
      const gone = await pause(drip.ms ?? DRIP_MS, signal).then(
        () => false,
        () => true,
      );
      if (gone) return;
    }
    res.end();
  } else if (fate.has('truncated_file')) {
    const bytes = whole();
    head(bytes.length);
    res.write(bytes.subarray(0, Math.floor(bytes.length / 2)), () => res.destroy());
  } else send(res, status, parts, { 'content-type': mime, ...headers });
}

/** The file, then filling, as fast as the reader takes it and as long as it does. */
async function pour(res: ServerResponse, first: Buffer): Promise<void> {
  let left = HUGE_BYTES - first.length;
  res.write(first);
  while (left > 0 && !res.destroyed) {
    const chunk = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK;
    left -= chunk.length;
    if (res.write(chunk)) continue;
    await new Promise<void>((resolve) => {
      const go = () => {
        res.off('drain', go).off('close', go);
        resolve();
      };
      res.once('drain', go).once('close', go);
    });
  }
  res.end();
}

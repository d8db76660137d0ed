// Bytes: verified, hashed, converted and thumbnailed in worker threads, kept content-addressed, reached by signed links.

import { join } from 'node:path';
import type { Readable } from 'node:stream';
import type { InputRef } from '../domain/params.ts';
import type { System } from '../system/system.ts';
import { type Blobs, openBlobs } from './blobs.ts';
import { accept, type Ingested, type IngestOptions, ingest } from './ingest.ts';
import { createLinks, type Links } from './links.ts';
import { createPool } from './pool.ts';
import { openStaging } from './staging.ts';
import { createThumbnails } from './thumbnails.ts';

export type { BlobStat, Blobs } from './blobs.ts';
export type { Ingested, IngestOptions } from './ingest.ts';
export { dataUrlToStream, fetchInput } from './inputs.ts';
export type { Link, Links } from './links.ts';
export type { Provenance } from './provenance.ts';

export interface Media {
  /** Opening a thumbnail that is not made yet makes it. */
  readonly blobs: Blobs;
  readonly links: Links;
  /**
   * Stores one result: streams it to a staging file, decodes it to prove it is whole, takes foreign text chunks out and
   * ours in, converts, renames into place (fsync before).
   * Throws GatewayError: `node_lost` (broken download, truncated, HTML, undecodable: worth another download, then another node), `model_error` (a
   * good file of another kind), `too_large` (beyond 512 MB), `internal` (our disk); the signal's reason when aborted.
   */
  ingest(open: (signal: AbortSignal) => Promise<Readable>, options: IngestOptions): Promise<Ingested>;
  /** Stores a caller's input picture (upload, data: URL, fetched URL). Sniffed, ≤ 64 MB and ≤ 64 megapixels. Throws GatewayError `invalid_request` / `too_large`. */
  accept(bytes: Readable, signal: AbortSignal): Promise<Extract<InputRef, { kind: 'blob' }>>;
  /** Removes staging leftovers of a crashed process. Call it before the first file. */
  recover(): Promise<void>;
  /** Ends the worker threads; work in them fails. */
  close(): Promise<void>;
}

export interface MediaOptions {
  /** Holds `staging/` and `blobs/`, which must be on one file system. */
  readonly directory: string;
  readonly system: System;
  /** Signs the links. */
  readonly secret: string;
  /** Worker threads. Default: cores, at most 4. */
  readonly workers?: number;
}

/** Opens the store in `directory`, making it where it is missing. */
export async function openMedia({ directory, system, secret, workers }: MediaOptions): Promise<Media> {
  const staging = await openStaging(join(directory, 'staging'), system.random);
  const blobs = await openBlobs(join(directory, 'blobs'), system.clock);
  const pool = createPool({ clock: system.clock, workers });
  const thumbnails = createThumbnails({ blobs, pool, staging, clock: system.clock, log: system.log });
  const room = { staging, pool, blobs, thumbnails };
  return {
    blobs: thumbnails.blobs,
    links: createLinks(secret),
    ingest: (open, options) => ingest(room, open, options),
    accept: (bytes, signal) => accept(room, bytes, signal),
    recover: () => staging.clear(),
    async close() {
      thumbnails.close();
      await pool.close();
    },
  };
}

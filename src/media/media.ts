// Bytes: verified, hashed, converted and thumbnailed in worker threads, kept content-addressed, reached by signed links.

import type { Readable } from 'node:stream';
import type { Kind } from '../domain/model.ts';
import type { InputRef, OutputOptions } from '../domain/params.ts';
import type { Bytes, Millis } from '../domain/units.ts';

/** What is written into the file and beside it. */
export interface Provenance {
  readonly generation: string;
  readonly model: string;
  readonly prompt: string;
  readonly negativePrompt: string | null;
  readonly seed: number;
  readonly steps: number | null;
  readonly guidance: number | null;
  readonly node: string;
  readonly workflowHash: string | null;
  readonly createdAt: string;
  readonly software: string;
}

export interface IngestOptions {
  readonly signal: AbortSignal;
  /** What the model makes; the bytes must be of that kind. */
  readonly expect: Kind;
  readonly output: OutputOptions;
  /** null: bytes stay exactly as they came. */
  readonly provenance: Provenance | null;
}

/** A result in our store. Keys are opaque to everyone but the blob store. */
export interface Ingested {
  readonly kind: Kind | 'text';
  readonly mediaType: string;
  readonly width: number | null;
  readonly height: number | null;
  readonly bytes: Bytes;
  readonly sha256: string;
  readonly blob: string;
  readonly original: string;
  readonly thumbnail: string | null;
}

export interface BlobStat {
  readonly bytes: Bytes;
  readonly mediaType: string;
}

/** Where blobs live. Local files now; an S3-compatible store is the same interface. Keys are `<sha256>.<ext>`. */
export interface Blobs {
  stat(key: string): Promise<BlobStat | null>;
  /** `range`: inclusive byte offsets. Throws GatewayError('not_found'). */
  open(key: string, range?: { readonly start: number; readonly end: number }): Promise<Readable>;
  /** A local path of the blob for workers and uploads (fetched to scratch where the store is remote). */
  path(key: string): Promise<string>;
  remove(key: string): Promise<void>;
  /** Sum of all blobs, from a running count. */
  usedBytes(): Promise<Bytes>;
}

export interface Link {
  readonly generation: string;
  readonly index: number;
  readonly what: 'output' | 'thumbnail';
  readonly expiresAt: Millis;
}

export interface Links {
  /** Path and query (`/v1/outputs/gen_…/0?expires=…&signature=…`); the door puts its base URL in front. */
  sign(link: Link): string;
  /** Constant-time. False when forged or past `now`. */
  verify(link: Link, signature: string, now: Millis): boolean;
}

export interface Media {
  readonly blobs: Blobs;
  readonly links: Links;
  /**
   * Stores one result: streams it to a staging file, decodes it to prove it is whole, takes foreign text chunks out and
   * ours in, converts, thumbnails, renames into place (fsync before).
   * Throws GatewayError: `node_lost` (truncated, HTML, undecodable: the node's fault, try elsewhere), `too_large`.
   */
  ingest(open: (signal: AbortSignal) => Promise<Readable>, options: IngestOptions): Promise<Ingested>;
  /** Stores a caller's input picture (upload, data: URL, fetched URL). Sniffed, ≤ 64 MB and ≤ 64 megapixels. Throws GatewayError `invalid_request` / `too_large`. */
  accept(bytes: Readable, signal: AbortSignal): Promise<Extract<InputRef, { kind: 'blob' }>>;
  /** Removes staging leftovers of a crashed process. */
  recover(): Promise<void>;
  close(): Promise<void>;
}

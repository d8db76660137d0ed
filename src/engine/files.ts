// Files that doors serve and that time takes away: outputs behind signed links, uploads, and the sweep by age and quota.
// The record of a generation stays when its files go.

import type { Readable } from 'node:stream';
import { GatewayError } from '../domain/failure.ts';
import type { Generation, Output } from '../domain/generation.ts';
import type { GenerationId, Millis, WorkspaceId } from '../domain/units.ts';
import type { BlobStat } from '../media/media.ts';
import type { SweepRow, Upload } from '../store/store.ts';
import { type Loop, startLoop } from '../system/system.ts';
import type { Rooms } from './rooms.ts';

export interface FileToServe {
  readonly stat: BlobStat;
  readonly output: Output;
  open(range?: { readonly start: number; readonly end: number }): Promise<Readable>;
}

const SWEEP_EVERY_MS = 60_000;
const SWEEP_PAGE = 200;
const UPLOAD_KEPT_MS = 24 * 3_600_000;
const EVENTS_KEPT_MS = 30 * 24 * 3_600_000;

/** Finds the file behind a signed link. Throws GatewayError 'forbidden' or 'not_found'. */
export async function fileBehind(
  { media, store, system }: Rooms,
  link: {
    readonly id: GenerationId;
    readonly index: number;
    readonly what: 'output' | 'thumbnail';
    readonly expires: Millis;
  },
  signature: string,
): Promise<FileToServe> {
  const { id, index, what, expires } = link;
  if (!media.links.verify({ generation: id, index, what, expiresAt: expires }, signature, system.clock.now())) {
    throw new GatewayError('forbidden', 'This link is not valid, or has expired.');
  }
  const g = await store.generations.get(id);
  const output = g?.state.status === 'succeeded' ? g.state.outputs[index] : undefined;
  const key = what === 'output' ? output?.blob : output?.thumbnail;
  if (output === undefined || key === null || key === undefined || (await store.files.swept(id))) throw gone();
  const stat = await media.blobs.stat(key);
  if (stat === null) throw gone();
  return { stat, output, open: (range) => media.blobs.open(key, range) };
}

const gone = () => new GatewayError('not_found', 'The file is gone: old files are swept, the record stays.');

/** Keeps an input picture for a workspace, however it came: 24 hours after its last use it is swept. */
export async function keepInput(
  { media, store, system }: Rooms,
  workspaceId: WorkspaceId,
  bytes: Readable,
  signal: AbortSignal,
): Promise<Upload> {
  const { blob, sha256, mediaType, width, height, bytes: size } = await media.accept(bytes, signal);
  const now = system.clock.now();
  const made: Upload = {
    id: `upl_${system.random.ulid(now)}`,
    workspaceId,
    blob,
    sha256,
    mediaType,
    width,
    height,
    bytes: size,
    createdAt: now,
    usedAt: now,
  };
  await store.files.createUpload(made);
  return made;
}

export interface Sweeper {
  /** Was this generation's file swept? Cheap while nothing ever was. */
  remember(g: Generation): Promise<void>;
  swept(id: GenerationId): boolean;
  stop(): Promise<void>;
}

/** Known answers kept; older ones are asked again. */
const REMEMBERED = 20_000;

export async function startSweeper({ media, store, system, settings }: Rooms): Promise<Sweeper> {
  const { clock, log } = system;
  let ever = (await store.meta.get('swept')) !== null;
  const known = new Set<GenerationId>();

  const note = (id: GenerationId) => {
    known.add(id);
    if (known.size > REMEMBERED) known.delete(known.values().next().value as GenerationId);
  };
  const sweepOne = async (row: SweepRow) => {
    if (!ever) await store.meta.remember('swept', 'yes');
    ever = true;
    for (const blob of await store.files.forgetFiles(row.generationId, clock.now())) await media.blobs.remove(blob);
    note(row.generationId);
    log.info({ generation: row.generationId }, 'swept files');
  };
  const tooOld = (row: SweepRow) =>
    settings.retentionMs !== null && row.finishedAt < clock.now() - settings.retentionMs;
  const overQuota = async () => settings.quotaBytes !== null && (await media.blobs.usedBytes()) > settings.quotaBytes;

  const loop: Loop = startLoop({
    name: 'sweep',
    clock,
    log,
    async tick(signal) {
      for (const blob of await store.files.sweepUploads(clock.now() - UPLOAD_KEPT_MS)) await media.blobs.remove(blob);
      await store.events.prune(clock.now() - EVENTS_KEPT_MS);
      if (settings.retentionMs === null && settings.quotaBytes === null) return SWEEP_EVERY_MS;
      const rows = await store.files.sweepable(SWEEP_PAGE);
      for (const row of rows) {
        if (signal.aborted || !(tooOld(row) || (await overQuota()))) return SWEEP_EVERY_MS;
        await sweepOne(row);
      }
      return rows.length === SWEEP_PAGE ? 0 : SWEEP_EVERY_MS;
    },
  });
  return {
    swept: (id) => known.has(id),
    async remember(g) {
      if (!ever || g.state.status !== 'succeeded' || known.has(g.id) || !(await store.files.swept(g.id))) return;
      note(g.id);
    },
    stop: () => loop.stop(),
  };
}

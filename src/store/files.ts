// Records of bytes that lie elsewhere: uploads, and outputs whose files may be swept. Blobs are handed back for deletion
// only when nothing refers to them any more, and never while work under way still needs them as its input.

import { sql } from 'kysely';
import type { Bytes, GenerationId, Millis, WorkspaceId } from '../domain/units.ts';
import type { Database } from './database.ts';
import { outputBlobs } from './references.ts';
import { toGeneration } from './rows.ts';
import type { GenerationRow, UploadRow } from './schema.ts';
import type { Transaction } from './transaction.ts';
import type { Writer } from './writer.ts';

export interface Upload {
  /** `upl_` + ULID. */
  readonly id: string;
  readonly workspaceId: WorkspaceId;
  readonly blob: string;
  readonly sha256: string;
  readonly mediaType: string;
  readonly width: number;
  readonly height: number;
  readonly bytes: Bytes;
  readonly createdAt: Millis;
  readonly usedAt: Millis;
}

/** A finished output whose files may be swept. */
export interface SweepRow {
  readonly generationId: GenerationId;
  readonly finishedAt: Millis;
  readonly blobs: readonly string[];
}

export interface Files {
  createUpload(upload: Upload): Promise<void>;
  /** Marks it used. */
  upload(workspaceId: WorkspaceId, id: string, now: Millis): Promise<Upload | null>;
  /** Deletes records of uploads unused since; returns the blobs nobody else refers to. Those that waiting work needs stay. */
  sweepUploads(unusedSince: Millis): Promise<readonly string[]>;
  /** Oldest finished outputs that still have files, except those that waiting work needs. */
  sweepable(limit: number): Promise<readonly SweepRow[]>;
  /** Records that a generation's files are gone; returns the blobs nobody else refers to. */
  forgetFiles(id: GenerationId, at: Millis): Promise<readonly string[]>;
  /** Are this generation's files gone? */
  swept(id: GenerationId): Promise<boolean>;
}

/** Uploads swept at a time. */
const SWEEP = 1_000;
const alone = { weight: 1, needs: { workspaces: [], keys: [], claims: [] } };

export function createFiles({ read }: Database, writer: Writer): Files {
  return {
    createUpload: (upload) =>
      writer.submit({
        ...alone,
        async run(tx) {
          await tx.db.insertInto('uploads').values(uploadRow(upload)).execute();
          tx.refer([{ blob: upload.blob, owner: upload.id, role: 'upload' }]);
        },
      }),
    upload: (workspaceId, id, now) =>
      writer.submit({
        ...alone,
        async run({ db }) {
          const mine = db.updateTable('uploads').set({ used_at: now }).where('id', '=', id);
          const row = await mine.where('workspace_id', '=', workspaceId).returningAll().executeTakeFirst();
          return row === undefined ? null : toUpload(row);
        },
      }),
    async sweepUploads(unusedSince) {
      const freed: string[] = [];
      for (;;) {
        const step = await writer.submit({ ...alone, run: (tx) => sweepSome(tx, unusedSince) });
        freed.push(...step.blobs);
        if (step.uploads < SWEEP) return freed;
      }
    },
    async sweepable(limit) {
      const { rows } = await sql<Pick<GenerationRow, 'id' | 'finished_at' | 'submitted' | 'changes'>>`
        select g.id, g.finished_at, g.submitted, g.changes from generations g
        where g.status = 'succeeded' and g.swept_at is null and not exists (
          select 1 from blob_refs mine join blob_refs needed on needed.blob = mine.blob and needed.role = 'input'
          where mine.owner = g.id and mine.role = 'output')
        order by g.finished_at, g.id limit ${limit}`.execute(read);
      return rows.map((row) => ({
        generationId: row.id,
        finishedAt: row.finished_at ?? 0,
        blobs: outputBlobs(toGeneration(row)),
      }));
    },
    forgetFiles: (id, at) => writer.submit({ ...alone, run: (tx) => forget(tx, id, at) }),
    async swept(id) {
      const row = await read.selectFrom('generations').select('swept_at').where('id', '=', id).executeTakeFirst();
      return row !== undefined && row.swept_at !== null;
    },
  };
}

async function forget(tx: Transaction, id: GenerationId, at: Millis): Promise<readonly string[]> {
  await tx.flush();
  const unswept = tx.db
    .updateTable('generations')
    .set({ swept_at: at })
    .where('id', '=', id)
    .where('swept_at', 'is', null);
  await unswept.where('status', '=', 'succeeded').execute();
  const refs = await tx.db
    .deleteFrom('blob_refs')
    .where('owner', '=', id)
    .where('role', '=', 'output')
    .returning('blob')
    .execute();
  return unreferred(tx, refs);
}

async function sweepSome(tx: Transaction, unusedSince: Millis) {
  await tx.flush();
  const { rows } = await sql<Pick<UploadRow, 'id'>>`
    delete from uploads where id in (
      select u.id from uploads u where u.used_at < ${unusedSince} and not exists (
        select 1 from blob_refs needed where needed.blob = u.blob and needed.role = 'input')
      order by u.used_at, u.id limit ${SWEEP}) returning id`.execute(tx.db);
  if (rows.length === 0) return { uploads: 0, blobs: [] };
  const owners = rows.map((row) => row.id);
  const refs = await tx.db.deleteFrom('blob_refs').where('owner', 'in', owners).returning('blob').execute();
  return { uploads: rows.length, blobs: await unreferred(tx, refs) };
}

/** Those of these blobs that no reference is left to. */
async function unreferred(tx: Transaction, refs: readonly { readonly blob: string }[]): Promise<readonly string[]> {
  const blobs = [...new Set(refs.map((ref) => ref.blob))];
  if (blobs.length === 0) return [];
  const held = await tx.db.selectFrom('blob_refs').select('blob').distinct().where('blob', 'in', blobs).execute();
  const holding = new Set(held.map((row) => row.blob));
  return blobs.filter((blob) => !holding.has(blob));
}

const uploadRow = (u: Upload): UploadRow => ({
  id: u.id,
  workspace_id: u.workspaceId,
  blob: u.blob,
  sha256: u.sha256,
  media_type: u.mediaType,
  width: u.width,
  height: u.height,
  bytes: u.bytes,
  created_at: u.createdAt,
  used_at: u.usedAt,
});

const toUpload = (row: UploadRow): Upload => ({
  id: row.id,
  workspaceId: row.workspace_id,
  blob: row.blob,
  sha256: row.sha256,
  mediaType: row.media_type,
  width: row.width,
  height: row.height,
  bytes: row.bytes,
  createdAt: row.created_at,
  usedAt: row.used_at,
});

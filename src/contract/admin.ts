// Workspaces and keys on the wire. The text of a key is in one answer, the one that made it.

import { z } from 'zod';
import { type Key, SCOPES, type Workspace } from '../domain/caller.ts';
import { toCredits, toTimestamp } from '../domain/units.ts';
import { CreditsBody } from './credits.ts';
import { CreditAmount } from './generations.ts';
import { listOf } from './lists.ts';

const perMinute = z.int().min(1).max(1_000_000).nullable();
const name = z.string().min(1).max(200);

export const WorkspaceRequest = z
  .strictObject({
    name,
    credits: CreditAmount.nonnegative().default(0).describe('What it starts with.'),
    limits: z
      .strictObject({
        concurrency: z.int().min(1).max(10_000).optional().describe('Generations that may run at once; more wait.'),
        queue: z
          .int()
          .min(1)
          .max(10_000_000)
          .optional()
          .describe('Generations that may wait; more are refused with 429.'),
        requests_per_minute: perMinute.optional().describe('Of all its keys together; null: no limit.'),
      })
      .default({}),
    provenance: z.boolean().optional().describe('Write provenance into files; as the gateway does by default.'),
  })
  .meta({ id: 'WorkspaceRequest' });

export const WorkspaceBody = z
  .object({
    id: z.string(),
    name: z.string(),
    created_at: z.iso.datetime(),
    limits: z.object({ concurrency: z.int(), queue: z.int(), requests_per_minute: z.int().nullable() }),
    provenance: z.boolean(),
  })
  .meta({ id: 'Workspace' });
export const WorkspaceAnswer = WorkspaceBody.extend({ credits: CreditsBody }).meta({ id: 'WorkspaceAnswer' });
export const WorkspaceList = listOf(WorkspaceBody).meta({ id: 'WorkspaceList' });

export const KeyRequest = z
  .strictObject({
    name,
    scopes: z
      .array(z.enum(SCOPES))
      .min(1)
      .max(SCOPES.length)
      .default(['generate', 'read'])
      .describe('`generate` includes reading its own workspace, `admin` everything.'),
    models: z
      .array(z.string().min(1).max(200))
      .min(1)
      .max(200)
      .nullable()
      .default(null)
      .describe('Ids or aliases it may use; null: all.'),
    expires_at: z.iso.datetime({ offset: true }).nullable().default(null).describe('In the future; null: never.'),
    requests_per_minute: perMinute.default(null).describe('Null: no limit of its own.'),
    spend_cap: CreditAmount.nonnegative()
      .nullable()
      .default(null)
      .describe('Credits it may spend in all; null: no cap.'),
  })
  .meta({ id: 'KeyRequest' });
export type KeyRequest = z.infer<typeof KeyRequest>;

export const KeyBody = z
  .object({
    id: z.string(),
    workspace_id: z.string(),
    name: z.string(),
    scopes: z.array(z.enum(SCOPES)),
    models: z.array(z.string()).nullable(),
    expires_at: z.iso.datetime().nullable(),
    requests_per_minute: z.int().nullable(),
    spend_cap: z.number().nullable(),
    created_at: z.iso.datetime(),
  })
  .meta({ id: 'Key' });
export const KeyAnswer = KeyBody.extend({ key: z.string().describe('Shown once.') }).meta({ id: 'KeyAnswer' });
export const KeyList = listOf(KeyBody).meta({ id: 'KeyList' });

export function renderWorkspace(w: Workspace): z.infer<typeof WorkspaceBody> {
  return {
    id: w.id,
    name: w.name,
    created_at: toTimestamp(w.createdAt),
    limits: {
      concurrency: w.limits.concurrency,
      queue: w.limits.queue,
      requests_per_minute: w.limits.requestsPerMinute,
    },
    provenance: w.provenance,
  };
}

export function renderKey(k: Key): z.infer<typeof KeyBody> {
  return {
    id: k.id,
    workspace_id: k.workspaceId,
    name: k.name,
    scopes: [...k.scopes],
    models: k.models === null ? null : [...k.models],
    expires_at: k.expiresAt === null ? null : toTimestamp(k.expiresAt),
    requests_per_minute: k.requestsPerMinute,
    spend_cap: k.spendCap === null ? null : toCredits(k.spendCap),
    created_at: toTimestamp(k.createdAt),
  };
}

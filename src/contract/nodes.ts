// A node on the wire: the object of `config/darkroom.yaml` going in, the same without secrets and with its state coming out.

import { z } from 'zod';
import { FAILURE_CODES, type FailureCode } from '../domain/failure.ts';
import { HOSTED_BACKENDS, isHosted, LOCAL_BACKENDS, type LocalBackend } from '../domain/model.ts';
import type { NodeReport, NodeSpec, NodeStatus } from '../domain/node.ts';
import { type Millis, toTimestamp } from '../domain/units.ts';
import { BaseUrl } from './base-url.ts';
import { listOf } from './lists.ts';

/** What comes out is a NodeSpec. The built-in `sketch` is no node to be added: a setting switches it. */
export const NodeRequest = z
  .strictObject({
    id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, {
      error: 'expected letters, digits, dot, dash or _, beginning with a letter or digit',
    }),
    kind: z.enum(LOCAL_BACKENDS).exclude(['sketch']),
    url: BaseUrl,
    labels: z
      .array(z.string().min(1).max(64))
      .max(32)
      .default([])
      .describe('A route goes to nodes that have all of its labels.'),
    auth: z
      .strictObject({ username: z.string().min(1).max(200), password: z.string().max(500) })
      .nullable()
      .default(null),
    slots: z.int().min(1).max(64).default(1).describe('Attempts that may render at once.'),
  })
  .meta({ id: 'NodeRequest' });

export const NodeBody = z
  .object({
    id: z.string(),
    kind: z.enum(LOCAL_BACKENDS),
    url: z.string(),
    labels: z.array(z.string()),
    slots: z.int(),
    source: z.enum(['config', 'runtime', 'builtin']),
    status: z.enum(['online', 'offline', 'draining', 'wedged']),
    why: z.string().nullable().describe('Why it is not online.'),
    since: z.iso.datetime(),
    running: z.int(),
    flavour: z.string().nullable(),
    version: z.string().nullable(),
    device: z.string().nullable(),
    memory: z.object({ total_bytes: z.int(), free_bytes: z.int() }).nullable(),
    checkpoints: z.array(z.string()).nullable().describe('Null: this server does not tell.'),
    loras: z.array(z.string()).nullable(),
    samplers: z.array(z.string()).nullable(),
    schedulers: z.array(z.string()).nullable(),
  })
  .meta({ id: 'Node' });

/** An account at a hosted provider: no token, ever. */
export const AccountBody = z
  .object({
    id: z.string(),
    kind: z.enum(HOSTED_BACKENDS),
    circuit: z.object({
      state: z.enum(['closed', 'open', 'half_open']),
      reason: z
        .string()
        .nullable()
        .describe('Why nothing goes there, or, half open, why one generation at a time tries it.'),
      code: z.enum(FAILURE_CODES).nullable().describe('The failure that opened it.'),
      since: z.iso.datetime(),
    }),
    draining: z.boolean().describe('An operator drained it: it gets no new work, however its circuit is.'),
    slots: z.int().describe('Generations in flight at once.'),
  })
  .meta({ id: 'Account' });
export const MemberBody = z.union([NodeBody, AccountBody]);
export const NodeList = listOf(MemberBody).meta({ id: 'NodeList' });
export type NodeBody = z.infer<typeof NodeBody>;
export type AccountBody = z.infer<typeof AccountBody>;
export type MemberBody = z.infer<typeof MemberBody>;

export interface NodeNow {
  readonly spec: NodeSpec;
  readonly source: 'config' | 'runtime' | 'builtin';
  readonly status: NodeStatus;
  readonly why: string | null;
  readonly report: NodeReport | null;
  readonly running: number;
  readonly since: Millis;
  /** closed: work may go there. */
  readonly breaker?: 'closed' | 'open' | 'half_open';
  readonly opened?: string | null;
  readonly openedBy?: FailureCode | null;
}

const listed = (list: readonly string[] | null | undefined) => (list ? [...list] : null);

export function renderNode({ spec, source, status, why, report, running, since }: NodeNow): NodeBody {
  const memory = report?.memory;
  return {
    id: spec.id,
    kind: spec.kind as LocalBackend,
    url: spec.url,
    labels: [...spec.labels],
    slots: spec.slots,
    source,
    status,
    why,
    since: toTimestamp(since),
    running,
    flavour: report?.flavour ?? null,
    version: report?.version ?? null,
    device: report?.device ?? null,
    memory: memory ? { total_bytes: memory.totalBytes, free_bytes: memory.freeBytes } : null,
    checkpoints: listed(report?.checkpoints),
    loras: listed(report?.loras),
    samplers: listed(report?.samplers),
    schedulers: listed(report?.schedulers),
  };
}

/** A node, or an account where its kind is hosted. */
export function renderMember(now: NodeNow): MemberBody {
  const { spec, status, why, since, breaker, opened = null, openedBy = null } = now;
  if (!isHosted(spec.kind)) return renderNode(now);
  const draining = status === 'draining';
  const reason = opened ?? (draining ? null : why);
  return {
    id: spec.id,
    kind: spec.kind,
    circuit: { state: breaker ?? 'closed', reason, code: openedBy, since: toTimestamp(since) },
    draining,
    slots: spec.slots,
  };
}

// A node on the wire: the object of `config/darkroom.yaml` going in, the same without secrets and with its state coming out.

import { z } from 'zod';
import { LOCAL_BACKENDS } from '../domain/model.ts';
import type { NodeReport, NodeSpec, NodeStatus } from '../domain/node.ts';
import { type Millis, toTimestamp } from '../domain/units.ts';

const baseUrl = z
  .url({ protocol: /^https?$/, error: 'expected an http(s) URL' })
  .max(2000)
  .refine((url) => !/^https?:\/\/[^/]*@/i.test(url), { message: 'expected credentials in auth, not in the URL' });

export const NodeRequest = z
  .strictObject({
    id: z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, { message: 'expected letters, digits, dot, dash or _' }),
    kind: z.enum(LOCAL_BACKENDS),
    url: baseUrl.optional().describe('Base URL; only sketch has none.'),
    labels: z.array(z.string().min(1).max(64)).max(32).default([]),
    auth: z.strictObject({ username: z.string().max(200), password: z.string().max(500) }).optional(),
    slots: z.int().min(1).max(64).default(1).describe('Attempts that may render at once.'),
  })
  .refine((node) => node.kind === 'sketch' || node.url !== undefined, {
    path: ['url'],
    message: 'expected the base URL of the node',
  })
  .meta({ id: 'NodeRequest' });

export function toNodeSpec(node: z.infer<typeof NodeRequest>): NodeSpec {
  return {
    id: node.id,
    kind: node.kind,
    url: (node.url ?? '').replace(/\/+$/, ''),
    labels: node.labels,
    auth: node.auth ?? null,
    slots: node.slots,
  };
}

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
export type NodeBody = z.infer<typeof NodeBody>;

export interface NodeNow {
  readonly spec: NodeSpec;
  readonly source: 'config' | 'runtime' | 'builtin';
  readonly status: NodeStatus;
  readonly why: string | null;
  readonly report: NodeReport | null;
  readonly running: number;
  readonly since: Millis;
}

const listed = (list: readonly string[] | null | undefined) => (list ? [...list] : null);

export function renderNode({ spec, source, status, why, report, running, since }: NodeNow): NodeBody {
  const memory = report?.memory;
  return {
    id: spec.id,
    kind: spec.kind,
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

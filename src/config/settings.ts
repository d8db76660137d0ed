// The shape of darkroom.yaml, with its defaults. Strict: an unknown key is refused by name and line. ${NAME} in a value
// stands for an environment variable ($${NAME} for itself); one that is not set is refused, so that a node is never
// asked with an empty password.

import { basename } from 'node:path';
import { z } from 'zod';
import { BaseUrl } from '../contract/base-url.ts';
import { NodeRequest } from '../contract/nodes.ts';
import { BlocklistError, createBlocklist } from '../domain/blocklist.ts';
import { DEFAULT_LIMITS } from '../domain/caller.ts';
import { HOSTED_BACKENDS } from '../domain/model.ts';
import { DEFAULT_POLICY } from '../domain/placement.ts';
import { toMillicredits } from '../domain/units.ts';
import { checkYaml, readYaml } from '../system/system.ts';
import { AddressRange, DatabaseUrl, LOG_LEVELS, NodeUrl, numeric, Port, Secret, Switch } from './fields.ts';

const text = (max: number) => z.string().min(1).max(max);

const { id, slots } = NodeRequest.shape;
const NodeText = NodeRequest.extend({
  id: id.refine((it) => it !== 'sketch', { error: 'expected another id: sketch is the built-in node' }),
  url: NodeUrl,
  slots: numeric(slots),
});

/** Shares its ids with the nodes. */
const AccountText = z.strictObject({
  id: id.refine((it) => it !== 'sketch', { error: 'expected another id: sketch is the built-in node' }),
  kind: z.enum(HOSTED_BACKENDS),
  token: Secret,
  slots: numeric(z.int().min(1).max(1000)).default(4),
  base_url: NodeUrl.nullable().default(null),
});

const unique = <T extends { readonly id: string }>(list: readonly T[], context: z.core.$RefinementCtx): void => {
  list.forEach((item, i) => {
    if (list.findIndex((other) => other.id === item.id) < i) {
      context.addIssue({
        code: 'custom',
        path: [i, 'id'],
        message: `expected an id of its own; "${item.id}" stands above`,
      });
    }
  });
};

type Named = readonly { readonly id: string }[];

/** Attempts, routes and operators name a node or an account by its id alone. */
const apart = (
  { nodes, accounts }: { readonly nodes: Named; readonly accounts: Named },
  context: z.core.$RefinementCtx,
): void => {
  accounts.forEach(({ id }, i) => {
    if (!nodes.some((node) => node.id === id)) return;
    const message = `expected an id of its own; "${id}" is the id of a node`;
    context.addIssue({ code: 'custom', path: ['accounts', i, 'id'], message });
  });
};

const usable = (entries: readonly string[], context: z.core.$RefinementCtx): void => {
  try {
    createBlocklist(entries);
  } catch (error) {
    if (!(error instanceof BlocklistError)) throw error;
    context.addIssue({ code: 'custom', path: [error.index], message: error.message });
  }
};

const credits = numeric(z.number().min(0).max(1e12)).transform((amount, context) => {
  try {
    return toMillicredits(amount);
  } catch {
    context.addIssue({ code: 'custom', message: 'expected credits with at most 3 decimals' });
    return z.NEVER;
  }
});

const overflow = numeric(z.number().min(0).max(86_400)).nullable();

const blocked = z.array(z.string()).superRefine(usable);

const SettingsFields = z.strictObject({
  host: text(253).default('127.0.0.1'),
  port: Port.default(8787),
  data: text(4096).default('./data'),
  models: text(4096).optional(),
  admin_key: Secret.optional(),
  public_url: BaseUrl.optional(),
  database_url: DatabaseUrl.optional(),
  log_level: z.enum(LOG_LEVELS).default('info'),
  default_model: text(200).default('sketch'),
  sketch: Switch.default(true),
  nodes: z.array(NodeText).superRefine(unique).default([]),
  accounts: z.array(AccountText).superRefine(unique).default([]),
  outbound: z.strictObject({ allow_private: z.array(AddressRange).default([]) }).prefault({}),
  outputs: z
    .strictObject({
      link_days: numeric(z.number().positive().max(3650)).default(30),
      retention_days: numeric(z.number().positive().max(36_500)).nullable().default(null),
      quota_gb: numeric(z.number().positive()).nullable().default(null),
      provenance: Switch.default(true),
    })
    .prefault({}),
  studio_credits: credits.prefault(1000),
  usd_per_credit: numeric(z.number().min(0).max(1e6)).default(0.01),
  limits: z
    .strictObject({
      concurrency: numeric(z.int().min(1).max(100_000)).default(DEFAULT_LIMITS.concurrency),
      queue: numeric(z.int().min(1).max(10_000_000)).default(DEFAULT_LIMITS.queue),
      requests_per_minute: numeric(z.int().min(1)).nullable().default(DEFAULT_LIMITS.requestsPerMinute),
    })
    .prefault({}),
  policy: z
    .strictObject({
      blocked: blocked.default([]),
      refused_elsewhere: Switch.default(false),
      workspaces: z.record(text(64), z.strictObject({ blocked })).default({}),
    })
    .prefault({}),
  scheduling: z
    .strictObject({
      swap_worth: numeric(z.number().min(0).max(1000)).default(DEFAULT_POLICY.swapWorth),
      patience_seconds: numeric(z.number().positive().max(86_400)).default(DEFAULT_POLICY.patienceMs / 1000),
      overflow_seconds: overflow.default(null),
      workspaces: z.record(text(64), z.strictObject({ overflow_seconds: overflow })).default({}),
      drain_seconds: numeric(z.number().min(0).max(86_400)).default(30),
    })
    .prefault({}),
});
const SettingsFile = SettingsFields.superRefine(apart);
export type Settings = z.infer<typeof SettingsFile>;

/** Throws YamlError. */
export function readSettings(yaml: string, path: string, env: Readonly<Record<string, string | undefined>>): Settings {
  const source = readYaml(yaml, { file: basename(path), replace: (value, fail) => substitute(value, env, fail) });
  return checkYaml({ ...source, data: source.data ?? {} }, SettingsFile);
}

function substitute(
  value: string,
  env: Readonly<Record<string, string | undefined>>,
  fail: (message: string) => never,
): string {
  return value.replace(/(\$?)\$\{([^}]*)\}/g, (whole, escaped: string, name: string) => {
    if (escaped) return whole.slice(1);
    return env[name] ?? fail(`expected the environment variable ${name || '(without a name)'} to be set`);
  });
}

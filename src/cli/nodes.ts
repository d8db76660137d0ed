// `darkroom nodes`: the fleet, boxes and accounts at hosted providers. For operators.

import { Command, Option } from 'commander';
import type { AccountBody, MemberBody, NodeBody } from '../contract/nodes.ts';
import { circuitWord, isAccount, reasonOf } from './account.ts';
import { list as names, wholeNumber } from './arguments.ts';
import { group } from './group.ts';
import { everything } from './paging.ts';
import { remotely, withRemote } from './remote.ts';
import { answer, note, table } from './table.ts';
import { ago, cut, gigabytes, plain, tinted } from './words.ts';

const ROOT = '/v1/nodes';
const pathOf = (id: string, verb = '') => `${ROOT}/${encodeURIComponent(id)}${verb}`;

const list = withRemote(new Command('list').description('every node and account, and how it is')).action(
  remotely(async ({ client, options }) => {
    const page = await everything<MemberBody>(client, ROOT);
    answer(options, page, () => members(page.data));
    if (page.data.length === 0 && !options.json) {
      note('No nodes yet. Add one: darkroom nodes add rack-1 http://10.0.0.11:8188');
    }
    return undefined;
  }),
);

/** Nodes, and below them accounts; those there are. */
function members(all: readonly MemberBody[]): string {
  const accounts = all.filter(isAccount);
  const nodes = all.filter((one) => !isAccount(one));
  return [...(nodes.length > 0 ? [rows(nodes)] : []), ...(accounts.length > 0 ? [circuits(accounts)] : [])].join('\n');
}

const circuits = (accounts: readonly AccountBody[]): string =>
  table(
    ['ACCOUNT', 'CIRCUIT', 'SINCE', 'AT ONCE', 'PROVIDER', ''],
    accounts.map((a) => [
      a.id,
      tinted(circuitWord(a)),
      ago(a.circuit.since),
      String(a.slots),
      a.kind,
      plain(reasonOf(a) ?? ''),
    ]),
  );

const rows = (nodes: readonly NodeBody[]): string =>
  table(
    ['NODE', 'STATUS', 'SINCE', 'RUNS', 'SERVER', 'MEMORY FREE', 'LABELS', ''],
    nodes.map((n) => [
      n.id,
      tinted(n.status),
      ago(n.since),
      `${n.running}/${n.slots}`,
      cut(plain([n.flavour ?? n.kind, n.version].filter(Boolean).join(' ')), 24),
      n.memory ? `${gigabytes(n.memory.free_bytes)} of ${gigabytes(n.memory.total_bytes)}` : '',
      n.labels.join(','),
      plain(n.why ?? n.url),
    ]),
  );

interface NewNode {
  readonly kind: string;
  readonly labels?: readonly string[];
  readonly slots?: number;
  readonly username?: string;
  readonly password?: string;
}

const newNode = new Command('add')
  .description('add a node; it is kept even if it is down')
  .argument('<id>', 'a name for it')
  .argument('<address>', 'http://10.0.0.11:8188')
  .addOption(
    new Option('--kind <kind>', 'what it speaks; sdapi: Automatic1111, Forge, SD.Next')
      .choices(['comfyui', 'sdapi'])
      .default('comfyui'),
  )
  .option('--labels <list>', 'what routes may ask for', names)
  .option('--slots <number>', 'attempts that may render at once', wholeNumber)
  .option('--username <name>', 'where it wants one')
  .option('--password <text>', 'with it (else DARKROOM_NODE_PASSWORD)');

const add = withRemote(newNode).action(
  remotely<NewNode, [string, string]>(async ({ client, options }, id, address) => {
    const { kind, labels, slots, username, password = process.env.DARKROOM_NODE_PASSWORD ?? '' } = options;
    const made = await client.call<NodeBody>('POST', ROOT, {
      id,
      kind,
      url: address,
      ...(labels && { labels }),
      ...(slots !== undefined && { slots }),
      ...(username !== undefined && { auth: { username, password } }),
    });
    answer(options, made, () => rows([made]));
    const hint = otherKind(made, address);
    if (hint !== null && !options.json) note(hint);
    return undefined;
  }),
);

/** It answers, but in another language than it was added with. Null: it does not, or nobody knows. */
function otherKind({ id, kind, status, why }: NodeBody, address: string): string | null {
  if (status !== 'offline' || !/answers, but is not/.test(why ?? '')) return null;
  const other = /so its kind is "(\w+)"/.exec(why ?? '')?.[1] ?? (kind === 'comfyui' ? 'sdapi' : 'comfyui');
  return [
    `It was added as ${kind}, which it does not speak. If it is an ${other} (${KINDS[other] ?? other}):`,
    `  darkroom nodes remove ${id} && darkroom nodes add ${id} ${address} --kind ${other}`,
  ].join('\n');
}

const KINDS: Readonly<Record<string, string>> = { comfyui: 'ComfyUI', sdapi: 'Automatic1111, Forge, SD.Next' };

const act = (verb: 'drain' | 'resume', description: string) =>
  withRemote(new Command(verb).description(description).argument('<id>')).action(
    remotely<object, [string]>(async ({ client, options }, id) => {
      const one = await client.call<MemberBody>('POST', pathOf(id, `/${verb}`));
      answer(options, one, () => members([one]));
      return undefined;
    }),
  );

const remove = withRemote(new Command('remove').description('take it out of the fleet').argument('<id>'))
  .alias('delete')
  .action(
    remotely<object, [string]>(async ({ client, options }, id) => {
      await client.call('DELETE', pathOf(id));
      answer(options, { id, deleted: true }, () => `${id} is gone.\n`);
      return undefined;
    }),
  );

export const nodesCommand = group(
  'nodes',
  'the machines that render (needs an admin key)',
  [
    list,
    add,
    act('drain', 'give it no new work'),
    act('resume', 'give it work again; an account that was topped up is tried at once'),
    remove,
  ],
  `  darkroom nodes add rack-1 http://10.0.0.11:8188 --labels big
  darkroom nodes add rack-2 http://10.0.0.12:7860 --kind sdapi
  darkroom nodes drain rack-1`,
);

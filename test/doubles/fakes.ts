// `npm run fakes`: a small fleet of doubles on loopback ports, and stand-ins of hosted providers, for trying the whole system
// without a GPU and without an account. Prints what to
// paste into config/darkroom.yaml and how to make each node misbehave. Stops cleanly on SIGINT.

import { Command, InvalidArgumentError } from 'commander';
import { type ComfyUiDouble, startComfyUi } from './comfyui/server.ts';
import type { Profile } from './comfyui/settings.ts';
import { HOSTED_KINDS, type HostedDouble, type HostedKind, startHosted } from './hosted/hosted.ts';
import { type Flavour, type SdapiDouble, startSdapi } from './sdapi/server.ts';

interface Options {
  readonly comfyui: number;
  readonly sdapi: number;
  readonly renderMs: number;
  readonly loadMs: number;
  readonly port: number;
  readonly profile: Profile;
  readonly flavour: Flavour;
  readonly image: 'varied' | 'large' | 'small';
  readonly hosted: readonly HostedKind[];
}

interface Account {
  readonly kind: HostedKind;
  readonly double: HostedDouble;
}

interface Node {
  readonly id: string;
  readonly kind: 'comfyui' | 'sdapi';
  readonly double: ComfyUiDouble | SdapiDouble;
}

const whole = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('a whole number, 0 or more');
  return value;
};

const oneOf =
  <T extends string>(...choices: readonly T[]) =>
  (text: string): T => {
    const found = choices.find((choice) => choice === text);
    if (!found) throw new InvalidArgumentError(`one of ${choices.join(', ')}`);
    return found;
  };

const kindsOf = (text: string): readonly HostedKind[] =>
  text === 'all'
    ? HOSTED_KINDS
    : text.split(',').map((kind) => oneOf('all', ...HOSTED_KINDS)(kind.trim()) as HostedKind);

const program = new Command('fakes')
  .description(
    'Start ComfyUI and Automatic1111 servers that need no GPU, and stand-ins of hosted providers, on 127.0.0.1.',
  )
  .option('--comfyui <n>', 'how many ComfyUI nodes', whole, 2)
  .option('--sdapi <n>', 'how many /sdapi nodes', whole, 1)
  .option('--render-ms <ms>', 'how long one picture takes', whole, 4000)
  .option('--load-ms <ms>', 'how long a checkpoint takes to load', whole, 2000)
  .option('--port <p>', 'the first port; the others follow. 0 takes any free ones', whole, 18188)
  .option('--profile <A|B|old>', 'which ComfyUI', oneOf('A', 'B', 'old'), 'A' as const)
  .option(
    '--flavour <name>',
    'which /sdapi server: a1111, forge, sdnext, sdcpp',
    oneOf('a1111', 'forge', 'sdnext', 'sdcpp'),
    'a1111' as const,
  )
  .option(
    '--image <kind>',
    'varied (the asked size), large (1.9 MB) or small (10 KB)',
    oneOf('varied', 'large', 'small'),
    'varied' as const,
  )
  .option('--hosted <kinds>', `providers, at any free ports: all, or some of ${HOSTED_KINDS.join(',')}`, kindsOf, []);

async function startFleet({ comfyui, sdapi, port, profile, flavour, hosted, ...pace }: Options): Promise<Node[]> {
  const at = (i: number) => (port === 0 ? 0 : port + i);
  const nodes: Node[] = [];
  for (let i = 0; i < comfyui; i++) {
    const double = await startComfyUi({ ...pace, profile, port: at(i), previews: true });
    nodes.push({ id: `fake-comfyui-${i + 1}`, kind: 'comfyui', double });
  }
  for (let i = 0; i < sdapi; i++) {
    const double = await startSdapi({ ...pace, flavour, port: at(comfyui + i), previews: true });
    nodes.push({ id: `fake-sdapi-${i + 1}`, kind: 'sdapi', double });
  }
  return nodes;
}

const startAccounts = ({ hosted, renderMs }: Options): Promise<Account[]> =>
  Promise.all(
    hosted.map(async (kind) => ({
      kind,
      double: await startHosted(kind, { pace: { queuedMs: renderMs / 4, runningMs: renderMs } }),
    })),
  );

function describeAccounts(accounts: readonly Account[]): string {
  const [first] = accounts;
  if (first === undefined) return '';
  const origin = new URL(first.double.url).origin;
  return [
    'accounts:',
    ...accounts.map(
      ({ kind, double }) => `  - {id: fake-${kind}, kind: ${kind}, token: "${double.key}", base_url: "${double.url}"}`,
    ),
    'outbound: {allow_private: ["127.0.0.0/8"]}',
    '',
    `# ${first.kind} faults: ${first.double.faults.names.join(' ')}`,
    `curl -d '{"name": "balance"}' ${origin}/__fault      # no money left, until switched off`,
    `curl ${origin}/__log                                 # what it was asked, and what was paid`,
    '',
  ].join('\n');
}

function describe(nodes: readonly Node[]): string {
  const [first] = nodes;
  if (first === undefined) return '';
  const faults = nodes
    .filter(({ kind }, i) => nodes.findIndex((node) => node.kind === kind) === i)
    .map(({ kind, double }) => `# ${kind} faults: ${double.faults.names.join(' ')}`);
  return [
    'nodes:',
    ...nodes.map(({ id, kind, double }) => `  - {id: ${id}, kind: ${kind}, url: "${double.url}"}`),
    '',
    ...faults,
    `curl -d '{"name": "oom", "times": 1}' ${first.double.url}/__fault      # the next job`,
    `curl -d '{"name": "freeze"}' ${first.double.url}/__fault               # until switched off`,
    `curl -d '{"name": "freeze", "on": false}' ${first.double.url}/__fault`,
    `curl -d '' ${first.double.url}/__restart                               # dies, and comes back empty`,
    `curl ${first.double.url}/__log                                         # what the node did`,
    '',
  ].join('\n');
}

const options = program.parse().opts<Options>();
const nodes = await startFleet(options);
const accounts = await startAccounts(options);
if (nodes.length + accounts.length === 0) program.error('nothing to start: ask for at least one node or provider');
process.stdout.write(`# for config/darkroom.yaml\n${describe(nodes)}${describeAccounts(accounts)}`);
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(
    signal,
    () =>
      void Promise.all([...nodes.map(({ double }) => double.stop()), ...accounts.map(({ double }) => double.close())]),
  );
}

// `darkroom doctor`: what is wrong with the settings, the catalog, the workflows and the fleet, and what to do. Looks at
// this machine as `serve` would, and at the gateway where one runs; where none runs it asks the nodes itself.

import { Command } from 'commander';
import type { Config } from '../config.ts';
import type { Finding, Section } from './doctor/finding.ts';
import type { Survey } from './doctor/survey.ts';
import { EXIT } from './failing.ts';
import type { Environment } from './local.ts';
import { isHere, locate, type RemoteOptions, withRemote } from './remote.ts';
import { answer } from './table.ts';
import { count, styled, wrapped } from './words.ts';

const command = new Command('doctor')
  .description('say what is wrong with settings, catalog, workflows and nodes, and what to do')
  .addHelpText(
    'after',
    `
Exit status: 0 when it is usable; 1 when settings, key or database are wrong, a node is away, an account's circuit is
open, or nothing can run.

Examples:
  darkroom doctor                                   this machine, and the gateway on it if one runs
  darkroom doctor --url http://darkroom.lan:8787    a gateway elsewhere`,
  );

export const doctorCommand = withRemote(command).action(async (options: RemoteOptions) => {
  const sections = (await examine(options)).filter((s) => s.findings.length > 0);
  const all = sections.flatMap((s) => s.findings);
  const usable = all.every((f) => f.state !== 'wrong');
  answer(options, { ok: usable, sections }, () => `${sections.map(page).join('\n')}\n${verdict(all)}\n`);
  process.exitCode = usable ? EXIT.done : EXIT.failed;
});

async function examine(options: RemoteOptions): Promise<readonly Section[]> {
  const { checkNode, checkSettings, isGatewayFolder } = await import('./doctor/settings.ts');
  const { config, findings: settings } = checkSettings(process.env, process.cwd());
  const place = await locate(options, config === null ? withoutPort() : { ...process.env, ...asEnvironment(config) });
  const { checkAlive } = await import('./doctor/gateway.ts');
  const { who, findings } = await checkAlive(place.url);
  const inside = who === 'gateway' ? await examineGateway(place) : { findings: [], survey: null };
  const awaited = who === 'nobody' && !place.named;
  const gateway = {
    title: 'Gateway',
    findings: [...(awaited ? findings.map(notRunning) : findings), ...inside.findings],
  };
  const machine = { title: 'This machine', findings: [checkNode()] };
  if (!isOurs(place.url, config)) return [machine, gateway, ...(await judge(inside.survey))];
  if (who === 'gateway' && config !== null && !isGatewayFolder(config, process.env, process.cwd())) {
    return [{ ...machine, findings: [...machine.findings, ELSEWHERE] }, gateway, ...(await judge(inside.survey))];
  }
  const here = config === null ? { findings: [], survey: null } : await examineHere(config, who !== 'gateway');
  return [
    { ...machine, findings: [...machine.findings, ...settings, ...here.findings] },
    gateway,
    ...(await judge(inside.survey ?? here.survey)),
  ];
}

/** Is it the gateway that the settings found here are for? */
const isOurs = (url: string, config: Config | null): boolean =>
  isHere(url) && (config === null || new URL(url).port === String(config.port));

/** A port that the settings refuse has been told of; the gateway is looked for where it is by default. */
function withoutPort(): Environment {
  const { DARKROOM_PORT: _refused, ...env } = process.env;
  return env;
}

const ELSEWHERE: Finding = {
  state: 'ok',
  says: 'settings: none in this folder; run "darkroom doctor" where the gateway was started to have its own checked',
  todo: null,
};

/** So that the gateway of this machine is looked for where its settings say it listens. */
const asEnvironment = ({ port, data, adminKey }: Config): Record<string, string> => ({
  DARKROOM_PORT: String(port),
  DARKROOM_DATA: data,
  ...(adminKey !== null && { DARKROOM_ADMIN_KEY: adminKey }),
});

/** Before the first start nothing is wrong with that. */
const notRunning = (f: Finding): Finding => ({ ...f, state: 'warn' });

async function examineHere(
  config: Config,
  ask: boolean,
): Promise<{ findings: readonly Finding[]; survey: Survey | null }> {
  const [{ checkMachine }, { surveyHere }] = await Promise.all([
    import('./doctor/settings.ts'),
    import('./doctor/survey.ts'),
  ]);
  const [machine, { findings, survey }] = await Promise.all([checkMachine(config), surveyHere(config, ask)]);
  return { findings: [...machine, ...findings], survey };
}

async function examineGateway(
  place: Awaited<ReturnType<typeof locate>>,
): Promise<{ findings: readonly Finding[]; survey: Survey | null }> {
  const [{ checkInside, checkKey }, { surveyGateway }, { createClient }] = await Promise.all([
    import('./doctor/gateway.ts'),
    import('./doctor/survey.ts'),
    import('../client/client.ts'),
  ]);
  const client = createClient({ url: place.url, key: place.key ?? 'none' });
  const { admin, found } = await checkKey(client, place);
  if (!admin) return { findings: [found], survey: null };
  return { findings: [found, ...(await checkInside(client))], survey: await surveyGateway(client) };
}

async function judge(survey: Survey | null): Promise<readonly Section[]> {
  if (survey === null) return [];
  const [{ judgeModels, judgeNodes }, { judgeAccounts }, { judgePrices }] = await Promise.all([
    import('./doctor/fleet.ts'),
    import('./doctor/accounts.ts'),
    import('./doctor/prices.ts'),
  ]);
  return [
    { title: 'Nodes', findings: judgeNodes(survey) },
    { title: 'Accounts', findings: judgeAccounts(survey) },
    { title: 'Models', findings: judgeModels(survey) },
    { title: 'Prices', findings: judgePrices(survey) },
  ];
}

const COLOURS = { ok: 'green', warn: 'yellow', wrong: 'red' } as const;

const INDENT = ' '.repeat(9);

const page = ({ title, findings }: Section): string =>
  `${title}\n${findings.map((f, i) => `  ${styled(COLOURS[f.state], f.state.padEnd(5))}  ${lines(f, findings[i + 1])}\n`).join('')}`;

/** What is to be done about several in a row is said once, after the last. */
const lines = ({ says, todo }: Finding, next: Finding | undefined): string =>
  `${wrapped(says, INDENT)}${todo === null || todo === next?.todo ? '' : `\n${INDENT}→ ${wrapped(todo, `${INDENT}  `)}`}`;

function verdict(all: readonly Finding[]): string {
  const wrongs = all.filter((f) => f.state === 'wrong').length;
  const warns = all.filter((f) => f.state === 'warn').length;
  const look = warns > 0 ? `${count(warns, 'thing')} to look at` : '';
  if (wrongs === 0) return look === '' ? 'All is well.' : `Usable, ${look}.`;
  return `${count(wrongs, 'thing')} ${wrongs === 1 ? 'is' : 'are'} wrong${look && `, ${look}`}.`;
}

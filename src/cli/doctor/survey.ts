// Nodes, accounts and models as they stand: told by a running gateway, or, where none runs, by asking the nodes of the settings
// once, through the same rooms that a gateway is made of. Both come out alike, so that one judgement serves both.

import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCatalog } from '../../catalog/catalog.ts';
import type { Client } from '../../client/client.ts';
import type { Config } from '../../config.ts';
import { type ModelBody, renderModel } from '../../contract/models.ts';
import { type AccountBody, type MemberBody, type NodeBody, renderMember } from '../../contract/nodes.ts';
import { isHosted } from '../../domain/model.ts';
import { viewModel } from '../../engine/gateway.ts';
import { type Fleet, openFleet } from '../../fleet/fleet.ts';
import { accountSpec, BACKENDS } from '../../main.ts';
import { createSystem, YamlError } from '../../system/system.ts';
import { isAccount } from '../account.ts';
import { everything } from '../paging.ts';
import { type Finding, ok, warn, wrong } from './finding.ts';
import { keptNodes } from './kept-nodes.ts';

export interface Survey {
  readonly nodes: readonly NodeBody[];
  readonly accounts: readonly AccountBody[];
  readonly models: readonly ModelBody[];
  readonly usdPerCredit: number;
}

const surveyOf = (members: readonly MemberBody[], models: readonly ModelBody[], usdPerCredit: number): Survey => ({
  nodes: members.filter((one) => !isAccount(one)),
  accounts: members.filter(isAccount),
  models,
  usdPerCredit,
});

/** Of a running gateway. `nodes` needs an admin key. */
export async function surveyGateway(client: Client): Promise<Survey> {
  const [members, models, credits] = await Promise.all([
    everything<MemberBody>(client, '/v1/nodes'),
    everything<ModelBody>(client, '/v1/models'),
    client.credits(),
  ]);
  return surveyOf(members.data, models.data, credits.usd_per_credit);
}

export interface LocalSurvey {
  readonly findings: readonly Finding[];
  /** Null: the catalog cannot be read, or was not to be asked about. */
  readonly survey: Survey | null;
}

/** Reads the catalog of the settings; with `ask`, connects to its nodes, looks once at each and lets go. */
export async function surveyHere(config: Config, ask: boolean): Promise<LocalSurvey> {
  const system = createSystem({ level: 'silent', allowPrivate: config.outbound.allowPrivate });
  const { models, workflows } = config;
  try {
    const catalog = await openCatalog({ models, workflows, ...system, watch: false });
    await catalog.close();
    const { current } = catalog;
    const [size, recipes] = [current.models.size, current.recipes.size];
    const known = current.models.has(config.defaultModel) || current.aliases.has(config.defaultModel);
    const findings = [
      ok(`catalog: ${models}, ${size} models, ${recipes} workflows`),
      ...(known ? [] : [unknownDefault(config)]),
      ...(await looseGraphs(workflows)),
    ];
    if (!ask) return { findings, survey: null };
    const folder = await mkdtemp(join(tmpdir(), 'darkroom-doctor-'));
    const fleet = await openFleet({
      specs: config.accounts.map(accountSpec),
      runtime: { all: async () => [], put: async () => {}, delete: async () => false },
      sketch: config.sketch,
      backends: BACKENDS,
      system,
      directory: folder,
    });
    try {
      await Promise.all([gather(fleet, config), othersThere(fleet)]);
      const seen = [...current.models.values()].map((model) =>
        renderModel(viewModel(catalog, fleet, model), { lists: true }),
      );
      return { findings, survey: surveyOf(fleet.nodes().map(renderMember), seen, config.usdPerCredit) };
    } finally {
      await fleet.stop();
      await rm(folder, { recursive: true, force: true });
    }
  } catch (error) {
    if (!(error instanceof YamlError)) throw error;
    const todo = 'Correct it there; the gateway does not start with it, and a running one keeps its last good catalog.';
    return { findings: error.complaints.map((complaint) => wrong(`catalog: ${complaint}`, todo)), survey: null };
  }
}

/** The nodes of the settings, and those that were added to a gateway while it ran. One whose address is refused is left out. */
async function gather(fleet: Fleet, config: Config): Promise<void> {
  const named = new Set(config.nodes.map((spec) => spec.id));
  const kept = (await keptNodes(config)).filter(({ spec }) => spec.kind !== 'sketch');
  const added = kept.filter(({ spec }) => !named.has(spec.id)).map(({ spec }) => spec);
  await Promise.all([
    ...config.nodes.map((spec) => fleet.add(spec)),
    ...added.map((spec) => fleet.add(spec).catch(() => {})),
  ]);
  await Promise.all(kept.filter((k) => k.draining && fleet.node(k.spec.id)).map((k) => fleet.drain(k.spec.id)));
}

const unknownDefault = ({ defaultModel }: Config): Finding =>
  wrong(
    `catalog: default_model "${defaultModel}" is not in it`,
    'Correct default_model in the settings, or add the model.',
  );

/** The built-in renderer and accounts are asked like every node, and answer at once: nothing is sent to a provider. */
function othersThere(fleet: Fleet): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = () => {
    if (
      fleet
        .nodes()
        .filter(({ spec }) => spec.kind === 'sketch' || isHosted(spec.kind))
        .every((n) => n.report !== null)
    )
      resolve();
  };
  fleet.onChange(look);
  look();
  return promise;
}

/** Graphs that lie among the workflows and cannot be used, because nobody said where their slots are. */
async function looseGraphs(folders: readonly string[]): Promise<readonly Finding[]> {
  const lists = await Promise.all(folders.map(async (f) => [f, await readdir(f).catch((): string[] => [])] as const));
  return lists.flatMap(([folder, names]) =>
    names
      .filter((name) => name.endsWith('.json') && !names.includes(name.replace(/json$/, 'slots.yaml')))
      .map((name) =>
        warn(
          `workflow: ${join(folder, name)} has no ${name.replace(/json$/, 'slots.yaml')} beside it`,
          'Declare its slots there (docs/workflows.md); until then no model can use it.',
        ),
      ),
  );
}

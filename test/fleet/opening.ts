// Opens fleets of fake nodes over a manual clock and a fresh directory, and closes what a test left open.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach } from 'vitest';
import type { NodeSpec } from '../../src/domain/node.ts';
import { type Fleet, type FleetOptions, openFleet, type RuntimeNodes } from '../../src/fleet/fleet.ts';
import { settle } from '../harness/manual-clock.ts';
import { type TestSystem, testSystem } from '../harness/system.ts';
import { type FakeBackends, fakeBackends } from './fake-backend.ts';

export const nodeSpec = (id: string, more: Partial<NodeSpec> = {}): NodeSpec => ({
  id,
  kind: 'comfyui',
  url: `http://10.0.0.9/${id}`,
  labels: [],
  auth: null,
  slots: 1,
  ...more,
});

/** The store's table of nodes, in memory; a second fleet over it is a restart. */
export function memoryNodes(): RuntimeNodes & { readonly rows: Map<string, { spec: NodeSpec; draining: boolean }> } {
  const rows = new Map<string, { spec: NodeSpec; draining: boolean }>();
  return {
    rows,
    all: async () => [...rows.values()],
    put: async (spec, draining) => void rows.set(spec.id, { spec, draining }),
    delete: async (id) => rows.delete(id),
  };
}

export interface Scene {
  readonly fleet: Fleet;
  readonly fakes: FakeBackends;
  readonly system: TestSystem;
  readonly options: FleetOptions;
  /** Calls of onChange so far. */
  readonly changes: () => number;
}

const opened: Fleet[] = [];
const directories: string[] = [];

afterEach(async () => {
  await Promise.all(opened.splice(0).map((fleet) => fleet.stop()));
  await Promise.all(directories.splice(0).map((path) => rm(path, { recursive: true })));
});

export async function freshDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'fleet-'));
  directories.push(path);
  return path;
}

/** A fleet whose nodes have been probed once; the next probe is due in 5 s, or in 1 s if it failed. `before` sets the fakes up. */
export async function openScene(
  ids: readonly string[],
  more: Partial<FleetOptions> = {},
  before: (fakes: FakeBackends) => void = () => {},
): Promise<Scene> {
  const plain = testSystem();
  const system = { ...plain, random: { ...plain.random, fraction: () => 0.5 } };
  const fakes = fakeBackends(system.clock);
  before(fakes);
  const options: FleetOptions = {
    specs: ids.map((id) => nodeSpec(id)),
    runtime: memoryNodes(),
    sketch: false,
    backends: fakes.backends,
    system,
    directory: await freshDirectory(),
    ...more,
  };
  const fleet = await openFleet(options);
  opened.push(fleet);
  let changes = 0;
  fleet.onChange(() => changes++);
  await settle();
  return { fleet, fakes, system, options, changes: () => changes };
}

/** Opens another fleet over the same options, as after a restart. */
export async function reopen({ fleet, options }: Scene): Promise<Fleet> {
  await fleet.stop();
  const again = await openFleet(options);
  opened.push(again);
  await settle();
  return again;
}

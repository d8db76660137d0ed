// Which nodes exist, are they well, what is loaded, how many slots, how long things take there. The engine asks for
// views, takes a Slot, uses its connection, and says how it went; probing and learning happen here.

import { mkdir, rm } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Backends, Connection } from '../backends/backend.ts';
import { GatewayError } from '../domain/failure.ts';
import { isHosted } from '../domain/model.ts';
import type { NodeSpec, NodeView } from '../domain/node.ts';
import type { Millis, NodeId } from '../domain/units.ts';
import type { System } from '../system/system.ts';
import { checkSpec } from './address.ts';
import { openBook } from './book.ts';
import type { AttemptReport, Member, NodeState } from './member.ts';
import { createRoster, type Joining, type Roster } from './roster.ts';
import type { Slot, Work } from './slots.ts';
import { createTimings } from './timings.ts';

export type { AttemptReport, NodeState } from './member.ts';
export type { Slot } from './slots.ts';

export interface Fleet {
  views(): readonly NodeView[];
  nodes(): readonly NodeState[];
  node(id: NodeId): NodeState | undefined;
  connection(id: NodeId): Connection | undefined;
  /** Null when the node has no free slot, is not online, or is gone. */
  acquire(id: NodeId, work: Work): Slot | null;
  /** For work found running on a node at recovery: takes a slot even beyond the free ones. Null: no such node. */
  adopt(id: NodeId, work: Work): Slot | null;
  /** To be called once per attempt that ran, however it ended. */
  learned(id: NodeId, report: AttemptReport): void;
  /** Expected render and load milliseconds; falls back from (node, residency) to (any node, residency) to the given default. */
  estimate(
    residency: string,
    node: NodeId | null,
    fallback: { readonly renderMs: Millis; readonly loadMs: Millis },
  ): { readonly renderMs: Millis; readonly loadMs: Millis };
  /** Throws GatewayError('conflict') for a known id, ('invalid_request') for an address a node may never have. Probes once, bounded, and keeps the node even if it is down. */
  add(spec: NodeSpec): Promise<NodeState>;
  drain(id: NodeId): Promise<NodeState>;
  resume(id: NodeId): Promise<NodeState>;
  /** Throws GatewayError('conflict') for nodes from the config file. */
  remove(id: NodeId): Promise<void>;
  /** A slot was freed, a node came up or changed, something was learned. */
  onChange(listener: () => void): Disposable;
  stop(): Promise<void>;
}

/** Where nodes added at run time, and operators' word on draining, are kept (the store's `nodes`). */
export interface RuntimeNodes {
  all(): Promise<readonly { readonly spec: NodeSpec; readonly draining: boolean }[]>;
  put(spec: NodeSpec, draining: boolean): Promise<void>;
  delete(id: string): Promise<boolean>;
}

export interface FleetOptions {
  /** Nodes of the config file. */
  readonly specs: readonly NodeSpec[];
  readonly runtime: RuntimeNodes;
  /** Is the built-in renderer one of the nodes? */
  readonly sketch: boolean;
  readonly backends: Backends;
  readonly system: System;
  /** For the fleet book and the nodes' temporary files, which are swept at open. */
  readonly directory: string;
}

const SKETCH: NodeSpec = {
  id: 'sketch',
  kind: 'sketch',
  url: '',
  labels: [],
  auth: null,
  slots: Math.min(4, availableParallelism()),
};

/** Opens the book, connects all known nodes and begins to probe them; does not wait for the answers (see `onChange`). */
export async function openFleet({ specs, runtime, sketch, backends, system, directory }: FleetOptions): Promise<Fleet> {
  const scratch = join(directory, 'node-scratch');
  await rm(scratch, { recursive: true, force: true });
  await mkdir(scratch, { recursive: true });
  const found = founders(specs, await runtime.all(), sketch, system.log);
  const book = await openBook(join(directory, 'fleet-book.json'), system);
  const timings = createTimings(book.timings);
  const listeners = new Set<() => void>();
  const changed = () => {
    for (const listener of [...listeners]) listener();
  };
  const roster = createRoster({ backends, system, scratch, timings, onChange: changed });
  for (const founder of found) roster.join(founder);
  const learnt = () => {
    book.save(timings.rows);
    changed();
  };

  return {
    ...administration(roster, runtime, (gone) => {
      timings.forget(gone);
      learnt();
    }),
    views: () => roster.all().map((member) => member.view()),
    nodes: () => roster.all().map((member) => member.state()),
    node: (id) => roster.get(id)?.state(),
    connection: (id) => roster.get(id)?.connection,
    acquire: (id, work) => roster.get(id)?.acquire(work) ?? null,
    adopt: (id, work) => roster.get(id)?.adopt(work) ?? null,
    learned(id, report) {
      roster.get(id)?.learned(report);
      learnt();
    },
    estimate(residency, node, fallback) {
      const known = timings.of(node, residency);
      return { renderMs: known.renderMs ?? fallback.renderMs, loadMs: known.loadMs ?? fallback.loadMs };
    },
    onChange(listener) {
      listeners.add(listener);
      return { [Symbol.dispose]: () => void listeners.delete(listener) };
    },
    async stop() {
      await roster.close();
      await book.close();
    },
  };
}

/**
 * Who is there at start. A kept row whose id the config file (or the built-in renderer) has says only whether that
 * node is drained: what the file says about it wins. An account that the file no longer has is gone.
 */
function founders(
  specs: readonly NodeSpec[],
  rows: Awaited<ReturnType<RuntimeNodes['all']>>,
  sketch: boolean,
  log: System['log'],
): readonly Joining[] {
  const drained = new Set(rows.filter((row) => row.draining).map((row) => row.spec.id));
  const fixed: Joining[] = specs.map((spec) => ({ spec, source: 'config', draining: drained.has(spec.id) }));
  for (const { spec } of fixed) checkSpec(spec);
  const taken = new Set([SKETCH.id, ...specs.map((spec) => spec.id)]);
  if (sketch && !specs.some((spec) => spec.id === SKETCH.id)) {
    fixed.push({ spec: SKETCH, source: 'builtin', draining: drained.has(SKETCH.id) });
  }
  const added = rows.filter(({ spec }) => !taken.has(spec.id) && !isHosted(spec.kind) && isAllowed(spec, log));
  return [...fixed, ...added.map((row): Joining => ({ ...row, source: 'runtime' }))];
}

/** An account's key stands in the settings and nowhere else. */
const withoutToken = ({ token: _, ...spec }: NodeSpec): NodeSpec => spec;

function isAllowed(spec: NodeSpec, log: System['log']): boolean {
  try {
    checkSpec(spec);
    return true;
  } catch (error) {
    log.warn({ err: error, node: spec.id }, 'a kept node has an address that no node may have; left out');
    return false;
  }
}

/** What an operator does to the fleet. Each change is kept before it takes effect, one at a time. */
function administration(
  roster: Roster,
  runtime: RuntimeNodes,
  forget: (id: NodeId) => void,
): Pick<Fleet, 'add' | 'drain' | 'resume' | 'remove'> {
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(change: () => Promise<T>): Promise<T> => {
    const next = last.then(change, change);
    last = next.catch(() => {});
    return next;
  };
  const known = (id: NodeId): Member => {
    const member = roster.get(id);
    if (member === undefined) throw new GatewayError('not_found', `There is no node "${id}".`);
    return member;
  };
  const setDraining = (id: NodeId, draining: boolean) =>
    inTurn(async () => {
      const member = known(id);
      if (draining || member.source === 'runtime') await runtime.put(withoutToken(member.spec), draining);
      else await runtime.delete(id);
      member.drain(draining);
      return member.state();
    });
  return {
    async add(spec) {
      checkSpec(spec);
      const member = await inTurn(async () => {
        if (roster.get(spec.id) !== undefined || spec.id === SKETCH.id) {
          throw new GatewayError('conflict', `There is a node "${spec.id}" already.`);
        }
        await runtime.put(spec, false);
        return roster.join({ spec, source: 'runtime', draining: false });
      });
      await member.probed;
      return member.state();
    },
    drain: (id) => setDraining(id, true),
    resume: (id) => setDraining(id, false),
    remove: (id) =>
      inTurn(async () => {
        if (known(id).source !== 'runtime') {
          throw new GatewayError('conflict', `The node "${id}" comes from the configuration; take it out there.`);
        }
        await runtime.delete(id);
        roster.leave(id);
        forget(id);
      }),
  };
}

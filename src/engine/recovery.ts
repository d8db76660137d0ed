// After a restart: generations the store calls running are taken up again by their reference where the node can still
// have them, and put back in the queue with their attempt number where it cannot. Nothing is rendered twice for it.

import { findModel } from '../catalog/catalog.ts';
import type { Generation } from '../domain/generation.ts';
import { laneOf } from '../domain/lane.ts';
import { residencyKey } from '../domain/model.ts';
import { matches } from '../domain/node.ts';
import { orphaned } from '../domain/retry.ts';
import type { Attempts } from './attempt.ts';
import { needsOf } from './availability.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

/** How long recovery waits for the nodes' first probes. */
const PROBE_MS = 500;

export interface Recovered {
  readonly resumed: number;
  readonly requeued: number;
}

export async function recover(rooms: Rooms, recorder: Recorder, attempts: Attempts): Promise<Recovered> {
  const count = { resumed: 0, requeued: 0 };
  const running = await rooms.store.generations.running();
  for (const g of running) recorder.adopt(g);
  if (running.length > 0) await rooms.fleet.ready(PROBE_MS); // some backends know only then whether they can resume
  for (const g of running) {
    if (resume(rooms, attempts, g)) count.resumed++;
    else {
      await recorder.append(g, orphaned(rooms.system.clock.now()));
      count.requeued++;
    }
  }
  return count;
}

function resume({ fleet, catalog }: Rooms, attempts: Attempts, g: Generation): boolean {
  if (g.state.status !== 'running' || g.state.remote === undefined) return false;
  const { node, remote } = g.state;
  const spec = fleet.node(node)?.spec;
  const model = findModel(catalog.current, g.model);
  const needs = model && needsOf(catalog, model, laneOf(g).pictures);
  const route = spec && needs?.find((r) => matches(spec, r.route))?.route;
  if (model === undefined || route === undefined || fleet.connection(node)?.resumable !== true) return false;
  const residency = residencyKey(route);
  const slot = fleet.adopt(node, { residency, expectMs: model.estimateMs });
  if (slot === null) return false;
  attempts.start(g, slot, { node, model, route, residency, warm: true, expectMs: model.estimateMs }, remote);
  return true;
}

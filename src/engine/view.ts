// What changes about a generation without an event: progress, place in the queue, estimates, links.

import { findModel } from '../catalog/catalog.ts';
import type { QueueReason } from '../contract/generations.ts';
import type { View } from '../contract/render.ts';
import type { Workspace } from '../domain/caller.ts';
import { type Generation, isFinal } from '../domain/generation.ts';
import { laneOf } from '../domain/lane.ts';
import { residencyKey } from '../domain/model.ts';
import { matches } from '../domain/node.ts';
import { obstacle } from '../domain/placement.ts';
import type { WorkspaceId } from '../domain/units.ts';
import type { Attempts } from './attempt.ts';
import { needsOf } from './availability.ts';
import type { Backlog } from './backlog.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

const FIRST_POLL_MAX = 8;

export interface ViewOptions {
  readonly rooms: Rooms;
  readonly recorder: Recorder;
  readonly backlog: Backlog;
  readonly attempts: Attempts;
  readonly workspaceNow: (id: WorkspaceId) => Workspace | undefined;
  /** Generations whose files are known to be swept. */
  readonly swept: (id: string) => boolean;
}

export type Viewer = (g: Generation, baseUrl: string) => View;

export function createViewer({ rooms, recorder, backlog, attempts, workspaceNow, swept }: ViewOptions): Viewer {
  const { fleet, catalog, media, settings } = rooms;
  const { clock } = rooms.system;
  /** How the fleet stands to a model; asked on every poll of a queued generation, changes when the fleet does. */
  const stands = new Map<string, { readonly reason: QueueReason; readonly able: number }>();
  fleet.onChange(() => stands.clear());
  catalog.onChange(() => stands.clear());

  const standing = (g: Generation) => {
    const { model: id, pictures } = laneOf(g);
    const key = [id, ...pictures].join(' ');
    const known = stands.get(key);
    if (known) return known;
    const model = findModel(catalog.current, id);
    const needs = model ? needsOf(catalog, model, pictures) : [];
    const kin = fleet.views().filter((n) => needs.some((r) => matches(n, r.route)));
    const online = kin.filter((n) => n.status === 'online');
    const able = online.filter((n) => needs.some((r) => obstacle(n, r) === null)).length;
    const reason: QueueReason =
      able > 0 ? 'waiting_for_slot' : online.length > 0 ? 'model_not_installed' : 'no_node_online';
    const made = { reason, able };
    stands.set(key, made);
    return made;
  };

  const reasonFor = (g: Generation): QueueReason => {
    const limit = (workspaceNow(g.workspaceId)?.limits ?? settings.limits).concurrency;
    if (recorder.running(g.workspaceId) >= limit) return 'workspace_limit';
    const { reason } = standing(g);
    if (reason !== 'waiting_for_slot') return reason;
    return g.state.status === 'queued' && g.state.notBefore > clock.now() ? 'retrying' : reason;
  };

  const expected = (g: Generation) => {
    const model = findModel(catalog.current, g.model);
    const fallback = { renderMs: model?.estimateMs ?? 10_000, loadMs: model?.coldMs ?? 0 };
    const route = model?.routes[0];
    const one = route ? fleet.estimate(residencyKey(route), null, fallback) : fallback;
    return { renderMs: one.renderMs, loadMs: one.loadMs };
  };

  const remainingMs = (g: Generation, position: number | null): number => {
    const { renderMs, loadMs } = expected(g);
    if (g.state.status === 'running') {
      const running = attempts.get(g.id);
      const spent = clock.now() - g.state.startedAt;
      const fraction = running?.progress.fraction ?? 0;
      if (fraction > 0.1) return Math.min((spent * (1 - fraction)) / fraction, 10 * renderMs);
      return (running?.plan.expectMs ?? renderMs) - spent;
    }
    const { able } = standing(g);
    return loadMs + renderMs * (1 + Math.max(0, (position ?? 1) - 1) / Math.max(1, able));
  };

  const view = (g: Generation, baseUrl: string): View => {
    const final = isFinal(g);
    const position = g.state.status === 'queued' ? backlog.position(g) : null;
    const seconds = final ? null : Math.max(1, Math.ceil(remainingMs(g, position) / 1000));
    const progress = g.state.status === 'running' ? (attempts.get(g.id)?.progress ?? null) : null;
    return {
      progress,
      queue: g.state.status === 'queued' ? { position, reason: reasonFor(g) } : null,
      estimatedSeconds: seconds,
      pollAfterSeconds: seconds === null ? null : Math.min(FIRST_POLL_MAX, seconds),
      link(index, what) {
        if (g.state.status !== 'succeeded' || swept(g.id)) return null;
        const output = g.state.outputs[index];
        if (output === undefined) return null;
        return baseUrl + media.links.sign({ generation: g.id, index, what, expiresAt: output.expiresAt });
      },
    };
  };
  return view;
}

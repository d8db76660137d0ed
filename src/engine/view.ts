// What changes about a generation without an event: progress, place in the queue, estimates, links.

import type { QueueReason } from '../contract/generations.ts';
import type { View } from '../contract/render.ts';
import type { Workspace } from '../domain/caller.ts';
import { type Generation, isFinal, isHeld } from '../domain/generation.ts';
import type { WorkspaceId } from '../domain/units.ts';
import type { Attempts } from './attempt.ts';
import type { Backlog } from './backlog.ts';
import type { Runner } from './batch-runner.ts';
import type { Outlook } from './outlook.ts';
import type { Recorder } from './record.ts';
import type { Rooms } from './rooms.ts';

const FIRST_POLL_MAX = 8;

export interface ViewOptions {
  readonly rooms: Rooms;
  readonly recorder: Recorder;
  readonly backlog: Backlog;
  readonly attempts: Attempts;
  readonly outlook: Outlook;
  /** How its batch deals with a queued item. */
  readonly batches: Pick<Runner, 'holdOn' | 'place'>;
  readonly workspaceNow: (id: WorkspaceId) => Workspace | undefined;
  /** Generations whose files are known to be swept. */
  readonly swept: (id: string) => boolean;
}

export type Viewer = (g: Generation, baseUrl: string) => View;

export function createViewer(options: ViewOptions): Viewer {
  const { rooms, recorder, backlog, attempts, outlook, batches, workspaceNow, swept } = options;
  const { media, settings } = rooms;
  const { clock } = rooms.system;
  const reasonFor = (g: Generation): QueueReason => {
    const held = batches.holdOn(g) ?? (isHeld(g) ? 'waiting_for_slot' : null);
    if (held !== null) return held;
    const limit = (workspaceNow(g.workspaceId)?.limits ?? settings.limits).concurrency;
    if (recorder.running(g.workspaceId) >= limit) return 'workspace_limit';
    const { reason } = outlook.standing(g);
    if (reason !== 'waiting_for_slot') return reason;
    return g.state.status === 'queued' && g.state.notBefore > clock.now() ? 'retrying' : reason;
  };

  const remainingMs = (g: Generation, position: number | null): number => {
    const { renderMs, loadMs } = outlook.expected(g);
    if (g.state.status === 'running') {
      const running = attempts.get(g.id);
      const spent = clock.now() - g.state.startedAt;
      const fraction = running?.progress.fraction ?? 0;
      if (fraction > 0.1) return Math.min((spent * (1 - fraction)) / fraction, 10 * renderMs);
      return (running?.plan.expectMs ?? renderMs) - spent;
    }
    const { able } = outlook.standing(g);
    return loadMs + renderMs * (1 + Math.max(0, (position ?? 1) - 1) / Math.max(1, able));
  };

  const view = (g: Generation, baseUrl: string): View => {
    const final = isFinal(g);
    const position = g.state.status !== 'queued' ? null : isHeld(g) ? batches.place(g) : backlog.position(g);
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

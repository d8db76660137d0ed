// Receivers that workspaces named, and the log of what is to be sent to them. Deliveries that follow from a change are
// written by that change's own transaction (append, batch change), so a crash loses none; what is written here is only
// how their tries went.

import type { Delivery, DeliveryAttempt, DeliveryState, HookEvent, Secret, Webhook } from '../domain/delivery.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import type { Page } from './pages.ts';

export interface Webhooks {
  create(hook: Webhook): Promise<void>;
  get(workspaceId: WorkspaceId, id: string): Promise<Webhook | null>;
  /** Newest first. */
  list(workspaceId: WorkspaceId, limit: number, cursor?: string): Promise<Page<Webhook>>;
  /** Null: there is none. A new `url` is also where its pending deliveries go. */
  update(
    workspaceId: WorkspaceId,
    id: string,
    patch: {
      readonly url?: string;
      readonly events?: readonly HookEvent[];
      readonly description?: string | null;
      readonly secrets?: readonly Secret[];
    },
  ): Promise<Webhook | null>;
  /** Its pending deliveries are dead from then on; the log stays. */
  delete(workspaceId: WorkspaceId, id: string): Promise<boolean>;
  /** What signs for per-job URLs, newest first. Empty until the first is made. */
  secrets(workspaceId: WorkspaceId): Promise<readonly Secret[]>;
  /** Sets them if they are still `before`; false when someone moved first. */
  putSecrets(workspaceId: WorkspaceId, before: readonly Secret[], after: readonly Secret[]): Promise<boolean>;
}

/** A receiver with something due: one URL of one workspace. */
export interface Receiver {
  readonly workspaceId: WorkspaceId;
  readonly url: string;
}

export interface Deliveries {
  get(workspaceId: WorkspaceId, id: string): Promise<Delivery | null>;
  /** Newest first. `webhookId` absent: all of the workspace, those of per-job URLs too. */
  list(
    workspaceId: WorkspaceId,
    filter: { readonly webhookId?: string; readonly state?: DeliveryState },
    limit: number,
    cursor?: string,
  ): Promise<Page<Delivery>>;
  /** For a ping, which follows from no change. */
  add(delivery: Delivery): Promise<void>;
  /** Receivers with deliveries due, longest due first. */
  receivers(now: Millis, limit: number): Promise<readonly Receiver[]>;
  /** Due ones of one receiver, longest due first. */
  due(receiver: Receiver, now: Millis, limit: number): Promise<readonly Delivery[]>;
  /** When the next pending one is due, of those due later than `after` when that is given; null: none is. */
  next(after?: Millis): Promise<Millis | null>;
  /** How many of this webhook are pending; of all webhooks and URLs without one. */
  waiting(webhookId?: string): Promise<number>;
  /** After a restart every pending delivery is due at once; those of one receiver when it has recovered. */
  dueNow(now: Millis, receiver?: Receiver): Promise<void>;
  /** Notes a try and what follows. `body`: what was sent. Null: it is no longer pending (its webhook was deleted). */
  attempted(
    delivery: Delivery,
    attempt: DeliveryAttempt,
    then: { readonly state: DeliveryState; readonly nextAttemptAt: Millis | null; readonly body: string },
  ): Promise<Delivery | null>;
  /** Pending again, due at once, whatever it was; its day (`since`) begins anew. Null: there is none. */
  redeliver(workspaceId: WorkspaceId, id: string, now: Millis): Promise<Delivery | null>;
  /** Forgets deliveries that ended before; returns how many. */
  prune(before: Millis): Promise<number>;
}

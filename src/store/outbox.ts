// The deliveries that follow from what one transaction writes, gathered and written with it. Which hooks a workspace has
// is looked up inside the transaction, so a hook that was answered hears of everything committed after.

import { type Kysely, sql } from 'kysely';
import { batchHookBody } from '../contract/webhooks.ts';
import { deliveriesFor, deliveriesForBatch, type Webhook } from '../domain/delivery.ts';
import { type Generation, isFinal } from '../domain/generation.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import { unasked } from './books.ts';
import { DELIVERY_COLUMNS, deliveryRow, dueAtOnce, toWebhook } from './hook-rows.ts';
import type { BatchMoved } from './recorded.ts';
import type { DeliveryRow, Schema, WebhookRow } from './schema.ts';
import { finder, inserter } from './statements.ts';

export interface Outbox {
  load(workspaces: readonly WorkspaceId[]): Promise<void>;
  /** Looks again after the hooks of a workspace were changed. */
  reload(workspace: WorkspaceId): Promise<void>;
  /** How many deliveries follow from a generation that moved to this state. Throws (our own bug) when its hooks were not loaded. */
  tell(generation: Generation, at: Millis): number;
  tellBatch(moved: Pick<BatchMoved, 'batch' | 'tally' | 'stored'>): number;
  flush(): Promise<void>;
}

/** Statements of one store: their texts depend on the engine. */
export function posting() {
  const hooksOf = finder(
    sql<WebhookRow>`select id, workspace_id, url, events, description, secrets, created_at from webhooks
      where workspace_id in`,
  );
  const insert = inserter('deliveries', DELIVERY_COLUMNS);

  return (db: Kysely<Schema>): Outbox => {
    const asked = new Set<WorkspaceId>();
    const hooks = new Map<WorkspaceId, readonly Webhook[]>();
    let rows: DeliveryRow[] = [];

    const find = async (workspaces: readonly WorkspaceId[]) => {
      const found = (await hooksOf(db, workspaces)).map(toWebhook);
      for (const id of workspaces) {
        const its = found.filter((hook) => hook.workspaceId === id);
        hooks.set(id, its);
      }
    };
    const known = (id: WorkspaceId): readonly Webhook[] => {
      const its = hooks.get(id);
      if (its === undefined) throw new Error(`the webhooks of workspace ${id} were not looked up`);
      return its;
    };

    return {
      load: (workspaces) => find(unasked(workspaces, asked)),
      reload: (id) => (asked.has(id) ? find([id]) : Promise.resolve()),
      tell(generation, at) {
        if (!isFinal(generation)) return 0;
        const { workspaceId, seq } = generation;
        const made = deliveriesFor(generation, known(workspaceId));
        for (const one of made) rows.push(deliveryRow(dueAtOnce(one, seq, workspaceId, at, null)));
        return made.length;
      },
      tellBatch({ batch, tally, stored: { event } }) {
        if (event.type !== 'finished' && event.type !== 'settled') return 0;
        const made = deliveriesForBatch(batch, event, known(batch.workspaceId));
        const body = made.length > 0 ? JSON.stringify(batchHookBody(batch, tally)) : null;
        for (const one of made) rows.push(deliveryRow(dueAtOnce(one, batch.seq, batch.workspaceId, event.at, body)));
        return made.length;
      },
      async flush() {
        const written = rows;
        rows = [];
        await insert(db, written);
      },
    };
  };
}

// Webhooks as doors ask for them: receivers, secrets, the log, pings and redeliveries. Sending is deliveries.ts.

import type { HookHealth } from '../contract/webhooks.ts';
import type { Caller } from '../domain/caller.ts';
import type { Delivery, DeliveryState, HookEvent, Webhook } from '../domain/delivery.ts';
import type { Page } from '../store/store.ts';

export interface NewWebhook {
  readonly url: string;
  readonly events: readonly HookEvent[];
  readonly description: string | null;
}

export interface WebhookNow {
  readonly webhook: Webhook;
  readonly health: HookHealth;
}

/** Throws GatewayError('not_found') for foreign ids too; 'invalid_request' for an address that may not be called. */
export interface HookDesk {
  create(caller: Caller, hook: NewWebhook): Promise<WebhookNow & { readonly secret: string }>;
  get(caller: Caller, id: string): Promise<WebhookNow>;
  list(caller: Caller, limit: number, cursor?: string): Promise<Page<WebhookNow>>;
  update(caller: Caller, id: string, patch: Partial<NewWebhook>): Promise<WebhookNow>;
  delete(caller: Caller, id: string): Promise<void>;
  /** A new secret; the old one signs too for a day. */
  rotate(caller: Caller, id: string): Promise<string>;
  /** The workspace's default secret, which signs for per-job URLs; made when first asked for. */
  secret(caller: Caller): Promise<string>;
  rotateSecret(caller: Caller): Promise<string>;
  /** Sends a test event; the delivery it became. */
  ping(caller: Caller, id: string): Promise<Delivery>;
  /** `webhookId` null: all of the workspace. */
  deliveries(
    caller: Caller,
    webhookId: string | null,
    filter: { readonly state?: DeliveryState },
    limit: number,
    cursor?: string,
  ): Promise<Page<Delivery>>;
  /** Same id, same body, again. `webhookId` null: whichever it was for. */
  redeliver(caller: Caller, webhookId: string | null, deliveryId: string): Promise<Delivery>;
}

// Webhooks as doors ask for them: receivers, secrets, the log, pings and redeliveries. Sending is sender.ts.

import { type HookHealth, pingBody } from '../contract/webhooks.ts';
import type { Caller } from '../domain/caller.ts';
import { type Delivery, type DeliveryState, type HookEvent, rotated, type Webhook } from '../domain/delivery.ts';
import { GatewayError } from '../domain/failure.ts';
import type { Page } from '../store/store.ts';
import { refuseUrl } from './inputs.ts';
import type { Rooms } from './rooms.ts';
import type { Sender } from './sender.ts';
import { defaultSecrets, newSecret } from './signing.ts';

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

const MOST_WEBHOOKS = 50;

export function createHookDesk(rooms: Rooms, sender: Pick<Sender, 'wake' | 'health'>): HookDesk {
  const { store, system, settings } = rooms;
  const { webhooks, deliveries } = store;
  const { clock, random } = system;
  const inTurn = oneAtATime();

  const mine = async ({ workspace }: Caller, id: string): Promise<Webhook> => {
    const hook = await webhooks.get(workspace.id, id);
    if (hook === null) throw noWebhook(id);
    return hook;
  };
  const now = async (webhook: Webhook): Promise<WebhookNow> => {
    const waiting = await deliveries.waiting(webhook.id);
    return { webhook, health: { ...sender.health(webhook), waiting } };
  };

  return {
    create: (caller, hook) =>
      inTurn(async () => {
        refuseUrl('url', hook.url, settings.allowPrivate);
        const workspaceId = caller.workspace.id;
        const { data } = await webhooks.list(workspaceId, MOST_WEBHOOKS);
        if (data.length === MOST_WEBHOOKS) throw tooMany();
        const at = clock.now();
        const secret = newSecret(random);
        const id = `wh_${random.ulid(at)}`;
        const webhook = { ...hook, id, workspaceId, secrets: rotated([], secret, at), createdAt: at };
        await webhooks.create(webhook);
        return { ...(await now(webhook)), secret };
      }),
    get: async (caller, id) => now(await mine(caller, id)),
    async list({ workspace }, limit, cursor) {
      const page = await webhooks.list(workspace.id, limit, cursor);
      return { ...page, data: await Promise.all(page.data.map(now)) };
    },
    async update({ workspace }, id, patch) {
      if (patch.url !== undefined) refuseUrl('url', patch.url, settings.allowPrivate);
      const changed = await webhooks.update(workspace.id, id, patch);
      if (changed === null) throw noWebhook(id);
      sender.wake();
      return now(changed);
    },
    async delete({ workspace }, id) {
      if (!(await webhooks.delete(workspace.id, id))) throw noWebhook(id);
    },
    rotate: (caller, id) =>
      inTurn(async () => {
        const secret = newSecret(random);
        const secrets = rotated((await mine(caller, id)).secrets, secret, clock.now());
        if ((await webhooks.update(caller.workspace.id, id, { secrets })) === null) throw noWebhook(id);
        return secret;
      }),
    async secret({ workspace }) {
      const [newest] = await defaultSecrets(rooms, workspace.id);
      if (newest === undefined) throw new Error(`workspace ${workspace.id} keeps no secret`);
      return newest.key;
    },
    rotateSecret: ({ workspace }) =>
      inTurn(async () => {
        const before = await defaultSecrets(rooms, workspace.id);
        const secret = newSecret(random);
        const moved = await webhooks.putSecrets(workspace.id, before, rotated(before, secret, clock.now()));
        if (!moved) throw new GatewayError('conflict', 'Someone else rotated this secret just now.');
        return secret;
      }),
    async ping(caller, id) {
      const hook = await mine(caller, id);
      const at = clock.now();
      const ping: Delivery = {
        id: `msg_${random.ulid(at)}`,
        workspaceId: hook.workspaceId,
        webhookId: hook.id,
        url: hook.url,
        event: 'ping',
        generationId: null,
        batchId: null,
        createdAt: at,
        since: at,
        state: 'pending',
        nextAttemptAt: at,
        body: JSON.stringify(pingBody(hook, at)),
        attempts: [],
      };
      await deliveries.add(ping);
      sender.wake();
      return ping;
    },
    async deliveries(caller, webhookId, filter, limit, cursor) {
      if (webhookId !== null) await mine(caller, webhookId);
      const which = webhookId === null ? filter : { ...filter, webhookId };
      return deliveries.list(caller.workspace.id, which, limit, cursor);
    },
    async redeliver({ workspace }, webhookId, deliveryId) {
      const found = await deliveries.get(workspace.id, deliveryId);
      if (found === null || (webhookId !== null && found.webhookId !== webhookId)) throw noDelivery(deliveryId);
      if (found.webhookId !== null && (await webhooks.get(workspace.id, found.webhookId)) === null) {
        throw new GatewayError('conflict', 'Its webhook was deleted: nobody is there to sign for it.');
      }
      const again = await deliveries.redeliver(workspace.id, deliveryId, clock.now());
      if (again === null) throw noDelivery(deliveryId);
      sender.wake();
      return again;
    },
  };
}

const noWebhook = (id: string) => new GatewayError('not_found', `There is no webhook ${id}.`);
const noDelivery = (id: string) => new GatewayError('not_found', `There is no delivery ${id}.`);
const tooMany = () =>
  new GatewayError('conflict', `A workspace has ${MOST_WEBHOOKS} webhooks at most; delete one that is not needed.`);

/** Reading and then writing, undisturbed by others who do the same. */
function oneAtATime(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const next = last.then(work, work);
    last = next.catch(() => undefined);
    return next;
  };
}

// Who is told when something ends, and how the telling went. Secrets leave in exactly the answers that make or show one.

import type { z } from 'zod';
import { ListQuery } from '../../contract/lists.ts';
import {
  DeliveriesQuery,
  DeliveryBody,
  DeliveryList,
  renderDelivery,
  renderWebhook,
  SecretBody,
  WebhookAnswer,
  WebhookBody,
  WebhookList,
  WebhookPatch,
  WebhookRequest,
} from '../../contract/webhooks.ts';
import { HOOK_EVENTS } from '../../domain/delivery.ts';
import type { Gateway, HookDesk, NewWebhook, WebhookNow } from '../../engine/gateway.ts';
import { type Asked, json, nothing, type Route, route } from './route.ts';

const TAG = 'Webhooks';
const ROOT = '/v1/webhooks';
const ONE = `${ROOT}/:id`;
const SECRET = { 'cache-control': 'no-store' };
const shared = { tag: TAG, scope: 'webhooks' } as const;

/** As they are read: the webhooks, then what was sent, then the secret of all others. Fixed paths come before ids. */
export function webhookRoutes(gateway: Pick<Gateway, 'webhooks'>): readonly Route[] {
  const { webhooks } = gateway;
  return [...rootRoutes(webhooks), ...deliveryRoutes(webhooks), ...secretRoutes(webhooks), ...hookRoutes(webhooks)];
}

function secretRoutes(webhooks: HookDesk): readonly Route[] {
  return [
    route({
      ...shared,
      method: 'get',
      path: `${ROOT}/secret`,
      summary: "What signs for generations' own webhook_url",
      answers: { 200: SecretBody },
      run: async ({ caller }) => json({ secret: await webhooks.secret(caller) }, 200, SECRET),
    }),
    route({
      ...shared,
      method: 'post',
      path: `${ROOT}/secret/rotate`,
      summary: 'Change that secret',
      description: 'The old one signs too for 24 hours; signatures are separated by a space, newest first.',
      answers: { 200: SecretBody },
      run: async ({ caller }) => json({ secret: await webhooks.rotateSecret(caller) }, 200, SECRET),
    }),
  ];
}

type Listing = Asked<z.output<typeof DeliveriesQuery>>;

function deliveryRoutes(webhooks: HookDesk): readonly Route[] {
  const list = async ({ caller, query: { limit, cursor, state } }: Listing, webhookId: string | null) => {
    const page = await webhooks.deliveries(caller, webhookId, state ? { state } : {}, limit, cursor);
    return json({ data: page.data.map(renderDelivery), next_cursor: page.next });
  };
  const again = async ({ caller, params }: Asked, webhookId: string | null) =>
    json(renderDelivery(await webhooks.redeliver(caller, webhookId, params.delivery as string)), 202);
  const listing = { ...shared, method: 'get', query: DeliveriesQuery, answers: { 200: DeliveryList } } as const;
  const redelivery = {
    ...shared,
    method: 'post',
    description: 'The same `webhook-id` and the same body, at once, whatever became of it before.',
    answers: { 202: DeliveryBody },
  } as const;
  return [
    route({
      ...listing,
      path: `${ROOT}/deliveries`,
      summary: 'Everything sent, newest first',
      description: "Those to generations' own webhook_url too. Kept for 30 days after they ended.",
      run: (asked) => list(asked, null),
    }),
    route({
      ...redelivery,
      path: `${ROOT}/deliveries/:delivery/redeliver`,
      summary: 'Send one again',
      run: (asked) => again(asked, null),
    }),
    route({
      ...listing,
      path: `${ONE}/deliveries`,
      summary: 'What was sent to a webhook, newest first',
      run: (asked) => list(asked, asked.params.id as string),
    }),
    route({
      ...redelivery,
      path: `${ONE}/deliveries/:delivery/redeliver`,
      summary: 'Send it one again',
      run: (asked) => again(asked, asked.params.id as string),
    }),
  ];
}

function rootRoutes(webhooks: HookDesk): readonly Route[] {
  return [
    route({
      ...shared,
      method: 'post',
      path: ROOT,
      summary: 'Create a webhook',
      description: `Signed by the Standard Webhooks rules; the secret is in this answer and nowhere else. Receivers get a \`webhook-id\` once or more and answer 2xx within 10 seconds; anything else is tried again for 24 hours. Set DARKROOM_PUBLIC_URL where receivers are on other machines: the links in the bodies begin with it.`,
      body: WebhookRequest,
      answers: { 201: WebhookAnswer },
      async run({ caller, body: { url, events = HOOK_EVENTS, description = null } }) {
        const made = await webhooks.create(caller, { url, events: [...new Set(events)], description });
        return json({ ...shown(made), secret: made.secret }, 201, SECRET);
      },
    }),
    route({
      ...shared,
      method: 'get',
      path: ROOT,
      summary: 'Webhooks and how they do',
      query: ListQuery,
      answers: { 200: WebhookList },
      async run({ caller, query }) {
        const page = await webhooks.list(caller, query.limit, query.cursor);
        return json({ data: page.data.map(shown), next_cursor: page.next });
      },
    }),
  ];
}

function hookRoutes(webhooks: HookDesk): readonly Route[] {
  return [
    route({
      ...shared,
      method: 'get',
      path: ONE,
      summary: 'One webhook',
      answers: { 200: WebhookBody },
      run: async ({ caller, params }) => json(shown(await webhooks.get(caller, params.id as string))),
    }),
    route({
      ...shared,
      method: 'patch',
      path: ONE,
      summary: 'Change a webhook',
      description: 'What is left out stays. What waits for a former `url` goes to the new one.',
      body: WebhookPatch,
      answers: { 200: WebhookBody },
      run: async ({ caller, params, body }) =>
        json(shown(await webhooks.update(caller, params.id as string, patchOf(body)))),
    }),
    route({
      ...shared,
      method: 'delete',
      path: ONE,
      summary: 'Delete a webhook',
      description: 'What still waits for it is not sent any more.',
      answers: { 204: 'Gone.' },
      async run({ caller, params }) {
        await webhooks.delete(caller, params.id as string);
        return nothing;
      },
    }),
    route({
      ...shared,
      method: 'post',
      path: `${ONE}/rotate`,
      summary: 'Change the secret of a webhook',
      description: 'The old one signs too for 24 hours; signatures are separated by a space, newest first.',
      answers: { 200: SecretBody },
      run: async ({ caller, params }) =>
        json({ secret: await webhooks.rotate(caller, params.id as string) }, 200, SECRET),
    }),
    route({
      ...shared,
      method: 'post',
      path: `${ONE}/ping`,
      summary: 'Send a test',
      description: 'The body is `{"event": "ping", "id": "wh_…", "created_at": "…"}`, signed and tried like any other.',
      answers: { 202: DeliveryBody },
      run: async ({ caller, params }) => json(renderDelivery(await webhooks.ping(caller, params.id as string)), 202),
    }),
  ];
}

const shown = ({ webhook, health }: WebhookNow): WebhookBody => renderWebhook(webhook, health);

function patchOf({ url, events, description }: z.output<typeof WebhookPatch>): Partial<NewWebhook> {
  return {
    ...(url !== undefined && { url }),
    ...(events !== undefined && { events: [...new Set(events)] }),
    ...(description !== undefined && { description }),
  };
}

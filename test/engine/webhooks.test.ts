// What is told, to whom, under whose signature; and what the desk keeps.

import { Webhook as Verifier } from 'standardwebhooks';
import { describe, expect, it } from 'vitest';
import type { Caller } from '../../src/domain/caller.ts';
import { HOOK_EVENTS, type HookEvent } from '../../src/domain/delivery.ts';
import { hashKey } from '../../src/engine/gateway.ts';
import type { Call } from '../doubles/receiver.ts';
import { settle } from '../harness/manual-clock.ts';
import { ended, make, shots } from './batch-stage.ts';
import { type Hooked, hooked } from './hooked.ts';
import type { House } from './house.ts';

const HOUR = 3_600_000;

const hook = (url: string, events: readonly HookEvent[] = HOOK_EVENTS) => ({ url, events, description: null });
const create = ({ house }: Hooked, url: string, events?: readonly HookEvent[]) =>
  house.gateway.webhooks.create(house.admin, hook(url, events));

/** The official package compares with the real hour. */
const verifies = (secret: string, { body, headers }: Call) => {
  try {
    new Verifier(secret).verify(body, headers);
    return true;
  } catch {
    return false;
  }
};
const inRealTime = ({ clock }: House) => clock.set(Date.now() - clock.now());
const refusal = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    (error: { failure: { code: string; message: string } }) => error.failure,
  );

describe('a generation that ended', () => {
  it('is told to the workspace’s webhook, flat and small', async () => {
    const h = await hooked();
    const r = await h.receiver();
    await create(h, r.url);
    const g = await h.finish({ metadata: { ticket: 'MKT-2241' }, batch_id: 'night' });
    const call = await h.calls(r, 1);
    expect(call.json()).toEqual({
      event: 'generation.succeeded',
      id: g.id,
      url: `http://darkroom.test/v1/outputs/${g.id}/0`,
      model: 'flux-dev',
      credits_charged: 2,
      created_at: new Date(g.createdAt).toISOString(),
      metadata: { ticket: 'MKT-2241' },
      batch_id: 'night',
    });
    expect(call.headers).toMatchObject({ 'content-type': 'application/json', 'user-agent': 'Darkroom/test' });
    expect(await h.noted(1)).toMatchObject({ state: 'delivered', body: call.body, attempts: [{ statusCode: 204 }] });
  });

  it('tells a failure with its reason and code', async () => {
    const h = await hooked();
    for (const id of ['rack-1', 'rack-2']) h.house.fakes.node(id).next({ fail: 'model_error' });
    const r = await h.receiver();
    await create(h, r.url);
    const g = await h.finish();
    expect((await h.calls(r, 1)).json()).toMatchObject({
      event: 'generation.failed',
      url: null,
      credits_charged: 0,
      reason: 'failure' in g.state ? g.state.failure.message : '',
      error: { code: 'model_error' },
    });
  });

  it('is told only to those who want that event', async () => {
    const h = await hooked();
    const [wants, wantsNot] = [await h.receiver(), await h.receiver()];
    await create(h, wants.url, ['generation.cancelled']);
    await create(h, wantsNot.url, ['generation.succeeded']);
    const { id } = await h.house.ask();
    await h.house.gateway.cancel(h.house.admin, id);
    expect((await h.calls(wants, 1)).json()).toMatchObject({ event: 'generation.cancelled', id });
    await settle();
    expect(wantsNot.calls).toEqual([]);
  });

  it('is told to its own webhook_url besides, signed by the default secret, without a warning', async () => {
    const h = await hooked();
    inRealTime(h.house);
    const [general, own] = [await h.receiver(), await h.receiver()];
    const { secret } = await create(h, general.url);
    const g = await h.finish({ webhook_url: own.url });
    const [one, two] = [await h.calls(general, 1), await h.calls(own, 1)];
    const standard = await h.house.gateway.webhooks.secret(h.house.admin);
    expect([verifies(secret, one), verifies(standard, two), verifies(secret, two)]).toEqual([true, true, false]);
    expect(one.id).not.toBe(two.id);
    expect(g.warnings).toEqual([]);
    await h.finish();
    await h.calls(general, 2);
    expect(own.calls).toHaveLength(1);
  });

  it('is told in its own workspace only', async () => {
    const h = await hooked();
    const { id } = await h.house.gateway.createWorkspace({ name: 'theirs', credits: 100_000, limits: {} });
    const rights = { models: null, expiresAt: null, requestsPerMinute: null, spendCap: null };
    const { secret } = await h.house.gateway.createKey(id, { name: 'k', scopes: ['generate', 'webhooks'], ...rights });
    const them = (await h.house.gateway.authenticate(hashKey(secret))) as Caller;
    const [ours, theirs] = [await h.receiver(), await h.receiver()];
    const { webhook } = await create(h, ours.url);
    await h.house.gateway.webhooks.create(them, hook(theirs.url));
    await h.finish();
    await h.calls(ours, 1);
    expect(theirs.calls).toEqual([]);
    const foreign = h.house.gateway.webhooks;
    const told = (await h.noted(1)).id;
    const tries = [
      () => foreign.get(them, webhook.id),
      () => foreign.update(them, webhook.id, { description: 'mine' }),
      () => foreign.rotate(them, webhook.id),
      () => foreign.ping(them, webhook.id),
      () => foreign.deliveries(them, webhook.id, {}, 20),
      () => foreign.redeliver(them, null, told),
      () => foreign.delete(them, webhook.id),
    ];
    for (const attempt of tries) expect(await refusal(attempt())).toMatchObject({ code: 'not_found' });
    expect((await foreign.list(them, 20)).data.map((one) => one.webhook.url)).toEqual([theirs.url]);
  });
});

describe('a batch that came to its end', () => {
  const told = async (h: Hooked, end: (id: string) => Promise<unknown>) => {
    const r = await h.receiver();
    await create(h, r.url, ['batch.finished']);
    const request = { items: shots(3), name: 'overnight', metadata: { ticket: 'MKT-2241' } };
    const { batch } = await make(h.house, request);
    await end(batch.id);
    await ended(h.house, batch.id);
    const call = await h.calls(r, 1);
    await h.house.clock.advance(5_000);
    expect(r.calls).toHaveLength(1);
    return { batch, body: call.json() };
  };

  it('is told once, with its counts', async () => {
    const { batch, body } = await told(await hooked(), async () => {});
    expect(body).toEqual({
      event: 'batch.finished',
      id: batch.id,
      name: 'overnight',
      status: 'finished',
      counts: { queued: 0, running: 0, succeeded: 3, failed: 0, timeout: 0, cancelled: 0 },
      credits_charged: 6,
      created_at: new Date(batch.createdAt).toISOString(),
      metadata: { ticket: 'MKT-2241' },
    });
  });

  it('by a cancel is told too', async () => {
    const h = await hooked();
    const { body } = await told(h, (id) => h.house.gateway.batches.cancel(h.house.admin, id));
    expect(body).toMatchObject({ event: 'batch.finished', status: 'cancelled', counts: { queued: 0, running: 0 } });
  });
});

describe('a secret', () => {
  it('is whsec_ and 32 bytes of chance', async () => {
    const h = await hooked();
    const secrets = [(await create(h, 'https://a.example/')).secret, (await create(h, 'https://a.example/')).secret];
    expect(new Set(secrets).size).toBe(2);
    for (const secret of secrets) expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  });

  it('signs beside its successor, newest first', async () => {
    const h = await hooked();
    inRealTime(h.house);
    const r = await h.receiver();
    const { secret: old, webhook } = await create(h, r.url);
    const fresh = await h.house.gateway.webhooks.rotate(h.house.admin, webhook.id);
    await h.house.gateway.webhooks.ping(h.house.admin, webhook.id);
    const during = await h.calls(r, 1);
    expect(during.headers['webhook-signature']?.split(' ')).toHaveLength(2);
    expect([verifies(old, during), verifies(fresh, during)]).toEqual([true, true]);
    const newest = { ...during.headers, 'webhook-signature': during.headers['webhook-signature']?.split(' ')[0] ?? '' };
    expect(verifies(fresh, { ...during, headers: newest })).toBe(true);
  });

  it('that was replaced a day ago does not sign', async () => {
    const h = await hooked();
    const r = await h.receiver();
    const { webhook } = await create(h, r.url);
    await h.house.gateway.webhooks.rotate(h.house.admin, webhook.id);
    h.house.clock.set(24 * HOUR);
    const { headers, body, id } = await pinged(h, webhook.id, r);
    const now = new Date(Number(headers['webhook-timestamp']) * 1000);
    const current = (await h.house.store.webhooks.get('studio', webhook.id))?.secrets[0]?.key as string;
    expect(headers['webhook-signature']).toBe(new Verifier(current).sign(id, now, body));
  });

  it('for per-job URLs is made once, and rotates like any other', async () => {
    const h = await hooked();
    inRealTime(h.house);
    const desk = h.house.gateway.webhooks;
    const r = await h.receiver();
    const both = await Promise.all([desk.secret(h.house.admin), desk.secret(h.house.admin)]);
    expect(new Set(both).size).toBe(1);
    const fresh = await desk.rotateSecret(h.house.admin);
    expect(await desk.secret(h.house.admin)).toBe(fresh);
    await h.finish({ webhook_url: r.url });
    const call = await h.calls(r, 1);
    expect([verifies(both[0] as string, call), verifies(fresh, call)]).toEqual([true, true]);
  });

  it('is not lost when two rotate at once', async () => {
    const h = await hooked();
    inRealTime(h.house);
    const r = await h.receiver();
    const { secret, webhook } = await create(h, r.url);
    const rotate = () => h.house.gateway.webhooks.rotate(h.house.admin, webhook.id);
    const all = [secret, ...(await Promise.all([rotate(), rotate()]))];
    const call = await pinged(h, webhook.id, r);
    expect(all.map((one) => verifies(one, call))).toEqual([true, true, true]);
  });
});

async function pinged(h: Hooked, id: string, r: Parameters<Hooked['calls']>[0]): Promise<Call> {
  await h.house.gateway.webhooks.ping(h.house.admin, id);
  return h.calls(r, r.calls.length + 1);
}

describe('the desk', () => {
  it('sends a test whatever the webhook wants to hear', async () => {
    const h = await hooked();
    const r = await h.receiver();
    const { webhook } = await create(h, r.url, ['batch.finished']);
    const made = await h.house.gateway.webhooks.ping(h.house.admin, webhook.id);
    const call = await h.calls(r, 1);
    expect(call.id).toBe(made.id);
    expect(call.json()).toEqual({ event: 'ping', id: webhook.id, created_at: new Date(made.createdAt).toISOString() });
  });

  it('sends again what was delivered: same id, same bytes', async () => {
    const h = await hooked();
    const r = await h.receiver();
    const { webhook } = await create(h, r.url);
    await h.finish();
    const first = await h.calls(r, 1);
    await h.noted(1);
    const again = await h.house.gateway.webhooks.redeliver(h.house.admin, webhook.id, first.id);
    expect(again).toMatchObject({ id: first.id, state: 'pending' });
    const second = await h.calls(r, 2);
    expect([second.id, second.body]).toEqual([first.id, first.body]);
    expect(await h.noted(2)).toMatchObject({ state: 'delivered' });
  });

  it('sends nothing more for a webhook that was deleted, and keeps the log', async () => {
    const h = await hooked();
    const r = await h.receiver(500);
    const { webhook } = await create(h, r.url);
    await h.finish();
    const { id } = await h.noted(1);
    await h.house.gateway.webhooks.delete(h.house.admin, webhook.id);
    await h.house.clock.advance(HOUR);
    expect(r.calls).toHaveLength(1);
    expect(await h.deliveries()).toMatchObject([{ id, state: 'dead' }]);
    const again = h.house.gateway.webhooks.redeliver(h.house.admin, null, id);
    expect(await refusal(again)).toMatchObject({ code: 'conflict' });
  });

  it('sends what waits to the new URL', async () => {
    const h = await hooked();
    const [old, fresh] = [await h.receiver(500), await h.receiver()];
    const { webhook } = await create(h, old.url);
    await h.finish();
    const { id } = await h.noted(1);
    await h.house.gateway.webhooks.update(h.house.admin, webhook.id, { url: fresh.url });
    await h.house.clock.advance(5_000);
    expect((await h.calls(fresh, 1)).id).toBe(id);
    expect(old.calls).toHaveLength(1);
  });

  it('refuses addresses that are private by their text, on making and on changing', async () => {
    const h = await hooked({ settings: { allowPrivate: [] } });
    const { webhook } = await create(h, 'https://a.example/');
    const desk = h.house.gateway.webhooks;
    for (const url of ['http://127.0.0.1/', 'http://localhost/', 'http://10.0.0.1/', 'https://u:p@a.example/']) {
      expect(await refusal(create(h, url))).toMatchObject({ code: 'invalid_request', details: [{ path: 'url' }] });
      const changed = desk.update(h.house.admin, webhook.id, { url });
      expect(await refusal(changed)).toMatchObject({ code: 'invalid_request' });
      expect(await refusal(h.house.ask({ webhook_url: url }))).toMatchObject({ code: 'invalid_request' });
    }
  });

  it('keeps fifty webhooks in a workspace at most, also when many are made at once', async () => {
    const h = await hooked();
    const all = await Promise.all(
      Array.from({ length: 60 }, (_, i) => refusal(create(h, `https://a.example/${i}`)).catch(() => null)),
    );
    expect(all.filter((one) => one === null)).toHaveLength(50);
    expect(all.at(-1)).toMatchObject({ code: 'conflict', message: expect.stringContaining('50') });
  });
});

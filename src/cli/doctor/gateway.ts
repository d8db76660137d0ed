// Is there a gateway at this address, is it ready, does it take the key, and do its clock and this one agree?

import type { z } from 'zod';
import type { Client } from '../../client/client.ts';
import type { CatalogBody, ModelBody } from '../../contract/models.ts';
import type { WebhookBody } from '../../contract/webhooks.ts';
import { everything } from '../paging.ts';
import { reasonOf } from '../reasons.ts';
import type { Place } from '../remote.ts';
import { count, duration, plain } from '../words.ts';
import { type Finding, ok, warn, wrong } from './finding.ts';

const PATIENCE_MS = 5_000;
const SKEW_MS = 30_000;

export interface Alive {
  /** `foreign`: something answers that is no gateway. */
  readonly who: 'gateway' | 'foreign' | 'nobody';
  readonly findings: readonly Finding[];
}

export async function checkAlive(url: string): Promise<Alive> {
  const asked = Date.now();
  try {
    const response = await fetch(`${url}/healthz`, { signal: AbortSignal.timeout(PATIENCE_MS), redirect: 'manual' });
    const body = (await response.json().catch(() => null)) as { readonly status?: string } | null;
    if (body?.status !== 'ok') {
      const says = `gateway: what answers at ${url} is none (HTTP ${response.status})`;
      const todo = 'Correct the address or the proxy before it, or have the gateway listen elsewhere (DARKROOM_PORT).';
      return { who: 'foreign', findings: [wrong(says, todo)] };
    }
    const clock = checkClock(response.headers.get('date'), (asked + Date.now()) / 2);
    return {
      who: 'gateway',
      findings: [ok(`gateway: answers at ${url} in ${Date.now() - asked} ms`), clock, await checkReady(url)],
    };
  } catch (error) {
    const says = `gateway: nobody answers at ${url} (${reasonOf(error)})`;
    return { who: 'nobody', findings: [wrong(says, 'Start it with "darkroom serve", or name another with --url.')] };
  }
}

/** Links and webhook signatures have times in them. */
function checkClock(date: string | null, here: number): Finding {
  const off = Date.parse(date ?? '') - here;
  if (Number.isNaN(off)) return ok('clock: it does not tell its time');
  if (Math.abs(off) < SKEW_MS) return ok('clock: agrees with this one');
  return warn(
    `clock: ${duration(Math.abs(off) / 1000)} ${off > 0 ? 'ahead of' : 'behind'} this one`,
    'Let both machines set their clocks by NTP.',
  );
}

async function checkReady(url: string): Promise<Finding> {
  const response = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(PATIENCE_MS) });
  if (response.ok) return ok('gateway: ready');
  const body = (await response.json().catch(() => null)) as { error?: { message?: string } } | null;
  return wrong(
    `gateway: not ready (${plain(body?.error?.message ?? `HTTP ${response.status}`)})`,
    'See the nodes and models below.',
  );
}

export async function checkKey(
  client: Client,
  { key }: Place,
): Promise<{ readonly admin: boolean; readonly found: Finding }> {
  if (key === null) {
    return {
      admin: false,
      found: wrong('key: there is none for it', 'Give one with --key or DARKROOM_KEY, or "darkroom login".'),
    };
  }
  try {
    await client.call('GET', '/v1/nodes?limit=1');
    return { admin: true, found: ok('key: taken, with the scope admin') };
  } catch (error) {
    const { code, message } = error as Error & { readonly code?: string };
    if (code === 'forbidden') {
      return {
        admin: false,
        found: warn('key: taken, without the scope admin, so nodes cannot be seen', 'Use an admin key to see them.'),
      };
    }
    return {
      admin: false,
      found: wrong(`key: refused (${plain(message)})`, 'Make another: darkroom keys create NAME'),
    };
  }
}

/** What only the gateway itself can tell: the edit it refused, the receivers it cannot reach. */
export async function checkInside(client: Client): Promise<readonly Finding[]> {
  type Models = { readonly data: readonly ModelBody[]; readonly catalog: z.infer<typeof CatalogBody> };
  const { catalog } = await client.call<Models>('GET', '/v1/models?limit=1');
  const hooks = await everything<WebhookBody>(client, '/v1/webhooks').catch(() => ({ data: [] }));
  const failing = hooks.data.filter((h) => h.health.state !== 'ok');
  return [
    catalog.ok
      ? ok(`catalog: loaded ${catalog.loaded_at}`)
      : wrong(
          `catalog: edit refused, the last good one serves: ${plain(catalog.error ?? '')}`,
          'Correct it there; it is read again by itself.',
        ),
    ...failing.map((h) =>
      warn(
        `webhook: ${plain(h.url)} fails (${plain(h.health.last_error ?? 'no answer')}), ${count(h.health.waiting, 'delivery', 'deliveries')} waiting`,
        `darkroom webhooks deliveries ${h.id}`,
      ),
    ),
  ];
}

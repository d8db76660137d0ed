// Signatures by the Standard Webhooks rules: HMAC-SHA256 over `id.timestamp.body`, one `v1,…` for each live secret, so
// that a receiver may change its secret at any time of the day after a rotation.

import { createHmac } from 'node:crypto';
import { liveSecrets, rotated, type Secret } from '../domain/delivery.ts';
import type { Millis, WorkspaceId } from '../domain/units.ts';
import type { Random } from '../system/system.ts';
import type { Rooms } from './rooms.ts';

const PREFIX = 'whsec_';
const SECRET_BYTES = 32;

export function newSecret(random: Pick<Random, 'secret'>): string {
  return PREFIX + Buffer.from(random.secret(SECRET_BYTES), 'base64url').toString('base64');
}

/** What signs for per-job URLs of a workspace, newest first; made when first needed. */
export async function defaultSecrets(
  { store, system: { clock, random } }: Rooms,
  workspaceId: WorkspaceId,
): Promise<readonly Secret[]> {
  const known = await store.webhooks.secrets(workspaceId);
  if (known.length > 0) return known;
  const first = rotated([], newSecret(random), clock.now());
  return (await store.webhooks.putSecrets(workspaceId, [], first)) ? first : store.webhooks.secrets(workspaceId);
}

/** The three headers of one try. */
export function signatureHeaders(
  id: string,
  body: string,
  secrets: readonly Secret[],
  now: Millis,
): Readonly<Record<string, string>> {
  const timestamp = String(Math.floor(now / 1000));
  const signed = `${id}.${timestamp}.${body}`;
  const signatures = liveSecrets(secrets, now).map(({ key }) => `v1,${sign(key, signed)}`);
  return { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signatures.join(' ') };
}

const sign = (key: string, text: string): string =>
  createHmac('sha256', Buffer.from(key.slice(PREFIX.length), 'base64'))
    .update(text)
    .digest('base64');

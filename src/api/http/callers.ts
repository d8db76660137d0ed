// Who asks. A key's hash is looked up once a second at most: that is what keeps polling cheap, and it is also how long a
// key deleted through another gateway may live on. Deletions through this one take effect at once (`forget`).

import type { IncomingHttpHeaders } from 'node:http';
import { type Caller, may, type Scope } from '../../domain/caller.ts';
import { GatewayError } from '../../domain/failure.ts';
import { type Gateway, hashKey } from '../../engine/gateway.ts';
import type { Clock } from '../../system/system.ts';

const TTL_MS = 1_000;
/** Also bounds what a guesser of keys can make us remember. */
const MAX_KNOWN = 10_000;
const KEY = /^[\x21-\x7e]{1,256}$/;

export interface Callers {
  /** The key in `Authorization: Bearer` and the workspace in `X-Darkroom-Workspace`. Throws unauthenticated, forbidden, not_found. */
  ofRequest(headers: IncomingHttpHeaders, scope: Scope): Promise<Caller>;
  /** Null: no such key, or expired. */
  ofKey(key: string): Promise<Caller | null>;
  /** Forgets all lookups: a key or a workspace was deleted. */
  forget(): void;
}

export function createCallers(gateway: Pick<Gateway, 'authenticate' | 'actIn'>, clock: Clock): Callers {
  const known = new Map<string, { readonly until: number; readonly found: Promise<Caller | null> }>();

  const lookUp = (digest: string): Promise<Caller | null> => {
    const entry = known.get(digest);
    if (entry && entry.until > clock.monotonic()) return entry.found;
    if (known.size >= MAX_KNOWN) known.clear();
    const found = gateway.authenticate(digest);
    known.set(digest, { until: clock.monotonic() + TTL_MS, found });
    found.catch(() => known.delete(digest));
    return found;
  };

  const ofKey = async (key: string): Promise<Caller | null> => {
    if (!KEY.test(key)) return null;
    const caller = await lookUp(hashKey(key));
    const expiresAt = caller?.key.expiresAt ?? null;
    return expiresAt !== null && expiresAt <= clock.now() ? null : caller;
  };

  return {
    ofKey,
    forget: () => known.clear(),
    async ofRequest(headers, scope) {
      const key = bearer(headers.authorization);
      if (key === null) throw new GatewayError('unauthenticated', 'No key was sent.');
      const caller = await ofKey(key);
      if (caller === null) throw new GatewayError('unauthenticated', 'The key is unknown or has expired.');
      if (!may(caller, scope)) throw new GatewayError('forbidden', `The key lacks the scope ${scope}.`);
      const wanted = headers['x-darkroom-workspace'];
      return typeof wanted !== 'string' || wanted === caller.workspace.id ? caller : gateway.actIn(caller, wanted);
    },
  };
}

function bearer(authorization: string | undefined): string | null {
  return /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1] ?? null;
}

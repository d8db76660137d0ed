// Results of hosted providers: out of the answer itself, or from a host that the provider is known to keep files on. The
// key never goes there; a redirect is followed to such a host only; a link that has run out is asked for again. A result is
// paid: when it cannot be had, that is said, and nothing is made again.

import { Readable } from 'node:stream';
import { GatewayError } from '../../domain/failure.ts';
import { HttpError, type HttpResponse, type System } from '../../system/system.ts';
import type { RemoteFile } from '../backend.ts';
import { PAID } from './answered.ts';
import type { Provider, Result } from './provider.ts';

const FILE_MS = 300_000;
const MAX_FILE_BYTES = 256 * 1024 * 1024;
const MAX_REDIRECTS = 3;

export interface FilesOptions {
  readonly provider: Pick<Provider, 'kind' | 'fileHosts'>;
  readonly baseUrl: string;
  readonly system: System;
}

export interface Files {
  /** `seed`: it was made with. `renew`: the result with a fresh link; null where there is none. */
  of(result: Result, seed: number, renew: () => Promise<Result | null>): RemoteFile;
}

export function createFiles({ provider, baseUrl, system }: FilesOptions): Files {
  const own = new URL(baseUrl).origin;

  const trustOf = (url: URL): 'node' | 'public' | 'listed' => {
    if (url.origin === own) return 'node';
    const known = provider.fileHosts.some((host) => url.hostname === host || url.hostname.endsWith(`.${host}`));
    return known && url.protocol === 'https:' ? 'public' : 'listed';
  };

  const fetched = async (link: string, signal: AbortSignal): Promise<HttpResponse> => {
    let url = URL.parse(link);
    for (let hops = 0; url !== null && hops <= MAX_REDIRECTS; hops++) {
      try {
        const trust = trustOf(url);
        return await system.http.request(url.href, { trust, timeoutMs: FILE_MS, maxBytes: MAX_FILE_BYTES, signal });
      } catch (error) {
        if (!(error instanceof HttpError)) throw error;
        if (error.kind === 'refused_address') throw foreign(error);
        if (error.kind !== 'redirect' || error.location === null) throw gone(error);
        url = URL.parse(error.location, url);
      }
    }
    throw foreign(new Error('too many redirects, or a link that is none'));
  };

  const open = async (result: Result, renew: () => Promise<Result | null>, signal: AbortSignal): Promise<Readable> => {
    if ('base64' in result) return inside(result.base64);
    const inline = /^data:[^,]*;base64,(.*)$/s.exec(result.url)?.[1];
    if (inline !== undefined) return inside(inline);
    const first = await fetched(result.url, signal);
    if (first.ok) return first.stream();
    first.discard();
    const fresh = await renew();
    if (fresh === null || !('url' in fresh)) throw gone(new Error(`the file host answered ${first.status}`));
    const second = await fetched(fresh.url, signal);
    if (second.ok) return second.stream();
    second.discard();
    throw gone(new Error(`the file host answered ${second.status} for a fresh link`));
  };

  return {
    of: (result, seed, renew) => ({
      name: 'url' in result ? (URL.parse(result.url)?.pathname.split('/').at(-1) ?? '') : '',
      mediaType: null,
      seed,
      open: (signal) => open(result, renew, signal),
    }),
  };
}

const inside = (base64: string): Readable => Readable.from([Buffer.from(base64, 'base64')]);

const gone = (cause: unknown) =>
  new GatewayError('node_lost', 'The provider made the picture, but it cannot be fetched.', { ...PAID, cause });
const foreign = (cause: unknown) =>
  new GatewayError('model_error', 'The provider answered with a link to an address that is not its own.', {
    ...PAID,
    cause,
  });

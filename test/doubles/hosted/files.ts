// The provider's file host, on an origin of its own: whoever shows it a key has leaked one, and its log says so.
// A link is one grant to fetch one work; the same work may be linked again when the first grant has run out.

import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { type Listener, listen, send } from '../listener.ts';
import type { PaceClock } from '../pace.ts';
import { deliver } from './deliver.ts';
import type { Job } from './jobs.ts';
import { type FileHit, splitKeys } from './settings.ts';
import type { Work } from './works.ts';

export interface FileHost {
  readonly listener: Listener;
  readonly log: readonly FileHit[];
  /** Where the work can be fetched; the same link again, unless the provider renews those that have run out. */
  link(job: Job, work: Work): string;
}

interface Grant {
  readonly job: Job;
  readonly work: Work;
  readonly path: string;
  fetches: number;
  readonly renewed: boolean;
}

export interface FileHostOptions {
  readonly clock: PaceClock;
  readonly signal: AbortSignal;
  /** A new question brings a new link in the place of one that has run out. */
  readonly renews: boolean;
}

const MOVED = '/moved';
const METADATA = 'http://169.254.169.254/latest/meta-data/iam';

export async function startFileHost({ clock, signal, renews }: FileHostOptions): Promise<FileHost> {
  const grants: Grant[] = [];
  const log: FileHit[] = [];

  const statusOf = (grant: Grant): number => {
    const { fate } = grant.job;
    if (fate.has('result_gone')) return 404;
    if (fate.has('expired_url') && renews) return grant.renewed ? 200 : 403;
    if (fate.has('expired_url') && grant.fetches === 1) return 404;
    const turned = fate.has('redirecting_file') || fate.has('redirecting_inside');
    return turned && !grant.path.endsWith(MOVED) ? 302 : 200;
  };
  const onRequest = async (req: IncomingMessage, res: ServerResponse) => {
    const path = (req.url ?? '/').split('?')[0] ?? '/';
    const grant = grants.find((one) => one.path === path);
    if (grant) grant.fetches++;
    const status = grant ? statusOf(grant) : 404;
    log.push({ at: clock.now(), path, status, keys: splitKeys(req.headers).keys });
    if (!grant || status >= 400) return send(res, status, denial(status), { 'content-type': 'application/xml' });
    const { job, work } = grant;
    if (status === 302) {
      const location = job.fate.has('redirecting_inside') ? METADATA : move(grant);
      return send(res, 302, '', { location });
    }
    using gone = whenGone(res, signal);
    await deliver(res, { status, ...work.file }, job.fate, { clock, signal: gone.signal });
  };
  const listener = await listen({ port: 0, onRequest });

  const grantOf = (job: Job, work: Work, path: string, renewed: boolean): Grant => {
    const grant = { job, work, path, renewed, fetches: 0 };
    grants.push(grant);
    return grant;
  };
  const move = ({ job, work, path }: Grant): string => {
    grantOf(job, work, `${path}${MOVED}`, false);
    return `${listener.url}${path}${MOVED}`;
  };
  const link = (job: Job, work: Work): string => {
    const name = `out-${randomUUID()}.${work.extension}`;
    if (job.fate.has('result_on_metadata_address')) return `${METADATA}/${name}`;
    if (job.fate.has('result_on_private_address')) return `http://10.0.0.1/${name}`;
    const old = grants.findLast((one) => one.work === work && !one.path.endsWith(MOVED));
    const stale = old !== undefined && renews && job.fate.has('expired_url') && old.fetches > 0 && !old.renewed;
    const grant = old && !stale ? old : grantOf(job, work, `/${job.id}/${name}`, stale);
    return `${listener.url}${grant.path}?se=${grant.job.at}&sig=c2lnbmVk`;
  };
  return { listener, log, link };
}

const denial = (status: number) =>
  status === 403
    ? '<?xml version="1.0"?><Error><Code>AuthenticationFailed</Code><Message>Signature not valid in the specified time frame</Message></Error>'
    : '<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>';

/** Aborts when the reader hangs up or the double closes. */
export function whenGone(res: ServerResponse, closed: AbortSignal): Disposable & { readonly signal: AbortSignal } {
  const gone = new AbortController();
  const stop = () => gone.abort(new Error('nobody listens any more'));
  res.once('close', stop);
  if (closed.aborted) stop();
  closed.addEventListener('abort', stop, { once: true });
  return {
    signal: gone.signal,
    [Symbol.dispose]() {
      res.off('close', stop);
      closed.removeEventListener('abort', stop);
    },
  };
}

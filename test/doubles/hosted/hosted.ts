// A hosted image or video provider that costs nothing and misbehaves on command: real HTTP on two loopback origins, one
// for the API and one for the files. `paid` is the evidence tests judge by: one entry for every job that was begun.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { control, createFaults, type Faults } from '../faults.ts';
import { listen, readBody, send, TooLarge } from '../listener.ts';
import { bfl } from './bfl.ts';
import { type Call, parseBody } from './call.ts';
import { begins, type Desk, serve } from './desk.ts';
import { fal } from './fal.ts';
import { FAULTS, type HostedFault } from './faults.ts';
import { startFileHost, whenGone } from './files.ts';
import { gemini } from './gemini.ts';
import { ideogram } from './ideogram.ts';
import { createJobs, type Job, newId } from './jobs.ts';
import { luma } from './luma.ts';
import { openai } from './openai.ts';
import type { House, Provider } from './provider.ts';
import { replicate } from './replicate.ts';
import { runway } from './runway.ts';
import {
  type FileHit,
  type HostedKind,
  type HostedLogEntry,
  type HostedOptions,
  type HostedSettings,
  type PaidEntry,
  settle,
  splitKeys,
} from './settings.ts';
import { stability } from './stability.ts';
import { together } from './together.ts';

export type { HostedFault } from './faults.ts';
export type { Job } from './jobs.ts';
export type {
  FileHit,
  HostedKind,
  HostedLogEntry,
  HostedOptions,
  Moment,
  Pace,
  PaidEntry,
  RequestEntry,
} from './settings.ts';

export interface HostedDouble {
  /** What an adapter's `base_url` expects, with `/v1` where the real base has it. */
  readonly url: string;
  /** The origin that files come from. */
  readonly fileUrl: string;
  /** The key it accepts. */
  readonly key: string;
  /** Throws on the name of a fault that cannot befall this provider. */
  readonly faults: Faults<HostedFault>;
  /** What it was asked and did, oldest first. */
  readonly log: readonly HostedLogEntry[];
  /** The jobs that were begun: what the account is billed for. */
  readonly paid: readonly PaidEntry[];
  /** Fetches from the file host, with the keys they showed. */
  readonly fileLog: readonly FileHit[];
  readonly jobs: readonly Job[];
  /** Stops listening at the API's port; `up` listens there again. Jobs are kept. */
  down(): Promise<void>;
  up(): Promise<void>;
  close(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const PROVIDERS = {
  replicate,
  fal,
  bfl,
  openai,
  gemini,
  ideogram,
  stability,
  together,
  luma,
  runway,
} satisfies Record<HostedKind, (settings: HostedSettings) => Provider>;

export const HOSTED_KINDS = Object.keys(PROVIDERS) as readonly HostedKind[];

export async function startHosted(kind: HostedKind, options: HostedOptions = {}): Promise<HostedDouble> {
  const settings = settle(options);
  const { clock } = settings;
  const provider = PROVIDERS[kind](settings);
  const faults = createFaults<HostedFault>(FAULTS.filter((name) => !provider.lacks.includes(name)));
  const log: HostedLogEntry[] = [];
  const closed = new AbortController();
  const jobs = createJobs({ settings, faults, log, ids: provider.ids });
  const host = await startFileHost({ clock, signal: closed.signal, renews: provider.renews });

  const onRequest = async (req: IncomingMessage, res: ServerResponse) => {
    const restartEmpty = () => listener.down().then(() => listener.up());
    if (await control({ faults, log, restartEmpty }, req, res)) return;
    using gone = whenGone(res, closed.signal);
    const { pathname, searchParams: query } = new URL(req.url ?? '/', 'http://host');
    const method = req.method ?? 'GET';
    if (begins(desk, method, pathname) && faults.take('drop_before')) return void req.socket.resetAndDestroy();
    const raw = await readBody(req, settings.maxBodyBytes).catch((error: unknown) => {
      if (error instanceof TooLarge) return null;
      throw error;
    });
    if (!raw) return send(res, 413, 'Payload Too Large');
    const parsed = await parseBody(req, raw);
    const headers = Object.fromEntries(Object.entries(req.headers).map(([name, value]) => [name, String(value)]));
    note({ log, method, pathname, query, headers, body: parsed?.body ?? null, at: clock.now() });
    if (!parsed) return send(res, 400, '{"detail":"The body is not JSON."}', { 'content-type': 'application/json' });
    const call: Call = { method, path: pathname, query, headers, ...parsed, signal: gone.signal };
    await serve(desk, call, res);
  };
  const listener = await listen({ port: 0, onRequest });
  const house: House = {
    origin: listener.url,
    settings,
    jobs,
    link: host.link,
    idShown: (job) => (job.fate.has('wrong_id') && job.polls > 0 ? newId(provider.ids) : job.id),
    askAt: (job) => (job.fate.has('foreign_poll_url') ? host.listener.url : listener.url),
  };
  const desk: Desk = { provider, routes: provider.routes(house), settings, faults, jobs };
  const close = async () => {
    closed.abort(new Error('the double was closed'));
    await Promise.all([listener.down(), host.listener.down()]);
  };

  return {
    url: `${listener.url}${provider.base}`,
    fileUrl: host.listener.url,
    key: settings.key,
    faults,
    log,
    get paid() {
      return log.filter((entry) => entry.what === 'paid');
    },
    fileLog: host.log,
    jobs: jobs.all,
    down: listener.down,
    up: listener.up,
    close,
    [Symbol.asyncDispose]: close,
  };
}

interface Noted extends Pick<Call, 'method' | 'query' | 'headers'> {
  readonly log: HostedLogEntry[];
  readonly pathname: string;
  readonly body: unknown;
  readonly at: number;
}

function note({ log, method, pathname, query, headers, body, at }: Noted): void {
  const shown = Object.fromEntries([...query].filter(([name]) => name !== 'key'));
  log.push({ what: 'request', at, method, path: pathname, query: shown, headers: splitKeys(headers).rest, body });
}

// An Automatic1111, Forge, SD.Next or stable-diffusion.cpp server that needs no GPU and misbehaves on command. Real HTTP
// on a loopback port, one FIFO lock, silent substitutions included. `log` is the evidence tests judge by.

import type { IncomingMessage, ServerResponse } from 'node:http';
import { control, createFaults, type Faults } from '../faults.ts';
import { listen, readBody, send, sendJson, TooLarge } from '../listener.ts';
import type { Call, HistoryItem } from './call.ts';
import { HttpProblem, problem } from './dialect.ts';
import { createPainter, type Order } from './painter.ts';
import { createJobs, sdcppHandler } from './sdcpp.ts';
import {
  FAULTS,
  type SdapiFault,
  type SdapiLogEntry,
  type SdapiOptions,
  type SdapiSettings,
  settle,
} from './settings.ts';
import { guarded, webuiHandler } from './webui.ts';

export type { Flavour, SdapiFault, SdapiLogEntry, SdapiOptions } from './settings.ts';

export interface SdapiDouble {
  readonly url: string;
  readonly port: number;
  readonly faults: Faults<SdapiFault>;
  /** What the node did, oldest first. Survives restarts. */
  readonly log: readonly SdapiLogEntry[];
  /** The checkpoint in memory. */
  readonly loaded: string | null;
  /** Someone at the box presses interrupt. */
  interrupt(): void;
  restartEmpty(): Promise<void>;
  /** Dies and stays away. */
  crash(): Promise<void>;
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** FastAPI's thread pool: with so many POSTs blocked, nothing else gets a thread. */
const THREADS = 40;
const UNIT_COST = 5;
const MINUTE_MS = 60_000;

export async function startSdapi(asked: SdapiOptions = {}): Promise<SdapiDouble> {
  const settings = settle(asked);
  const { clock } = settings;
  const faults = createFaults<SdapiFault>(FAULTS);
  const log: SdapiLogEntry[] = [];
  const stopped = new AbortController();

  const note = (what: SdapiLogEntry['what'], order: Order | null, checkpoint: string | null, detail?: string) => {
    const { taskId = null, prompt = null } = order ?? {};
    const more = detail === undefined ? {} : { detail };
    log.push({ at: clock.now(), what, promptId: taskId, checkpoint, prompt, ...more });
  };
  const begin = () => {
    const painter = createPainter({ settings, faults, log: note, crash: (ms) => void restart(ms) });
    return { painter, options: {}, history: [] as HistoryItem[], jobs: createJobs(), threads: threadPool(THREADS) };
  };
  let life = begin();

  const restart = async (downMs: number) => {
    life.painter.end();
    await listener.down();
    if (downMs > 0) await clock.sleep(downMs, stopped.signal).catch(() => undefined);
    if (stopped.signal.aborted) return;
    life = begin();
    note('restart', null, null);
    await listener.up();
  };

  const budget = rateBudget(settings);
  const onRequest = async (req: IncomingMessage, res: ServerResponse) => {
    if (await control({ faults, log, restartEmpty: () => restart(0) }, req, res)) return;
    if (faults.take('freeze')) return;
    if (faults.take('bad_gateway')) {
      return send(res, 502, '<html><head><title>502 Bad Gateway</title></head></html>', {
        'content-type': 'text/html',
      });
    }
    const { pathname, searchParams: query } = new URL(req.url ?? '/', 'http://box');
    if (faults.take('auth') || !authorized(req, pathname, settings)) {
      return problem(res, settings.flavour, new HttpProblem(401, 'Incorrect username or password'));
    }
    if (!budget(pathname)) return problem(res, settings.flavour, new HttpProblem(429, 'Rate limit exceeded'));
    const body = await readJson(req, settings);
    if (body instanceof HttpProblem) return problem(res, settings.flavour, body);
    const { painter, options, history, jobs, threads } = life;
    const call: Call = { req, res, query, body, settings, painter, options, history };
    using _thread = await threads();
    await dispatch(call, pathname, jobs);
  };
  const listener = await listen({ port: settings.port, onRequest });
  const crash = async () => {
    life.painter.end();
    await listener.down();
  };
  const stop = async () => {
    stopped.abort();
    await crash();
  };

  return {
    url: listener.url,
    port: listener.port,
    faults,
    log,
    get loaded() {
      return life.painter.loaded;
    },
    interrupt: () => life.painter.interrupt(),
    restartEmpty: () => restart(0),
    crash,
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

async function dispatch(call: Call, path: string, jobs: ReturnType<typeof createJobs>): Promise<void> {
  const { req, res, settings } = call;
  const method = req.method ?? 'GET';
  const native = settings.flavour === 'sdcpp' ? sdcppHandler(method, path) : null;
  const handler = native ? () => native.handler(call, jobs, native.rest) : webuiHandler(`${method} ${path}`, settings);
  if (handler) await guarded(call, handler);
  else if (settings.flavour === 'sdcpp') send(res, 404);
  else sendJson(res, 404, { detail: 'Not Found' });
}

/** Basic auth, with its gaps: /internal and the Lora extension's routes stay open on A1111 and Forge. */
function authorized({ headers }: IncomingMessage, path: string, { auth, flavour }: SdapiSettings): boolean {
  if (!auth || flavour === 'sdcpp') return true;
  const open = path.startsWith('/internal/') || path === '/sdapi/v1/loras' || path === '/sdapi/v1/refresh-loras';
  if (open && flavour !== 'sdnext') return true;
  const expected = Buffer.from(`${auth.username}:${auth.password}`).toString('base64');
  return headers.authorization === `Basic ${expected}`;
}

async function readJson(req: IncomingMessage, { maxBodyBytes }: SdapiSettings): Promise<Call['body'] | HttpProblem> {
  try {
    const raw = (await readBody(req, maxBodyBytes)).toString();
    const value: unknown = raw === '' ? {} : JSON.parse(raw);
    return value !== null && typeof value === 'object' ? (value as Call['body']) : {};
  } catch (error) {
    return error instanceof TooLarge ? new HttpProblem(413, 'too large') : new HttpProblem(422, 'JSON decode error');
  }
}

/** SD.Next's limiter: units per sliding minute. Returns whether the request may go on. */
function rateBudget({ flavour, unitsPerMinute, clock }: SdapiSettings): (path: string) => boolean {
  let spent: { readonly at: number; readonly units: number }[] = [];
  return (path) => {
    if (flavour !== 'sdnext') return true;
    const now = clock.now();
    spent = spent.filter(({ at }) => now - at < MINUTE_MS);
    const units = /2img$/.test(path) ? UNIT_COST : 1;
    if (spent.reduce((sum, one) => sum + one.units, units) > unitsPerMinute) return false;
    spent.push({ at: now, units });
    return true;
  };
}

function threadPool(size: number): () => Promise<Disposable> {
  let free = size;
  const waiting: (() => void)[] = [];
  return async () => {
    if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
    else free--;
    return {
      [Symbol.dispose]() {
        const next = waiting.shift();
        if (next) next();
        else free++;
      },
    };
  };
}

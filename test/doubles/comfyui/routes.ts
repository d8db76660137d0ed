// The HTTP face of the ComfyUI double: every path bare and under /api, the newer ones under /api only, and aiohttp's own
// ways of saying no.

import type { IncomingMessage, ServerResponse } from 'node:http';
import stats from '../../captures/comfyui/system_stats.json' with { type: 'json' };
import { control, type Faults } from '../faults.ts';
import { readBody, send, sendJson, TooLarge } from '../listener.ts';
import type { Box } from './box.ts';
import type { Files } from './files.ts';
import { parseObject, submit } from './prompts.ts';
import type { ComfyUiFault, ComfyUiLogEntry, ComfyUiSettings, Profile } from './settings.ts';
import { uploadImage, uploadMask, view } from './transfer.ts';
import { historyView, jobList, jobView, queueView } from './views.ts';

export interface RoutesOptions {
  readonly settings: ComfyUiSettings;
  readonly files: Files;
  readonly faults: Faults<ComfyUiFault>;
  readonly log: readonly ComfyUiLogEntry[];
  readonly box: () => Box;
  readonly restartEmpty: () => Promise<void>;
}

interface Call extends Omit<RoutesOptions, 'box'> {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly query: URLSearchParams;
  /** What follows the route's name in the path. */
  readonly rest: string;
  readonly box: Box;
}

type Handler = (call: Call) => void | Promise<void>;

const TROUBLE = '500 Internal Server Error\n\nServer got itself in trouble';
const trouble = (res: ServerResponse) => send(res, 500, TROUBLE);
const json = ({ res }: Call, value: unknown) => sendJson(res, 200, value);
const body = ({ req, settings }: Call) => readBody(req, settings.maxBodyBytes);

export const featuresOf = ({ profile, maxBodyBytes }: ComfyUiSettings): Record<string, unknown> => ({
  supports_preview_metadata: true,
  max_upload_size: maxBodyBytes,
  ...(profile === 'B' ? { supports_model_type_tags: true, node_replacements: true, assets: false } : {}),
});

const ROUTES: Readonly<Record<string, Handler>> = {
  'GET /prompt': (call) => json(call, { exec_info: { queue_remaining: call.box.remaining } }),
  'POST /prompt': postPrompt,
  'GET /queue': (call) => json(call, queueView(call.box, call.settings.profile)),
  'POST /queue': postQueue,
  'POST /interrupt': postInterrupt,
  'GET /history': getHistory,
  'POST /history': postHistory,
  'GET /system_stats': (call) => json(call, systemStats(call)),
  'GET /features': (call) =>
    call.settings.profile === 'old' ? notFound(call.res) : json(call, featuresOf(call.settings)),
  'GET /object_info': getObjectInfo,
  'GET /models': getModels,
  'GET /embeddings': (call) => json(call, []),
  'GET /extensions': (call) => json(call, []),
  'GET /view': ({ req, res, query, files, faults }) => view(req, res, query, files, faults),
  'GET /view_metadata': ({ res }) => notFound(res),
  'POST /free': postFree,
  'POST /upload/image': ({ req, res, files, settings }) => uploadImage(req, res, files, settings.maxBodyBytes),
  'POST /upload/mask': ({ req, res, files, settings }) => uploadMask(req, res, files, settings.maxBodyBytes),
};

/** Declared with /api in the source, hence without a bare form. */
const NEWER: Readonly<Record<string, Handler>> = {
  'GET /api/jobs': getJobs,
  'POST /api/jobs': postJobs,
};

export function createRoutes(options: RoutesOptions): (req: IncomingMessage, res: ServerResponse) => Promise<void> {
  const { settings, faults, box } = options;
  return async (req, res) => {
    res.setHeader('server', 'Python/3.11 aiohttp/3.14.0');
    if (await control(options, req, res)) return;
    if (faults.take('freeze')) return;
    if (faults.take('bad_gateway')) {
      return send(res, 502, '<html><head><title>502 Bad Gateway</title></head></html>', {
        'content-type': 'text/html',
      });
    }
    if (req.method === 'OPTIONS') return send(res, 200);
    if (!allowed(req, settings.profile)) return send(res, 403);
    const { pathname, searchParams: query } = new URL(req.url ?? '/', 'http://box');
    const found = find(req.method ?? 'GET', pathname, settings.profile);
    if (typeof found === 'number') return found === 405 ? send(res, 405, '405: Method Not Allowed') : notFound(res);
    try {
      await found.handler({ ...options, box: box(), req, res, query, rest: found.rest });
    } catch (error) {
      if (!(error instanceof TooLarge)) throw error;
      send(res, 413, `Maximum request body size ${settings.maxBodyBytes} exceeded.`, { connection: 'close' });
    }
  };
}

const notFound = (res: ServerResponse) => send(res, 404, '', { 'content-type': 'application/octet-stream' });

function find(method: string, pathname: string, profile: Profile): { handler: Handler; rest: string } | 404 | 405 {
  const newer = profile === 'B' && pathname.startsWith('/api/jobs');
  const table = newer ? NEWER : ROUTES;
  const path = newer ? pathname : pathname.replace(/^\/api(?=\/)/, '');
  const names = [...new Set(Object.keys(table).map((key) => key.split(' ')[1] ?? ''))];
  const name = names.find((one) => path === one || path.startsWith(`${one}/`));
  if (name === undefined) return 404;
  const handler = table[`${method === 'HEAD' ? 'GET' : method} ${name}`];
  return handler ? { handler, rest: decodeURIComponent(path.slice(name.length + 1)) } : 405;
}

/** The check of Origin against a loopback Host, and in B of Sec-Fetch-Site. */
export function allowed({ headers }: IncomingMessage, profile: Profile): boolean {
  if (profile === 'B' && headers['sec-fetch-site'] === 'cross-site') return false;
  const { host, origin } = headers;
  if (!host || !origin || !URL.canParse(origin)) return true;
  const here = new URL(`http://${host}`);
  const there = new URL(origin);
  if (!/^(127\.|localhost$|\[::1\]$)/.test(here.hostname)) return true;
  const ports = here.port === '' || there.port === '' || here.port === there.port;
  return here.hostname === there.hostname && ports;
}

async function postPrompt(call: Call): Promise<void> {
  const { res, box, files, faults, settings } = call;
  const answer = submit(await body(call), box, files, settings.profile, settings.clock.now());
  if (answer.status === 400) return sendJson(res, 400, answer.body);
  if (answer.status === 500) return trouble(res);
  if (faults.take('cut_reply')) return void res.destroy();
  if (faults.take('error_though_queued')) return trouble(res);
  const slow = faults.take('slow_reply');
  if (slow?.ms !== undefined) await settings.clock.sleep(slow.ms);
  else if (slow) await box.over(answer.id);
  sendJson(res, 200, answer.body);
}

async function postQueue(call: Call): Promise<void> {
  const asked = parseObject(await body(call));
  if (!asked) return trouble(call.res);
  if (asked.clear === true) call.box.clearPending();
  for (const id of Array.isArray(asked.delete) ? asked.delete : []) call.box.deletePending(String(id));
  send(call.res, 200);
}

async function postInterrupt(call: Call): Promise<void> {
  const raw = await body(call);
  const asked = parseObject(raw);
  if (!asked && isJson(raw)) return trouble(call.res);
  const id = call.settings.profile === 'old' ? undefined : asked?.prompt_id;
  call.box.interrupt(id ? String(id) : null);
  send(call.res, 200);
}

function isJson(raw: Buffer): boolean {
  try {
    JSON.parse(raw.toString());
    return true;
  } catch {
    return false;
  }
}

function getHistory(call: Call) {
  const { box, query, rest, settings, res, faults } = call;
  const known = [...box.history.values()];
  const count = query.get('max_items');
  if (count !== null && !/^-?\d+$/.test(count)) return trouble(res);
  const from = Number(query.get('offset') ?? -1);
  const some =
    count === null ? known : from < 0 ? known.slice(-Number(count)) : known.slice(from, from + Number(count));
  const chosen = rest === '' ? some : known.filter(({ prompt }) => prompt.id === rest);
  const text = JSON.stringify(
    Object.fromEntries(chosen.map((entry) => [entry.prompt.id, historyView(entry, settings.profile)])),
  );
  const spoilt = chosen.length > 0 && faults.take('nan_json');
  sendText(res, spoilt ? text.replace('"outputs":{', '"outputs":{"score":{"values":[NaN]},') : text);
}

const sendText = (res: ServerResponse, text: string) =>
  send(res, 200, text, { 'content-type': 'application/json; charset=utf-8' });

async function postHistory(call: Call): Promise<void> {
  const asked = parseObject(await body(call));
  if (!asked) return trouble(call.res);
  if (asked.clear === true) call.box.history.clear();
  for (const id of Array.isArray(asked.delete) ? asked.delete : []) call.box.history.delete(String(id));
  send(call.res, 200);
}

const MODEL_BYTES = 7_000_000_000;

function systemStats({ settings, box }: Call): unknown {
  const newer = settings.profile === 'B';
  const { comfyui_version: recorded } = stats.system;
  const version = newer ? '0.38.2' : settings.profile === 'old' ? '0.3.10' : recorded;
  const system = { ...stats.system, comfyui_version: version, os: newer ? 'linux' : stats.system.os };
  if (!settings.gpu) return { system, devices: stats.devices };
  const { name, vramBytes } = settings.gpu;
  const free = Math.max(0, vramBytes - box.resident.length * MODEL_BYTES);
  const device = { name, type: 'cuda', index: 0, vram_total: vramBytes, vram_free: free };
  return { system, devices: [{ ...device, torch_vram_total: vramBytes - free, torch_vram_free: 0 }] };
}

const HUGE = 30_000;

function getObjectInfo(call: Call) {
  const { box, rest, faults, res } = call;
  const table = box.table();
  if (rest !== '') return json(call, Object.hasOwn(table, rest) ? { [rest]: table[rest] } : {});
  if (faults.take('nan_json')) return sendText(res, `{"Spoilt":{"default":NaN},${JSON.stringify(table).slice(1)}`);
  if (!faults.take('huge_object_info')) return json(call, table);
  const many = Object.fromEntries(
    Array.from({ length: HUGE }, (_, i) => [
      `Custom${i}`,
      { ...table.KSampler, name: `Custom${i}`, python_module: 'custom_nodes.huge' },
    ]),
  );
  json(call, { ...table, ...many });
}

function getModels(call: Call) {
  const { rest, settings, res } = call;
  const folders: Readonly<Record<string, readonly string[]>> = { ...settings.installed, configs: [], embeddings: [] };
  if (rest === '') return json(call, Object.keys(folders));
  if (!Object.hasOwn(folders, rest)) return notFound(res);
  json(call, folders[rest]);
}

async function postFree(call: Call): Promise<void> {
  const asked = parseObject(await body(call)) ?? {};
  call.box.free({ unload: asked.unload_models === true, caches: asked.free_memory === true });
  send(call.res, 200);
}

function getJobs(call: Call) {
  const { box, rest, query, res } = call;
  if (rest === '') {
    const list = jobList(box, query);
    return typeof list === 'string' ? sendJson(res, 400, { error: list }) : json(call, list);
  }
  const job = jobView(box, rest);
  if (job === null) sendJson(res, 404, { error: 'Job not found' });
  else json(call, job);
}

async function postJobs(call: Call): Promise<void> {
  const { box, rest, res } = call;
  const [, id] = /^([^/]+)\/cancel$/.exec(rest) ?? [];
  const cancel = (one: string) => (box.running?.id === one ? box.interrupt(one) : box.deletePending(one));
  if (id !== undefined) return json(call, { cancelled: cancel(id) });
  if (rest !== 'cancel') return notFound(res);
  const ids = parseObject(await body(call))?.job_ids;
  const wanted = Array.isArray(ids) ? ids.map(String) : [];
  const invalid = wanted.filter((one) => !/^[0-9a-f-]{36}$/.test(one));
  if (wanted.length === 0 || invalid.length > 0)
    return sendJson(res, 400, { error: 'Invalid job ids', invalid_ids: invalid });
  json(call, { cancelled: wanted.filter(cancel).length });
}

// The way of one request through a hosted double, the same for every provider: key, refusals, payment, answer — and the
// faults that strike in between. After `begin` the job is paid for, whatever the caller gets to hear of it.

import type { ServerResponse } from 'node:http';
import type { FaultSetting, Faults } from '../faults.ts';
import { send, sendJson } from '../listener.ts';
import { type Answer, type Call, json, Refused } from './call.ts';
import { deliver } from './deliver.ts';
import type { HostedFault } from './faults.ts';
import type { Job, Jobs } from './jobs.ts';
import type { JobRoute, Provider, Route, SubmitRoute } from './provider.ts';
import type { HostedSettings } from './settings.ts';

export interface Desk {
  readonly provider: Provider;
  readonly routes: readonly Route[];
  readonly settings: HostedSettings;
  readonly faults: Faults<HostedFault>;
  readonly jobs: Jobs;
}

/** What goes back: an answer (with the fate of a job whose pictures it carries), or a cut connection. */
type Reply = { readonly answer: Answer; readonly job?: Job } | 'cut';

const PAGE =
  '<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>';
const HTML = { 'content-type': 'text/html; charset=utf-8' };
const LAG_POLLS = 2;
const seconds = (setting: FaultSetting) => Math.ceil((setting.ms ?? 1000) / 1000);
const retryAfter = (answer: Answer, after: number): Answer => ({
  ...answer,
  headers: { ...answer.headers, 'retry-after': String(after) },
});

/** Is this the kind of request that `drop_before` cuts? */
export const begins = (desk: Desk, method: string, path: string): boolean =>
  desk.routes.some((route) => route.role === 'submit' && route.method === method && route.path.test(path));

export async function serve(desk: Desk, call: Call, res: ServerResponse): Promise<void> {
  const reply = await replyTo(desk, call).catch((error: unknown) => {
    if (error instanceof Refused) return { answer: error.answer };
    if (call.signal.aborted) return 'cut' as const;
    throw error;
  });
  if (reply === 'cut') return void res.socket?.resetAndDestroy();
  await write(desk, call, res, reply);
}

async function replyTo(desk: Desk, call: Call): Promise<Reply> {
  const { provider, faults, settings } = desk;
  const known = desk.routes.flatMap((route) => {
    const match = route.path.exec(call.path);
    return match ? [{ route, groups: match.groups ?? {} }] : [];
  });
  const hit = known.find(({ route }) => route.method === call.method);
  if (!hit)
    return {
      answer: json(known.length > 0 ? 405 : 404, { detail: known.length > 0 ? 'Method Not Allowed' : 'Not Found' }),
    };
  if (faults.take('auth') || provider.keyOf(call) !== settings.key) return { answer: provider.says.auth };
  const { route, groups } = hit;
  if (route.role === 'plain') return { answer: route.answer(call) };
  return route.role === 'submit' ? submit(desk, route, call, groups) : ask(desk, route, call, groups);
}

async function submit(desk: Desk, route: SubmitRoute, call: Call, groups: Record<string, string>): Promise<Reply> {
  const { faults, jobs, provider, settings } = desk;
  const { says } = provider;
  const limited = faults.take('rate_limited');
  if (limited) return { answer: retryAfter(says.limited(seconds(limited)), seconds(limited)) };
  if (faults.take('rate_limited_silent')) return { answer: says.limited(null) };
  if (faults.take('balance')) return { answer: says.balance };
  if (faults.take('submit_500')) return { answer: says.trouble(500) };
  const order = route.read(call, groups);
  if (faults.take('model_gone')) return { answer: says.gone(order.model) };
  if (says.invalid && faults.take('invalid_params')) return { answer: says.invalid };
  if (says.moderated && faults.take('moderation_input')) return { answer: says.moderated };
  await settings.hold('submit', order.prompt, call.signal);
  call.signal.throwIfAborted();
  const job = jobs.begin(order);
  await settings.hold('begun', order.prompt, call.signal);
  if (faults.take('accept_then_drop')) return 'cut';
  return page(faults) ?? { answer: await route.answer(job, call), job };
}

async function ask(desk: Desk, route: JobRoute, call: Call, groups: Record<string, string>): Promise<Reply> {
  const { faults, jobs, provider, settings } = desk;
  const { says } = provider;
  const id = groups.id ?? call.query.get('id') ?? '';
  const job = jobs.find(id);
  if (route.role === 'cancel') {
    if (!job) return { answer: says.unknownJob(id) };
    if (says.cancelRefused && faults.take('cancel_refused')) return { answer: says.cancelRefused };
    return { answer: await route.answer(job, jobs.peek(job), call) };
  }
  const spoiled = spoil(desk) ?? page(faults);
  if (spoiled) return spoiled;
  if (!job) return { answer: says.unknownJob(id) };
  await settings.hold('poll', job.order.prompt, call.signal);
  call.signal.throwIfAborted();
  const phase = jobs.look(job);
  const lags = job.fate.has('late_result') && job.polls <= LAG_POLLS;
  const gone = route.vanishes === true && phase === 'done' && job.fate.has('result_gone');
  return { answer: lags || gone ? says.unknownJob(id) : await route.answer(job, phase, call) };
}

function spoil({ faults, provider }: Desk): Reply | null {
  if (faults.take('reset_on_poll')) return 'cut';
  if (faults.take('poll_500')) return { answer: provider.says.trouble(500) };
  const busy = faults.take('poll_503_retry_after');
  if (busy) return { answer: retryAfter(provider.says.trouble(503), seconds(busy)) };
  const limited = faults.take('poll_429');
  return limited ? { answer: retryAfter(provider.says.limited(seconds(limited)), seconds(limited)) } : null;
}

function page(faults: Faults<HostedFault>): Reply | null {
  if (faults.take('error_html')) return { answer: { status: 502, text: PAGE, headers: HTML } };
  return faults.take('error_html_200') ? { answer: { status: 200, text: PAGE, headers: HTML } } : null;
}

async function write(
  { settings }: Desk,
  { signal }: Call,
  res: ServerResponse,
  reply: Exclude<Reply, 'cut'>,
): Promise<void> {
  const { answer, job } = reply;
  const { status, headers = {} } = answer;
  if (answer.carries && job) {
    const inner = answer.file ?? { parts: [Buffer.from(JSON.stringify(answer.json))], mime: 'application/json' };
    return deliver(res, { ...inner, status, headers }, job.fate, { clock: settings.clock, signal });
  }
  if (answer.json !== undefined) sendJson(res, status, answer.json, headers);
  else send(res, status, answer.text ?? '', headers);
}

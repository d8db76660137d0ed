// A gateway's batch doors in memory, for runs of the command as a real process: it works items off when told, and
// misbehaves on command. What it was asked is written down.

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { BatchBody, ReportBody } from '../../src/contract/batches.ts';
import type { GenerationBody, GenerationRequest } from '../../src/contract/generations.ts';

interface Made {
  readonly id: string;
  readonly key: string;
  readonly request: GenerationRequest;
  status: GenerationBody['status'];
  /** The batch that pays for it. */
  readonly owner: string;
  /** Why it ended badly. */
  code?: string;
}

interface Held {
  readonly id: string;
  readonly name: string | null;
  readonly max: number | null;
  status: BatchBody['status'];
  items: Made[];
}

export interface BatchDouble {
  readonly url: string;
  readonly port: number;
  readonly asked: string[];
  /** Items that each look at a batch finishes. */
  pace: number;
  available: number;
  /** Credits ran out: what is queued is cancelled. */
  poor: boolean;
  /** Failures halt the batch. */
  halts: boolean;
  /** Keys have lapsed. */
  lapse(): void;
  /** Pictures that arrive cut off, so many times. */
  damaged: number;
  /** Appends answered with an error, so many. */
  refuseAppends: number;
  /** Items of each request that made a batch. */
  readonly sent: GenerationRequest[][];
  /** Renders, by key. */
  readonly rendered: Map<string, number>;
  batches(): readonly { readonly id: string; readonly status: string; readonly items: number }[];
  forget(): void;
  /** Stops listening; what it knows stays. */
  down(): Promise<void>;
  up(): Promise<void>;
}

const ulid = (n: number) => String(n).padStart(26, '0');
const PRICE = 1.5;
export const pictureOf = (id: string): Buffer => Buffer.from(`picture of ${id}\n`.repeat(50));

export async function startBatchDouble(): Promise<BatchDouble> {
  const batches = new Map<string, Held>();
  const byRequestKey = new Map<string, string>();
  const byKey = new Map<string, Made>();
  let made = 0;
  let server: Server;

  const double: BatchDouble = {
    get url() {
      return `http://127.0.0.1:${this.port}`;
    },
    port: 0,
    asked: [],
    pace: 1000,
    available: 1e6,
    poor: false,
    halts: false,
    lapse: () => byKey.clear(),
    damaged: 0,
    refuseAppends: 0,
    sent: [],
    rendered: new Map(),
    batches: () => [...batches.values()].map((b) => ({ id: b.id, status: b.status, items: b.items.length })),
    forget: () => {
      batches.clear();
      byRequestKey.clear();
    },
    async down() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
    async up() {
      server = createServer((request, response) => {
        void bodyOf(request).then((body) => {
          const url = new URL(request.url ?? '/', double.url);
          if (url.pathname !== '/healthz') double.asked.push(`${request.method} ${url.pathname}`);
          const answer = route(request.method ?? 'GET', url, body);
          if (Buffer.isBuffer(answer.body))
            response.writeHead(200, { 'content-length': answer.body.length }).end(answer.body);
          else
            response.writeHead(answer.status, { 'content-type': 'application/json' }).end(JSON.stringify(answer.body));
        });
      });
      server.listen(double.port, '127.0.0.1');
      await once(server, 'listening');
      Object.assign(double, { port: (server.address() as { port: number }).port });
    },
  };

  const admit = (owner: string, items: readonly GenerationRequest[]): Made[] =>
    items.map((request) => {
      const key = request.idempotency_key ?? `none-${made}`;
      const before = byKey.get(key);
      if (before !== undefined && ['succeeded', 'queued', 'running'].includes(before.status)) return before;
      const fresh: Made = { id: `gen_${ulid(++made)}`, key, request, owner, status: 'queued' };
      byKey.set(key, fresh);
      return fresh;
    });

  const work = (b: Held): void => {
    if (b.status !== 'running') return;
    for (const item of b.items.filter((i) => i.status === 'queued').slice(0, double.pace)) {
      const over = b.max !== null && chargedTo(b) + PRICE > b.max;
      if (double.poor || over) {
        Object.assign(item, { status: 'cancelled', code: double.poor ? 'insufficient_credits' : 'budget_exceeded' });
        continue;
      }
      const [, code] = /\[\[fail:?(\w*)\]\]/.exec(item.request.prompt ?? '') ?? [];
      Object.assign(
        item,
        code === undefined ? { status: 'succeeded' } : { status: 'failed', code: code || 'model_error' },
      );
      if (double.halts && item.status === 'failed') {
        halt(b);
        return;
      }
      double.rendered.set(item.key, (double.rendered.get(item.key) ?? 0) + 1);
    }
    if (b.items.every((i) => i.status !== 'queued')) b.status = 'finished';
  };

  const halt = (b: Held): void => {
    b.status = 'halted';
    for (const item of b.items) {
      if (item.status === 'queued') Object.assign(item, { status: 'cancelled', code: 'batch_halted' });
    }
  };

  const chargedTo = (b: Held) => b.items.filter((i) => i.owner === b.id && i.status === 'succeeded').length * PRICE;

  const show = (b: Held): BatchBody => {
    const of = (status: string) => b.items.filter((i) => i.status === status).length;
    const counts = {
      queued: of('queued'),
      running: 0,
      succeeded: of('succeeded'),
      failed: of('failed'),
      timeout: 0,
      cancelled: of('cancelled'),
    };
    const over = b.status !== 'running' && b.status !== 'paused';
    return {
      id: b.id,
      name: b.name,
      status: b.status,
      total: b.items.length,
      counts,
      credits: {
        projected: b.items.filter((i) => i.owner === b.id).length * PRICE,
        charged: chargedTo(b),
        reserved: 0,
        max_credits: b.max,
      },
      breaker: { state: 'closed', trips: 0, resumes_at: null },
      eta_seconds: over ? null : 1,
      concurrency: 50,
      created_at: '2026-04-30T09:17:42Z',
      finished_at: over ? '2026-04-30T12:29:42Z' : null,
      metadata: {},
    };
  };

  const render = (m: Made): GenerationBody =>
    ({
      id: m.id,
      status: m.status,
      model: m.request.model ?? 'sketch',
      prompt: m.request.prompt ?? '',
      outputs:
        m.status === 'succeeded'
          ? [
              {
                index: 0,
                url: `${double.url}/files/${m.id}`,
                media_type: 'image/png',
                bytes: pictureOf(m.id).length,
                sha256: createHash('sha256').update(pictureOf(m.id)).digest('hex'),
              },
            ]
          : [],
      attempts: [],
      warnings: [],
    }) as unknown as GenerationBody;

  const report = (b: Held): ReportBody => ({
    ...show(b),
    failures: b.items.flatMap((m, index) =>
      m.status === 'failed' || m.status === 'cancelled'
        ? [
            {
              id: m.id,
              index,
              key: m.key,
              prompt: m.request.prompt ?? '',
              model: 'sketch',
              reason: 'The graph did not run.',
              error: {
                code: (m.code ?? 'cancelled_by_caller') as 'model_error',
                message: 'The graph did not run.',
                retryable: false,
                advice: 'Change the model.',
              },
              attempts: 1,
            },
          ]
        : [],
    ),
    failures_total: b.items.filter((m) => m.status === 'failed' || m.status === 'cancelled').length,
    reconciliation: {
      projected: b.items.length * PRICE,
      charged: show(b).credits.charged,
      delta_percent: 0,
      flagged: false,
    },
    seconds_per_job: { mean: 1, p50: 1, p95: 1 },
    outputs: `/v1/generations?batch_id=${b.id}`,
  });

  const refusal = (status: number, code: string, message: string, details: object[] = []) => ({
    status,
    body: { error: { code, message, retryable: false, advice: '', details } },
  });

  type Body = {
    items?: GenerationRequest[];
    dry_run?: boolean;
    idempotency_key?: string;
    name?: string;
    max_credits?: number;
  };

  function post(body: Body) {
    const bad = (body.items ?? []).findIndex((i) => i.prompt?.includes('[[unparsable]]'));
    if (bad >= 0) return refusal(422, 'invalid_request', 'x', [{ path: `items.${bad}.seed`, message: 'off' }]);
    const items = body.items ?? [];
    const fresh = items.filter((i) => byKey.get(i.idempotency_key ?? '')?.status !== 'succeeded');
    if (body.dry_run) {
      const projected = fresh.length * PRICE;
      const refused = items.flatMap((i, index) =>
        i.model === 'nobody' ? [{ index, code: 'unknown_model', message: 'No such model.' }] : [],
      );
      return {
        status: 200,
        body: {
          items: items.length,
          projected_credits: projected,
          available: double.available,
          max_credits: body.max_credits ?? null,
          fits: true,
          by_model: { sketch: { items: items.length, credits: projected } },
          attached: items.length - fresh.length,
          refused,
        },
      };
    }
    double.sent.push(items);
    const known = byRequestKey.get(body.idempotency_key ?? '');
    const id = `batch_${ulid(batches.size + 1)}`;
    const b: Held = batches.get(known ?? '') ?? {
      id,
      name: body.name ?? null,
      max: body.max_credits ?? null,
      status: 'running',
      items: admit(id, items),
    };
    batches.set(b.id, b);
    if (body.idempotency_key) byRequestKey.set(body.idempotency_key, b.id);
    return { status: 202, body: show(b) };
  }

  function act(b: Held, verb: string) {
    const over = b.status === 'finished' || b.status === 'cancelled';
    if (over && verb !== 'cancel' && verb !== 'retry_failed') return refusal(409, 'conflict', `It is ${b.status}.`);
    if (verb === 'pause') b.status = 'paused';
    if (verb === 'resume') b.status = 'running';
    if (verb === 'retry_failed') {
      const taken = (m: Made) => m.status === 'failed' || m.code === 'batch_halted';
      if (!b.items.some(taken)) return refusal(409, 'conflict', 'No item failed, timed out or was halted.');
      b.status = 'running';
      b.items = b.items.map((m) =>
        taken(m)
          ? { ...m, id: `gen_${ulid(++made)}`, status: 'queued', code: '', request: { ...m.request, prompt: 'mended' } }
          : m,
      );
    }
    if (verb === 'cancel' && !over) {
      b.status = 'cancelled';
      for (const item of b.items) if (item.status === 'queued') item.status = 'cancelled';
    }
    return { status: 200, body: show(b) };
  }

  function route(method: string, url: URL, body: Body): { status: number; body: unknown } {
    const [, top, second, id, verb] = url.pathname.split('/');
    if (top === 'files') {
      const bytes = pictureOf(second as string);
      return { status: 200, body: double.damaged-- > 0 ? bytes.subarray(0, 10) : bytes };
    }
    if (second !== 'batches') return { status: 200, body: {} };
    if (id === undefined)
      return method === 'POST'
        ? post(body)
        : { status: 200, body: { data: [...batches.values()].map(show), next_cursor: null } };
    const b = batches.get(id);
    if (b === undefined) return refusal(404, 'not_found', `There is no batch ${id}.`);
    if (method === 'POST' && verb === 'items') {
      if (double.refuseAppends-- > 0) return refusal(500, 'internal', 'Something broke.');
      if (b.status !== 'running' && b.status !== 'paused') return refusal(409, 'conflict', `It is ${b.status}.`);
      b.items.push(...admit(b.id, body.items ?? []));
      return { status: 200, body: show(b) };
    }
    if (method === 'POST') return act(b, verb as string);
    if (verb === 'report') return { status: 200, body: report(b) };
    if (verb === 'items') {
      const from = Number(url.searchParams.get('cursor') ?? 0);
      const limit = Number(url.searchParams.get('limit') ?? 20);
      const wanted = url.searchParams.get('status');
      const all = b.items
        .map((made, index) => ({ made, index }))
        .filter(({ made }) => wanted === null || made.status === wanted);
      const data = all
        .slice(from, from + limit)
        .map(({ made, index }) => ({ index, key: made.key, generation: render(made) }));
      return { status: 200, body: { data, next_cursor: from + limit < all.length ? String(from + limit) : null } };
    }
    work(b);
    return { status: 200, body: show(b) };
  }

  await double.up();
  return double;
}

async function bodyOf(request: IncomingMessage) {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return chunks.length === 0 ? {} : JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

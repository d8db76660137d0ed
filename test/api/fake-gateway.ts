// A Gateway in memory that does what a test tells it: enough of the engine's promises for the doors to be driven hard,
// none of its machinery. Events are appended by hand with `emit`.

import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import type { Caller, Key, Scope, Workspace } from '../../src/domain/caller.ts';
import { DEFAULT_LIMITS, may } from '../../src/domain/caller.ts';
import { apply, type GenerationEvent, type StoredEvent } from '../../src/domain/event.ts';
import { GatewayError } from '../../src/domain/failure.ts';
import { type Generation, isFinal, type Output } from '../../src/domain/generation.ts';
import type { Model } from '../../src/domain/model.ts';
import { FREE } from '../../src/domain/price.ts';
import type { BatchDesk, Gateway, HookDesk, ModelView, Watched, WatchFilter } from '../../src/engine/gateway.ts';
import type { NodeState } from '../../src/fleet/fleet.ts';
import type { Clock } from '../../src/system/system.ts';
import { paramsOf } from '../harness/params.ts';

export const ADMIN_KEY = 'dk_admin';
export const sha256 = (text: string | Buffer) => createHash('sha256').update(text).digest('hex');
export const FILE = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 251));
export const NOW = Date.UTC(2026, 3, 30, 9, 17, 42);

const workspaceOf = (id: string, more: Partial<Workspace> = {}): Workspace => ({
  id,
  name: id,
  createdAt: NOW,
  limits: DEFAULT_LIMITS,
  provenance: true,
  ...more,
});

const MODEL: Model = {
  id: 'sketch',
  name: 'Sketch',
  kind: 'image',
  bestFor: 'Trying things out.',
  capabilities: new Set(['text-to-image', 'seed'] as const),
  price: { ...FREE, perOutput: 2500 },
  limits: { maxPixels: 4_194_304, minSide: 64, maxSide: 4096, multipleOf: 8, maxN: 4, maxSteps: 50 },
  defaults: {
    width: 1024,
    height: 1024,
    steps: 20,
    guidance: 3.5,
    sampler: null,
    scheduler: null,
    strength: null,
    negativePrompt: null,
    inputs: {},
  },
  estimateMs: 9000,
  coldMs: 5000,
  fallback: [],
  retiresAt: null,
  routes: [{ backend: 'sketch', labels: [], checkpoint: null, workflow: null, remote: null, account: null }],
};

const MODELS: readonly ModelView[] = ['sketch', 'flux-dev', 'sdxl'].map((id) => ({
  model: { ...MODEL, id, limits: { ...MODEL.limits, maxSteps: id === 'flux-dev' ? 0 : 50 } },
  aliases: id === 'sdxl' ? ['stable-diffusion-xl'] : [],
  usable: id === 'sketch',
  whyNot: id === 'sketch' ? null : 'no node online',
  routes: MODEL.routes.map((route) => ({ route, usable: true, whyNot: null })),
}));

export const NODE: NodeState = {
  spec: {
    id: 'rack-1',
    kind: 'sdapi',
    url: 'http://10.0.0.12:7860',
    labels: ['big'],
    auth: { username: 'a', password: 'topsecret' },
    slots: 1,
  },
  source: 'config',
  status: 'online',
  why: null,
  report: null,
  running: 0,
  since: NOW,
};

export const output = (index: number): Output => ({
  index,
  kind: 'image',
  mediaType: 'image/png',
  width: 1024,
  height: 1024,
  bytes: FILE.length,
  sha256: sha256(FILE),
  seed: 7 + index,
  blob: 'b.png',
  original: 'b.png',
  thumbnail: 't.webp',
  expiresAt: NOW + 86_400_000,
});

export interface FakeGateway extends Gateway {
  draining: boolean;
  addKey(text: string, more?: Partial<Key>, workspace?: Partial<Workspace> & { readonly id: string }): Key;
  /** Appends an event and tells the watchers. */
  emit(id: string, event: GenerationEvent): void;
  progress(id: string, fraction: number, message: string): void;
  /** The next matching call throws this. */
  failWith: { [K in keyof Gateway]?: unknown };
  readonly authentications: number;
  readonly watchers: number;
  readonly generations: ReadonlyMap<string, Generation>;
  readonly uploaded: Buffer[];
  /** Uploads are not read before this. */
  uploadsFrom: Promise<unknown>;
  readonly seen: {
    uploading?: true;
    waitMs?: number;
    filter?: unknown;
    watch?: WatchFilter;
    usage?: unknown;
    submitted?: unknown;
  };
  ready_: { ok: boolean; reason: string | null };
  readonly grants: { workspaceId: string; amount: number }[];
  swept: boolean;
  progressNow: { fraction: number; message: string } | null;
}

const ID = 'gen_01HWX2K8Y4N5R7P9Q1B3T6';
const encode = (n: number) => String(n).padStart(4, '0');
const LINK = 'signed';

export function fakeGateway(clock: Clock): FakeGateway {
  const keys = new Map<string, Caller>();
  const workspaces = new Map<string, Workspace>([['studio', workspaceOf('studio')]]);
  const generations = new Map<string, Generation>();
  const byIdempotency = new Map<string, string>();
  const log: { readonly stored: StoredEvent; readonly generation: Generation }[] = [];
  const watchers = new Set<{ filter: WatchFilter; queue: Watched[]; wake: () => void }>();
  let authentications = 0;

  const tell = (item: Watched) => {
    for (const w of watchers) {
      const workspace =
        item.type === 'event' ? item.stored.workspaceId : item.type === 'progress' ? item.workspaceId : '';
      const id = item.type === 'event' ? item.stored.generationId : item.type === 'progress' ? item.id : '';
      if (workspace !== w.filter.workspaceId) continue;
      if (w.filter.generationIds && !w.filter.generationIds.includes(id)) continue;
      if (item.type === 'progress' && !w.filter.progress) continue;
      w.queue.push(item);
      w.wake();
    }
  };
  const record = (generation: Generation, event: GenerationEvent) => {
    generations.set(generation.id, generation);
    const { workspaceId, batchId, id: generationId, seq } = generation;
    const stored = { cursor: log.length + 1, workspaceId, generationId, batchId, seq, event };
    log.push({ stored, generation });
    tell({ type: 'event', stored, generation });
  };
  const mine = (caller: Caller, id: string) => {
    const g = generations.get(id);
    if (!g || g.workspaceId !== caller.workspace.id)
      throw new GatewayError('not_found', 'There is no such generation.');
    return g;
  };
  const workspace = (id: string) => {
    const found = workspaces.get(id);
    if (!found) throw new GatewayError('not_found', 'There is no such workspace.');
    return found;
  };
  const failing = (name: keyof Gateway) => {
    if (!(name in gateway.failWith)) return;
    const error = gateway.failWith[name];
    delete gateway.failWith[name];
    throw error;
  };

  const gateway: FakeGateway = {
    draining: false,
    failWith: {},
    seen: {},
    uploaded: [],
    uploadsFrom: Promise.resolve(),
    grants: [],
    swept: false,
    progressNow: null,
    ready_: { ok: true, reason: null },
    generations,
    usdPerCredit: 0.01,
    batches: {} as BatchDesk,
    webhooks: {} as HookDesk,
    get authentications() {
      return authentications;
    },
    get watchers() {
      return watchers.size;
    },
    addKey(text, more = {}, inWorkspace = { id: 'studio' }) {
      const w = workspaceOf(inWorkspace.id, inWorkspace);
      workspaces.set(w.id, w);
      const key: Key = {
        id: `key_${keys.size}`,
        workspaceId: w.id,
        name: text,
        scopes: ['generate'],
        models: null,
        expiresAt: null,
        requestsPerMinute: null,
        spendCap: null,
        createdAt: NOW,
        ...more,
      };
      keys.set(sha256(text), { workspace: w, key });
      return key;
    },
    emit(id, event) {
      record(apply(generations.get(id) as Generation, event), event);
    },
    progress(id, fraction, message) {
      const { workspaceId, batchId } = generations.get(id) as Generation;
      tell({ type: 'progress', id, workspaceId, batchId, fraction, message });
    },
    async authenticate(hash) {
      authentications++;
      return keys.get(hash) ?? null;
    },
    async actIn(caller, id) {
      if (!may(caller, 'admin')) throw new GatewayError('forbidden', 'Only an admin key may act elsewhere.');
      return { ...caller, workspace: workspace(id) };
    },
    async submit(caller, request) {
      failing('submit');
      gateway.seen.submitted = request;
      const scoped = `${caller.workspace.id} ${request.idempotency_key}`;
      const known = request.idempotency_key === undefined ? undefined : byIdempotency.get(scoped);
      const credits = { balance: 1_000_000, reserved: 2500 };
      if (known) return { generation: generations.get(known) as Generation, replayed: true, credits };
      const g = generationOf(`${ID}${encode(generations.size)}`, caller, request.prompt ?? '', request.metadata ?? {});
      if (request.idempotency_key !== undefined) byIdempotency.set(scoped, g.id);
      record(g, { type: 'submitted', at: clock.now() });
      return { generation: g, replayed: false, credits };
    },
    async get(caller, id) {
      failing('get');
      return mine(caller, id);
    },
    async wait(caller, id, ms, signal) {
      gateway.seen.waitMs = ms;
      const deadline = new AbortController();
      const over = clock.sleep(ms, AbortSignal.any([signal, deadline.signal])).catch(() => undefined);
      let ended = false;
      void over.then(() => {
        ended = true;
      });
      while (!isFinal(mine(caller, id)) && !ended) await new Promise((resolve) => setImmediate(resolve));
      deadline.abort();
      signal.throwIfAborted();
      return mine(caller, id);
    },
    async list(caller, filter, limit, cursor) {
      gateway.seen.filter = filter;
      const all = [...generations.values()].filter((g) => g.workspaceId === caller.workspace.id).reverse();
      const from = cursor === undefined ? 0 : Number(cursor);
      return { data: all.slice(from, from + limit), next: from + limit < all.length ? String(from + limit) : null };
    },
    async cancel(caller, id, { whileQueued = false } = {}) {
      const g = mine(caller, id);
      if (whileQueued ? g.state.status === 'queued' : !isFinal(g)) {
        const failure = { code: 'cancelled_by_caller', message: 'Stopped on request.' } as const;
        gateway.emit(id, { type: 'cancelled', at: clock.now(), failure });
      }
      return mine(caller, id);
    },
    view(g, baseUrl) {
      const final = isFinal(g);
      return {
        progress: final ? null : gateway.progressNow,
        queue: { position: 1, reason: 'waiting_for_slot' },
        estimatedSeconds: final ? null : 9,
        pollAfterSeconds: final ? null : 4,
        link: (index, what) =>
          gateway.swept
            ? null
            : `${baseUrl}/v1/outputs/${g.id}/${index}${what === 'thumbnail' ? '/thumbnail' : ''}?expires=${(NOW + 86_400_000) / 1000}&signature=${LINK}`,
      };
    },
    async *watch(filter, cursor, signal) {
      gateway.seen.watch = filter;
      const queue: Watched[] = [];
      const watcher: { filter: WatchFilter; queue: Watched[]; wake: () => void } = { filter, queue, wake: () => {} };
      watchers.add(watcher);
      try {
        if (cursor !== null && cursor > log.length) throw new GatewayError('invalid_request', 'Unknown cursor.');
        const at = cursor ?? log.length;
        for (const past of log.slice(at)) {
          if (past.stored.workspaceId === filter.workspaceId) yield { type: 'event', ...past };
        }
        yield { type: 'ready', cursor: log.length };
        for (;;) {
          while (queue.length > 0) yield queue.shift() as Watched;
          signal.throwIfAborted();
          await new Promise<void>((resolve) => {
            watcher.wake = () => resolve();
            signal.addEventListener('abort', () => resolve(), { once: true });
          });
          signal.throwIfAborted();
        }
      } finally {
        watchers.delete(watcher);
      }
    },
    models: () => ({ data: MODELS, catalog: { ok: false, error: 'models.yaml:3: x: expected y', loadedAt: NOW } }),
    model(id) {
      const found = MODELS.find((m) => m.model.id === id);
      if (!found) throw new GatewayError('not_found', `There is no model ${id}.`);
      return found;
    },
    credits: async () => ({ balance: 1_000_500, reserved: 2500 }),
    async usage(_caller, from, to, group) {
      gateway.seen.usage = { from, to, group };
      const row = { jobs: 3, outputs: 4, credits: 7500, nodeSeconds: 1.23456 };
      return {
        data: [
          { key: null, ...row },
          { key: 'MKT-2241', ...row },
        ],
        total: { key: null, ...row },
      };
    },
    async upload(caller, bytes, signal) {
      failing('upload');
      await gateway.uploadsFrom;
      const chunks: Buffer[] = [];
      for await (const chunk of bytes) {
        signal.throwIfAborted();
        gateway.seen.uploading = true;
        chunks.push(chunk as Buffer);
      }
      const all = Buffer.concat(chunks);
      gateway.uploaded.push(all);
      return {
        id: 'upl_01HWX2K8Y4N5R7P9Q1B3T6V8M0',
        workspaceId: caller.workspace.id,
        blob: 'u.png',
        sha256: sha256(all),
        mediaType: 'image/png',
        width: 1,
        height: 1,
        bytes: all.length,
        createdAt: NOW,
        usedAt: NOW,
      };
    },
    async file(id, index, what, expires, signature) {
      if (signature !== LINK || expires < clock.now()) throw new GatewayError('forbidden', 'A bad link.');
      if (!generations.has(id) || gateway.swept) throw new GatewayError('not_found', 'The file is gone.');
      return {
        stat: { bytes: FILE.length, mediaType: what === 'thumbnail' ? 'image/webp' : 'image/png', etag: sha256(FILE) },
        output: output(index),
        open: async (range) => Readable.from([range ? FILE.subarray(range.start, range.end + 1) : FILE]),
      };
    },
    nodes: () => [NODE],
    async addNode(spec) {
      if (spec.id === NODE.spec.id) throw new GatewayError('conflict', 'There is such a node.');
      return { ...NODE, spec, source: 'runtime' };
    },
    drainNode: async () => ({ ...NODE, status: 'draining' }),
    resumeNode: async () => NODE,
    async removeNode(id) {
      if (id === NODE.spec.id) throw new GatewayError('conflict', 'It stands in the config file.');
    },
    async createWorkspace({ name, limits }) {
      const w = workspaceOf(`ws_${workspaces.size}`, { name, limits: { ...DEFAULT_LIMITS, ...limits } });
      workspaces.set(w.id, w);
      return w;
    },
    workspace: async (id) => workspace(id),
    workspaces: async () => ({ data: [...workspaces.values()], next: null }),
    async deleteWorkspace(id) {
      workspace(id);
      workspaces.delete(id);
      for (const [hash, caller] of keys) if (caller.workspace.id === id) keys.delete(hash);
    },
    async createKey(workspaceId, request) {
      const secret = `dk_made_${keys.size}`;
      const key = gateway.addKey(secret, { ...request }, workspace(workspaceId));
      return { key, secret };
    },
    async keys(workspaceId) {
      workspace(workspaceId);
      return { data: [...keys.values()].map((c) => c.key).filter((k) => k.workspaceId === workspaceId), next: null };
    },
    async deleteKey(workspaceId, keyId) {
      for (const [hash, { key }] of keys) {
        if (key.workspaceId === workspaceId && key.id === keyId) return void keys.delete(hash);
      }
      throw new GatewayError('not_found', 'There is no such key.');
    },
    async grant(workspaceId, amount) {
      workspace(workspaceId);
      if (amount < -1_000_000) throw new GatewayError('conflict', 'The balance would fall below 0.');
      gateway.grants.push({ workspaceId, amount });
      return { balance: 1_000_000 + amount, reserved: 0 };
    },
    creditsOf: async () => ({ balance: 1_000_000, reserved: 0 }),
    ready: async () => gateway.ready_,
    stop: async () => {},
    stats: () => ({
      queued: generations.size,
      running: 0,
      nodes: [NODE],
      catalog: { ok: false, error: 'bad', loadedAt: NOW },
      finished: [{ model: 'sketch', status: 'succeeded', count: 3 }],
      creditsCharged: 7500,
      commits: 12,
      batches: { running: 1, paused: 0, breaker_open: 0 },
      webhooks: {
        delivered: 9,
        dead: 1,
        tries: { arrived: 9, failed: 4 },
        failingReceivers: 1,
        pending: async () => 3,
      },
    }),
  };
  gateway.addKey(ADMIN_KEY, { scopes: ['admin'] satisfies Scope[] });
  return gateway;
}

function generationOf(id: string, caller: Caller, prompt: string, metadata: Generation['metadata']): Generation {
  return {
    id,
    workspaceId: caller.workspace.id,
    keyId: caller.key.id,
    createdAt: NOW,
    priority: 'interactive',
    batchId: null,
    item: null,
    metadata,
    webhookUrl: null,
    softenedPrompt: null,
    fallback: 'none',
    startBy: null,
    runWithinMs: 600_000,
    maxCredits: null,
    requestedModel: null,
    idempotencyKey: null,
    requestHash: 'h',
    previousId: null,
    kind: 'image',
    seq: 1,
    model: 'sketch',
    params: paramsOf({ prompt, steps: 20, guidance: 3.5 }),
    quote: { perOutput: 2500, perNodeSecond: 0, reserve: 2500 },
    warnings: [],
    attempts: [],
    avoid: [],
    softened: false,
    reserved: 2500,
    charged: 0,
    state: { status: 'queued', attempt: 1, notBefore: NOW },
  };
}

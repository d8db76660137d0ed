// The engine over a real database (SQLite where a test names no other), the real fleet and nodes that obey, on a clock that
// moves by hand. Media is in memory: what the engine asks of it is recorded, the bytes are real.

import { createHash } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Catalog } from '../../src/catalog/catalog.ts';
import type { GenerationRequest } from '../../src/contract/generations.ts';
import { createBlocklist } from '../../src/domain/blocklist.ts';
import type { Caller } from '../../src/domain/caller.ts';
import type { Generation, Status } from '../../src/domain/generation.ts';
import type { BackendKind, Model } from '../../src/domain/model.ts';
import { DEFAULT_POLICY } from '../../src/domain/placement.ts';
import { FREE } from '../../src/domain/price.ts';
import { type Gateway, hashKey, openGateway, type Settings } from '../../src/engine/gateway.ts';
import { type Fleet, openFleet } from '../../src/fleet/fleet.ts';
import type { Media } from '../../src/media/media.ts';
import { openStore, type Store } from '../../src/store/store.ts';
import type { System } from '../../src/system/system.ts';
import { type FakeBackends, fakeBackends } from '../fleet/fake-backend.ts';
import { ManualClock, settle } from '../harness/manual-clock.ts';
import { realSystem } from '../harness/system.ts';
import { type Engine, sqlite } from '../store/engines.ts';

export const ADMIN_KEY = 'dk_test';
export const CREDIT = 1000;

export interface HouseOptions {
  /** Node ids; all comfyui, all able to run everything. Default two. */
  readonly nodes?: readonly string[];
  readonly settings?: Partial<Settings>;
  readonly models?: readonly Partial<Model>[];
  /** More nodes, of other kinds. */
  readonly extra?: readonly { readonly id: string; readonly kind: BackendKind }[];
  /** Parts of another outside world. */
  readonly system?: Partial<Omit<System, 'clock'>>;
  readonly engine?: Engine;
  /** Stands between the gateway and its store: to hold answers back. */
  readonly through?: (store: Store) => Store;
}

export interface House extends AsyncDisposable {
  readonly clock: ManualClock;
  readonly fakes: FakeBackends;
  readonly admin: Caller;
  readonly media: ReturnType<typeof memoryMedia>;
  gateway: Gateway;
  store: Store;
  fleet: Fleet;
  /** Submits as admin, without waiting for anything to run. */
  ask(request?: Partial<GenerationRequest>): Promise<Generation>;
  state(id: string): Promise<Generation>;
  /** Moves the clock until it has this status. Fails after an hour of clock time. */
  until(id: string, status: Status): Promise<Generation>;
  /** The gateway dies at once: nothing is stopped, drained or handed over. Then a new one opens on the same store. */
  crashAndRestart(): Promise<void>;
  /** The catalog offers these from now on. */
  offer(models: readonly Partial<Model>[]): void;
  /** What the configuration names from the next start on. */
  equip(nodes: NonNullable<HouseOptions['extra']>): void;
  /** The disk is full from now on, or has room again. */
  full(on: boolean): void;
  /** Stops politely and opens again. */
  restart(): Promise<void>;
}

export const model = (over: Partial<Model> = {}): Model => ({
  id: 'flux-dev',
  name: 'FLUX dev',
  kind: 'image',
  bestFor: 'tests',
  capabilities: new Set(['text-to-image', 'image-to-image', 'lora', 'seed', 'guidance', 'negative-prompt']),
  price: { ...FREE, perOutput: 2 * CREDIT },
  limits: { maxPixels: 4_194_304, minSide: 64, maxSide: 4096, multipleOf: 16, maxN: 8, maxSteps: 50 },
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
  estimateMs: 10_000,
  coldMs: 5_000,
  fallback: [],
  retiresAt: null,
  routes: [
    { backend: 'comfyui', labels: [], checkpoint: 'flux.safetensors', workflow: null, remote: null, account: null },
  ],
  ...over,
});

export function memoryMedia(): Media & { readonly blobs: { readonly removed: string[] } } {
  const blobs = new Map<string, Buffer>();
  const removed: string[] = [];
  const read = async (stream: Readable) => {
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(Buffer.from(chunk as Buffer));
    const bytes = Buffer.concat(chunks);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    blobs.set(`${sha256}.png`, bytes);
    return { sha256, bytes: bytes.length, blob: `${sha256}.png`, mediaType: 'image/png', width: 1024, height: 1024 };
  };
  return {
    blobs: {
      removed,
      stat: async (key) =>
        blobs.has(key) ? { bytes: blobs.get(key)?.length ?? 0, mediaType: 'image/png', etag: key } : null,
      open: async (key) => Readable.from([blobs.get(key) ?? Buffer.alloc(0)]),
      path: async (key) => key,
      remove: async (key) => {
        removed.push(key);
        return blobs.delete(key);
      },
      usedBytes: async () => [...blobs.values()].reduce((sum, b) => sum + b.length, 0),
    },
    links: { sign: (l) => `/v1/outputs/${l.generation}/${l.index}`, verify: () => true },
    ingest: async (open, { signal }) => {
      const file = await read(await open(signal));
      return { ...file, kind: 'image', thumbnail: null, original: file.blob };
    },
    accept: async (bytes) => ({ kind: 'blob', ...(await read(bytes)) }),
    recover: async () => {},
    close: async () => {},
  };
}

export async function openHouse({
  nodes = ['rack-1', 'rack-2'],
  settings = {},
  models = [{}],
  extra = [],
  system: outside = {},
  engine = sqlite,
  through = (store) => store,
}: HouseOptions = {}): Promise<House> {
  const directory = await mkdtemp(join(tmpdir(), 'darkroom-engine-'));
  const site = await engine.site();
  const calls = { made: 0, open: 0 };
  const clock = new ManualClock(undefined, async (turns) => {
    for (let seen = -1; calls.open > 0 || calls.made !== seen; ) {
      seen = calls.made;
      await settle(turns);
    }
  });
  const system = { ...realSystem(clock), ...outside };
  const fakes = fakeBackends(clock);
  const media = memoryMedia();
  const listed = (offered: readonly Partial<Model>[]): Catalog['current'] => ({
    models: new Map(offered.map(model).map((m) => [m.id, m])),
    aliases: new Map([['flux', 'flux-dev']]),
    recipes: new Map(),
    loadedAt: clock.now(),
  });
  let snapshot = listed(models);
  const readers = new Set<() => void>();
  const catalog: Catalog = {
    get current() {
      return snapshot;
    },
    status: { ok: true, error: null, loadedAt: clock.now() },
    onChange(listener) {
      readers.add(listener);
      return { [Symbol.dispose]: () => void readers.delete(listener) };
    },
    close: async () => {},
  };
  const specsOf = (named: NonNullable<HouseOptions['extra']>) =>
    named.map(({ id, kind }) => ({ id, kind, url: `http://127.0.0.1:1/${id}`, labels: [], auth: null, slots: 1 }));
  let specs = specsOf([...nodes.map((id) => ({ id, kind: 'comfyui' as const })), ...extra]);
  const all: Settings = {
    defaultModel: 'flux-dev',
    usdPerCredit: 0.01,
    limits: { concurrency: 50, queue: 1000, requestsPerMinute: null },
    policy: DEFAULT_POLICY,
    drainMs: 1_000,
    provenance: true,
    allowPrivate: [],
    linkMs: 86_400_000,
    retentionMs: null,
    quotaBytes: null,
    studioCredits: 1000 * CREDIT,
    refusedElsewhere: false,
    blocklistOf: () => createBlocklist([]),
    software: 'Darkroom test',
    baseUrl: Promise.resolve('http://darkroom.test'),
    ...settings,
  };
  const open = async () => {
    const life = { alive: true, full: false };
    const real = await openStore({ ...site.location, clock });
    const store = through(mortal(real, life, calls));
    const fleet = await openFleet({
      specs,
      runtime: real.nodes,
      sketch: false,
      backends: fakes.backends,
      system,
      directory,
    });
    const gateway = await openGateway({ system, store, fleet, media, catalog, settings: all }, ADMIN_KEY);
    await clock.settle();
    await clock.advance(1);
    return { store, fleet, gateway, life, real };
  };
  let current = await open();
  const admin = (await current.gateway.authenticate(hashKey(ADMIN_KEY))) as Caller;
  const close = async (h: typeof current) => {
    const stopped = h.gateway.stop();
    await clock.advance(all.drainMs + 60_000);
    await stopped;
    await h.fleet.stop();
    await h.real.close();
  };

  const house: House = {
    ...current,
    clock,
    fakes,
    admin,
    media,
    ask: async (request = {}) => (await house.gateway.submit(admin, { prompt: 'a lighthouse', ...request })).generation,
    state: (id) => house.gateway.get(admin, id),
    async until(id, status) {
      for (let s = 0; s < 3600; s++) {
        const g = await house.state(id);
        if (g.state.status === status) return g;
        await clock.advance(1000);
      }
      throw new Error(`${id} never was ${status}: ${JSON.stringify((await house.state(id)).state)}`);
    },
    async crashAndRestart() {
      current.life.alive = false;
      await current.fleet.stop();
      await current.real.close();
      current = await open();
      Object.assign(house, current);
    },
    offer(offered) {
      snapshot = listed(offered);
      for (const reader of [...readers]) reader();
    },
    equip(named) {
      specs = specsOf(named);
    },
    full(on) {
      current.life.full = on;
    },
    async restart() {
      await close(current);
      current = await open();
      Object.assign(house, current);
    },
    async [Symbol.asyncDispose]() {
      await close(current);
      await site[Symbol.asyncDispose]();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return house;
}

const WRITES = new Set(['append', 'insert', 'attempted']);

/**
 * A store that can run full, and that a killed process can no longer reach: after death nothing it was asked ever answers.
 * It counts what it was asked, so that the clock can let all of it be answered before it moves on.
 */
function mortal<T extends object>(
  of: T,
  life: { alive: boolean; full: boolean },
  calls: { made: number; open: number },
): T {
  return new Proxy(of, {
    get(target, name, receiver) {
      const value: unknown = Reflect.get(target, name, receiver);
      if (typeof value === 'object' && value !== null) return mortal(value, life, calls);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        if (!life.alive) return new Promise(() => {});
        if (life.full && WRITES.has(String(name))) return Promise.reject(new Error('no space left on device'));
        const result: unknown = value.apply(target, args);
        if (!(result instanceof Promise)) return result;
        calls.made++;
        calls.open++;
        const answered = result.finally(() => void calls.open--);
        return answered.then((v) => (life.alive ? v : new Promise(() => {})));
      };
    },
  });
}

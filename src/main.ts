// Composition root: builds the house in order, listens, and stops in reverse. Nothing else knows all the rooms.

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createApi } from './api/api.ts';
import type { Backends } from './backends/backend.ts';
import { bfl } from './backends/bfl/provider.ts';
import { connectComfyUi } from './backends/comfyui/client.ts';
import { fal } from './backends/fal/provider.ts';
import { gemini } from './backends/gemini/provider.ts';
import { connectAccount } from './backends/hosted/account.ts';
import { ideogram } from './backends/ideogram/provider.ts';
import { luma } from './backends/luma/provider.ts';
import { openai } from './backends/openai/provider.ts';
import { replicate } from './backends/replicate/provider.ts';
import { runway } from './backends/runway/provider.ts';
import { connectSdapi } from './backends/sdapi/client.ts';
import { connectSketch } from './backends/sketch/client.ts';
import { stability } from './backends/stability/provider.ts';
import { together } from './backends/together/provider.ts';
import { openCatalog } from './catalog/catalog.ts';
import type { Account, Config } from './config.ts';
import { createBlocklist } from './domain/blocklist.ts';
import type { NodeSpec } from './domain/node.ts';
import { type Gateway, openGateway, type Settings } from './engine/gateway.ts';
import { openFleet } from './fleet/fleet.ts';
import { openMedia } from './media/media.ts';
import { lockFolder, openStore, type Store } from './store/store.ts';
import { type Clock, createSystem, type System } from './system/system.ts';

export const VERSION = '0.1.0';

export interface Darkroom {
  /** Where it listens, as a person would type it. */
  readonly url: string;
  readonly gateway: Gateway;
  /** The file that holds the admin key, when the gateway made it. */
  readonly adminKeyFile: string | null;
  /** No new work → running work may finish → the rest is handed over → doors → nodes → pool → store. Idempotent. */
  stop(): Promise<void>;
}

/** What is open so far, to be closed in reverse; also when a later room fails to open. */
type Closers = (() => Promise<unknown>)[];

/** Opens a gateway. `system`: another outside world, for tests. */
export async function openDarkroom(
  config: Config,
  system = createSystem({ level: config.logLevel, ...config.outbound }),
): Promise<Darkroom> {
  const closers: Closers = [];
  let closing: Promise<void> | null = null;
  /** One that fails does not keep the others open. */
  const closeAll = () => {
    closing ??= (async () => {
      for (const close of closers.reverse()) {
        await close().catch((error: unknown) => system.log.error({ err: error }, 'something did not close'));
      }
    })();
    return closing;
  };
  try {
    const listening = Promise.withResolvers<string>();
    const { gateway, adminKeyFile } = await openRooms(config, system, closers, listening.promise);
    const api = createApi({ gateway, system, publicUrl: config.publicUrl, host: config.host });
    const server = createServer(api.handler);
    api.attach(server);
    closers.push(async () => {
      await api.close(); // first: the server would wait for its sockets
      await shut(server, system.clock);
    });
    const url = await listen(server, config.host, config.port);
    listening.resolve(config.publicUrl ?? url);
    closers.push(() => gateway.stop()); // and before the doors: who waits may go on asking while running work finishes
    return { url, gateway, adminKeyFile, stop: closeAll };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function openRooms(config: Config, system: System, closers: Closers, baseUrl: Promise<string>) {
  const { clock, log } = system;
  await mkdir(config.data, { recursive: true });
  const catalog = await openCatalog({ models: config.models, workflows: config.workflows, clock, log });
  closers.push(() => catalog.close());
  const lock = lockFolder(join(config.data, 'gateway.lock'));
  closers.push(async () => lock[Symbol.dispose]());
  const where =
    config.databaseUrl === null
      ? { path: join(config.data, 'darkroom.db') }
      : { url: config.databaseUrl, exclusive: true };
  const store = await openStore({ ...where, clock });
  closers.push(() => store.close());
  const secret = await store.meta.remember('link-secret', system.random.secret(32));
  const media = await openMedia({ directory: config.data, system, secret });
  closers.push(() => media.close());
  const fleet = await openFleet({
    specs: [...config.nodes, ...config.accounts.map(accountSpec)],
    runtime: store.nodes,
    sketch: config.sketch,
    backends: BACKENDS,
    system,
    directory: config.data,
  });
  closers.push(() => fleet.stop());
  const admin = await adminKeyOf(config, store, system);
  const settings = settingsOf(config, baseUrl);
  const gateway = await openGateway({ system, store, fleet, media, catalog, settings }, admin.key);
  closers.push(() => gateway.stop());
  if (admin.file !== null) await store.meta.remember(ADMIN_KEY_MADE, 'yes');
  return { gateway, adminKeyFile: admin.file };
}

/** Every kind of node and account there is, by the protocol it speaks. */
export const BACKENDS: Backends = {
  comfyui: connectComfyUi,
  sdapi: connectSdapi,
  sketch: connectSketch,
  replicate: connectAccount(replicate),
  fal: connectAccount(fal),
  bfl: connectAccount(bfl),
  openai: connectAccount(openai),
  gemini: connectAccount(gemini),
  ideogram: connectAccount(ideogram),
  stability: connectAccount(stability),
  together: connectAccount(together),
  luma: connectAccount(luma),
  runway: connectAccount(runway),
};

/** An account is a node with a key, and nothing to load. */
export const accountSpec = ({ id, kind, token, slots, baseUrl }: Account): NodeSpec => ({
  id,
  kind,
  url: baseUrl ?? '',
  labels: [],
  auth: null,
  slots,
  token,
});

const settingsOf = (config: Config, baseUrl: Promise<string>): Settings => ({
  defaultModel: config.defaultModel,
  usdPerCredit: config.usdPerCredit,
  limits: config.limits,
  policy: { ...config.scheduling, overflowMs: overflows(config.scheduling) },
  drainMs: config.scheduling.drainMs,
  provenance: config.outputs.provenance,
  allowPrivate: config.outbound.allowPrivate,
  linkMs: config.outputs.linkMs,
  retentionMs: config.outputs.retentionMs,
  quotaBytes: config.outputs.quotaBytes,
  studioCredits: config.studioCredits,
  refusedElsewhere: config.policy.refusedElsewhere,
  blocklistOf: blocklists(config.policy),
  software: `Darkroom ${VERSION}`,
  baseUrl,
});

/** A workspace's own patience goes before that of all, also where it has no end (null). */
function overflows({ overflowMs, workspaces }: Config['scheduling']): Settings['policy']['overflowMs'] {
  const own = new Map(Object.entries(workspaces));
  return (workspace) => own.get(workspace) ?? (own.has(workspace) ? null : overflowMs);
}

/** Compiled once; a workspace with entries of its own has the list of all before them. */
function blocklists({ blocked, workspaces }: Config['policy']): Settings['blocklistOf'] {
  const all = createBlocklist(blocked);
  const own = new Map(Object.entries(workspaces).map(([id, more]) => [id, createBlocklist([...blocked, ...more])]));
  return (id) => own.get(id) ?? all;
}

/**
 * The admin key of the settings, or one made at the first start. It is written to a file that only its owner can read
 * before its hash is stored, so that a crash in between loses nothing; later starts leave it alone.
 */
async function adminKeyOf(
  config: Config,
  store: Store,
  system: System,
): Promise<{ key: string | null; file: string | null }> {
  if (config.adminKey !== null) return { key: config.adminKey, file: null };
  const file = join(config.data, 'admin-key');
  const kept = (await readFile(file, 'utf8').catch(() => '')).trim();
  if (kept !== '') return { key: kept, file };
  if ((await store.meta.get(ADMIN_KEY_MADE)) !== null) return { key: null, file: null };
  const key = `dk_${system.random.secret(24)}`;
  await writeFile(`${file}.new`, `${key}\n`, { mode: 0o600, flush: true });
  await rename(`${file}.new`, file);
  return { key, file };
}

const ADMIN_KEY_MADE = 'admin-key-made';

function listen(server: Server, host: string, port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      const { port: bound } = server.address() as AddressInfo;
      const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
      resolve(`http://${name.includes(':') ? `[${name}]` : name}:${bound}`);
    });
  });
}

/** No new connections; those that are open may finish what they are at, within bounds. */
function shut(server: Server, { timer }: Clock): Promise<void> {
  return new Promise((resolve) => {
    const patience = timer(SHUT_MS, () => server.closeAllConnections());
    server.close(() => {
      patience[Symbol.dispose]();
      resolve();
    });
    server.closeIdleConnections();
  });
}

const SHUT_MS = 5_000;

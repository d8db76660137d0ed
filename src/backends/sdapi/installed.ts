// Who a server is and what it has installed: which member of the family, which names it knows. Names are looked up here
// before a job is sent, because several servers quietly take another model or sampler for a name they do not know.

import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import { normalizeModelName } from '../../domain/model.ts';
import type { Shelf } from './shelf.ts';
import { lost, type Wire } from './wire.ts';

export type Flavour = 'a1111' | 'forge' | 'sdnext' | 'sdcpp';

const Checkpoint = z.object({
  title: z.string(),
  model_name: z.string(),
  hash: z.string().nullish(),
  sha256: z.string().nullish(),
  filename: z.string().nullish(),
});
const Sampler = z.object({ name: z.string(), aliases: z.array(z.string()).nullish() });
const Scheduler = z.object({ name: z.string(), label: z.string().nullish() });
const Lora = z.object({ name: z.string(), alias: z.string().nullish(), path: z.string().nullish() });
const Named = z.object({ name: z.string() });
const Module = z.object({ model_name: z.string() });

export type Checkpoint = z.infer<typeof Checkpoint>;
export type Sampler = z.infer<typeof Sampler>;
export type Scheduler = z.infer<typeof Scheduler>;
export type Lora = z.infer<typeof Lora>;

/** null lists: the server does not tell. */
export interface Installed {
  readonly flavour: Flavour;
  readonly version: string | null;
  /** stable-diffusion.cpp: it has the asynchronous /sdcpp/v1. */
  readonly native: boolean;
  /** It answers for single tasks at /internal/progress. */
  readonly tasks: boolean;
  readonly checkpoints: readonly Checkpoint[] | null;
  readonly samplers: readonly Sampler[] | null;
  readonly schedulers: readonly Scheduler[] | null;
  readonly loras: readonly Lora[] | null;
  readonly upscalers: readonly string[] | null;
  /** Forge: VAE and text encoder files. */
  readonly modules: readonly string[] | null;
}

const SDCPP_HASH = '8888888888';
const METADATA: ReadonlySet<string> = new Set(['metadata']);
const anything = z.unknown();

/** One full look. Throws GatewayError('node_lost') for a server that does not speak /sdapi. */
export async function look(wire: Wire, shelf: Shelf, signal: AbortSignal): Promise<Installed> {
  const find = <T>(path: string, schema: z.ZodType<T>) => wire.find(path, schema, { signal });
  const checkpoints = await find('/sdapi/v1/sd-models', z.array(Checkpoint));
  const who = await identify(find, checkpoints);
  const tasks = who.flavour !== 'sdcpp' && who.flavour !== 'sdnext' && (await answersForTasks(wire, signal));
  const samplers = await find('/sdapi/v1/samplers', z.array(Sampler));
  const schedulers = await find('/sdapi/v1/schedulers', z.array(Scheduler));
  const upscalers = await find('/sdapi/v1/upscalers', z.array(Named));
  const modules = who.flavour === 'forge' ? await find('/sdapi/v1/sd-modules', z.array(Module)) : null;
  return {
    ...who,
    tasks,
    checkpoints,
    samplers,
    schedulers,
    loras: await findLoras(wire, shelf, signal),
    upscalers: upscalers?.map(({ name }) => name).filter((name) => name !== 'None') ?? null,
    modules: modules?.map((module) => module.model_name) ?? null,
  };
}

type Find = <T>(path: string, schema: z.ZodType<T>) => Promise<T | null>;

async function identify(
  find: Find,
  checkpoints: readonly Checkpoint[] | null,
): Promise<Pick<Installed, 'flavour' | 'version' | 'native'>> {
  const native = (await find('/sdcpp/v1/capabilities', z.object({}))) !== null;
  if (native || checkpoints?.[0]?.hash === SDCPP_HASH) return { flavour: 'sdcpp', version: null, native };
  const version = await find('/sdapi/v1/version', z.object({ updated: z.string(), hash: z.string() }).partial());
  if (version) return { flavour: 'sdnext', version: version.updated ?? version.hash ?? null, native };
  if (await find('/sdapi/v1/sd-modules', z.array(anything))) return { flavour: 'forge', version: null, native };
  if (checkpoints || (await find('/sdapi/v1/sd-vae', z.array(anything))))
    return { flavour: 'a1111', version: null, native };
  const comfy = await find('/system_stats', z.object({ system: z.object({ comfyui_version: z.string() }) }));
  const why = comfy ? 'this is a ComfyUI, so its kind is "comfyui"' : 'start it with --api';
  throw new GatewayError('node_lost', `The server does not speak /sdapi; ${why}.`);
}

async function answersForTasks(wire: Wire, signal: AbortSignal): Promise<boolean> {
  const found = await wire.find('/internal/pending-tasks', z.object({ size: z.number() }), { signal });
  return found !== null;
}

/** A LoRA carries its whole training record as metadata: megabytes, dropped while they come in. */
async function findLoras(wire: Wire, shelf: Shelf, signal: AbortSignal): Promise<Lora[] | null> {
  const response = await wire.ask('/sdapi/v1/loras', { signal, maxBytes: 512 * 1024 * 1024 });
  if (!response.ok) {
    response.discard();
    return null;
  }
  const { body } = await shelf.harvest(response.stream(), signal, METADATA).catch((error: unknown) => {
    throw lost(error);
  });
  return z.array(Lora).safeParse(body).data ?? null;
}

/** All names by which a checkpoint may be asked for. */
export function namesOf({ title, model_name, hash, sha256, filename }: Checkpoint): string[] {
  const path = normalizeModelName(title.replace(/ \[[0-9a-f]+\]$/i, ''));
  const file = filename ? normalizeModelName(filename).split('/').at(-1) : undefined;
  const real = [hash, sha256].filter((digest) => digest && digest !== SDCPP_HASH);
  return [...new Set([title, path, model_name, file, ...real].filter((name): name is string => Boolean(name)))];
}

const same = (a: string, b: string) => normalizeModelName(a).toLowerCase() === normalizeModelName(b).toLowerCase();

export function findCheckpoint(checkpoints: readonly Checkpoint[], wanted: string): Checkpoint | undefined {
  return checkpoints.find((one) => namesOf(one).some((name) => same(name, wanted)));
}

export function findSampler(samplers: readonly Sampler[], wanted: string): Sampler | undefined {
  return (
    samplers.find(({ name }) => same(name, wanted)) ??
    samplers.find(({ aliases }) => aliases?.some((alias) => same(alias, wanted)))
  );
}

export function findScheduler(schedulers: readonly Scheduler[], wanted: string): Scheduler | undefined {
  return schedulers.find(({ name, label }) => same(name, wanted) || (label && same(label, wanted)));
}

export function findLora(loras: readonly Lora[], wanted: string): Lora | undefined {
  const bare = wanted.replace(/\.(safetensors|pt|ckpt)$/i, '');
  const stem = (path: string) => normalizeModelName(path).replace(/\.(safetensors|pt|ckpt)$/i, '');
  return loras.find(
    ({ name, alias, path }) =>
      same(name, bare) ||
      (alias && same(alias, bare)) ||
      (path && (same(stem(path), bare) || stem(path).endsWith(`/${normalizeModelName(bare)}`))),
  );
}

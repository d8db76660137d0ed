// One look at the node: who it is, what is installed, how much waits there that is not ours. The lists of files are read
// per loader class and kept for a minute; the list of all node classes is big and slow, so it is fetched in the
// background, once per start of the server.

import { GatewayError } from '../../domain/failure.ts';
import type { NodeReport } from '../../domain/node.ts';
import { topLevelKeys } from './keys.ts';
import type { StatsReply } from './replies.ts';
import { isProcessGone, Unexpected } from './server.ts';
import type { Session } from './session.ts';

const CLASSES = [
  'CheckpointLoaderSimple',
  'UNETLoader',
  'LoraLoader',
  'VAELoader',
  'CLIPLoader',
  'DualCLIPLoader',
  'UpscaleModelLoader',
  'KSampler',
] as const;

/** `closing` ends what goes on in the background. */
export function createProbe(session: Session, closing: AbortSignal): (signal: AbortSignal) => Promise<NodeReport> {
  const { clock } = session.system;
  let identity: string | null = null;
  let listedAt = Number.NEGATIVE_INFINITY;
  let restartsSeen = session.restarts;
  const classes = createClassList(session, closing);

  const noticeRestart = ({ system }: StatsReply) => {
    const seen = JSON.stringify([system.comfyui_version, system.python_version, system.argv]);
    if (identity !== null && identity !== seen) session.restarts++;
    identity = seen;
    if (session.restarts === restartsSeen) return;
    restartsSeen = session.restarts;
    listedAt = Number.NEGATIVE_INFINITY;
    session.jobsApi = null;
    classes.forget();
  };
  const refreshLists = async (signal: AbortSignal) => {
    if (clock.monotonic() - listedAt < session.limits.listsMs) return;
    session.choices = await readChoices(session, signal);
    listedAt = clock.monotonic();
  };

  return async (signal) => {
    const stats = await readStats(session, signal);
    noticeRestart(stats);
    await refreshLists(signal);
    session.jobsApi ??= await session.server.hasJobs(signal).catch(() => null);
    await recheckWedge(session, signal);
    classes.want();
    void session.socket.ready();
    const waiting = await session.server.remaining(signal).catch(() => session.ours.size);
    signal.throwIfAborted();
    return report(session, stats, classes.known, Math.max(0, waiting - session.ours.size));
  };
}

async function readStats(session: Session, signal: AbortSignal): Promise<StatsReply> {
  try {
    return await session.server.stats(signal);
  } catch (error) {
    signal.throwIfAborted();
    if (isProcessGone(error)) session.restarts++;
    throw new GatewayError('node_lost', whyNot(error), { cause: error });
  }
}

function whyNot(error: unknown): string {
  if (!(error instanceof Unexpected)) return `It cannot be reached: ${(error as Error).message}.`;
  if (error.status === 401 || error.status === 403)
    return `It answers HTTP ${error.status}: it wants other credentials.`;
  return error.status >= 500 ? `It answers HTTP ${error.status}.` : 'It answers, but is not ComfyUI.';
}

/** A class that cannot be read now is left out: not knowing is no reason to refuse. */
async function readChoices({ server, system, spec }: Session, signal: AbortSignal): Promise<Session['choices']> {
  const read = async (className: string): Promise<[string, readonly string[]][]> => {
    try {
      const found = (await server.choices(className, signal)) ?? {};
      return Object.entries(found).map(([input, choices]) => [`${className}.${input}`, choices]);
    } catch (error) {
      signal.throwIfAborted();
      system.log.debug({ err: error, node: spec.id, class: className }, 'a node class could not be read');
      return [];
    }
  };
  return Object.fromEntries((await Promise.all(CLASSES.map(read))).flat());
}

async function recheckWedge(session: Session, signal: AbortSignal): Promise<void> {
  const { wedge, server } = session;
  if (wedge && (await isOver())) session.wedge = null;

  async function isOver(): Promise<boolean> {
    if (!wedge) return true;
    if (wedge.until === 'restart') return session.restarts > wedge.restarts;
    if (wedge.until === 'prompt_left_history') return (await server.history(wedge.promptId, signal)) === null;
    const { running, pending } = await server.queue(signal);
    return ![...running, ...pending].some((item) => item.id === wedge.promptId);
  }
}

function createClassList({ server, system, spec, limits }: Session, closing: AbortSignal) {
  let known: readonly string[] | null = null;
  let triedAt = Number.NEGATIVE_INFINITY;
  const fetch = async () => {
    try {
      known = await topLevelKeys(await server.catalog(closing));
    } catch (error) {
      if (!closing.aborted) system.log.warn({ err: error, node: spec.id }, 'the node classes could not be listed');
    }
  };
  return {
    get known() {
      return known;
    },
    /** Begins to fetch the list unless it is known or was tried a moment ago. */
    want() {
      const now = system.clock.monotonic();
      if (known !== null || closing.aborted || now - triedAt < limits.listsMs) return;
      triedAt = now;
      void fetch();
    },
    forget() {
      known = null;
      triedAt = Number.NEGATIVE_INFINITY;
    },
  };
}

function report(
  { choices }: Session,
  { system, devices }: StatsReply,
  classes: readonly string[] | null,
  foreignQueue: number,
): NodeReport {
  const list = (...keys: string[]) => {
    const found = keys.flatMap((key) => choices[key] ?? []);
    return keys.some((key) => choices[key]) ? [...new Set(found)] : null;
  };
  const device = devices[0];
  const total = device?.vram_total;
  return {
    flavour: 'comfyui',
    version: system.comfyui_version ?? null,
    device: device?.name ?? null,
    memory: total == null ? null : { totalBytes: total, freeBytes: device?.vram_free ?? 0 },
    checkpoints: list('CheckpointLoaderSimple.ckpt_name', 'UNETLoader.unet_name'),
    loras: list('LoraLoader.lora_name'),
    samplers: list('KSampler.sampler_name'),
    schedulers: list('KSampler.scheduler'),
    upscalers: list('UpscaleModelLoader.model_name'),
    classes,
    files: Object.fromEntries(Object.entries(choices).filter(([key]) => /^\w*Loader\w*\.\w+_name\d?$/.test(key))),
    foreignQueue,
  };
}

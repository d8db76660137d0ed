// One life of a ComfyUI process: queue, history, caches, counter and the one worker, all in memory, all gone with it.
// What outlives it (files on disk, faults, the log) is handed in.

import type { FaultSetting, Faults } from '../faults.ts';
import { aborted, pauseOn } from '../pace.ts';
import { type Cached, execute, NodeError, type Outcome, type Stage } from './execute.ts';
import type { Files } from './files.ts';
import { type NodeTable, nodeTable } from './nodes.ts';
import { checkpointIn, prefixIn } from './plan.ts';
import { type Prompt, type PromptHeap, promptHeap } from './queue.ts';
import { type ComfyUiFault, type ComfyUiLogEntry, type ComfyUiSettings, PROMPT_FAULTS } from './settings.ts';
import type { Sockets } from './sockets.ts';

export interface HistoryEntry {
  readonly prompt: Prompt;
  readonly outcome: Outcome;
}

export interface Box {
  readonly pending: PromptHeap;
  /** Being run, or held for ever by a dead worker. */
  readonly running: Prompt | null;
  readonly history: Map<string, HistoryEntry>;
  readonly resident: readonly string[];
  readonly remaining: number;
  table(): NodeTable;
  /** Takes the next number, whether the prompt is accepted or not. */
  nextNumber(): number;
  /** Throws NotOrderable with the prompt inserted. A deadly one ends the worker when it comes to run. */
  enqueue(prompt: Omit<Prompt, 'faults'>, deadly?: boolean): Prompt;
  deletePending(id: string): boolean;
  clearPending(): void;
  /** null interrupts whatever runs. */
  interrupt(id: string | null): boolean;
  free(what: { readonly unload: boolean; readonly caches: boolean }): void;
  /** The node that runs now for a client id. */
  currentNode(clientId: string): string | null;
  /** Resolves when the prompt is neither pending nor running. */
  over(id: string): Promise<void>;
  end(): void;
}

export interface BoxOptions {
  readonly settings: ComfyUiSettings;
  readonly files: Files;
  readonly faults: Faults<ComfyUiFault>;
  readonly log: (what: ComfyUiLogEntry['what'], prompt: Prompt | null, detail?: string) => void;
  readonly sockets: () => Sockets;
  readonly crash: (afterMs: number) => void;
}

const HISTORY_MAX = 10_000;
const CACHE_MAX = 2_000;

export function createBox({ settings, files, faults, log, sockets, crash }: BoxOptions): Box {
  const { clock, profile } = settings;
  const life = new AbortController();
  const pause = pauseOn(clock);
  const pending = promptHeap();
  const history = new Map<string, HistoryEntry>();
  const cache = new Map<string, Cached>();
  const resident: string[] = [];
  let counter = 0;
  let running: Prompt | null = null;
  let node: string | null = null;
  let interrupted = false;
  let dead = false;
  let doomed = false;
  let freeing: { unload: boolean; caches: boolean } | null = null;
  let wake: () => void = () => undefined;

  const remaining = () => pending.size + (running ? 1 : 0);
  const status = () => sockets().send(null, 'status', { status: { exec_info: { queue_remaining: remaining() } } });
  let made: { readonly of: string; readonly table: NodeTable } | null = null;
  const table = () => {
    const inputs = files.list('input').map(({ filename }) => filename);
    const of = inputs.sort().join('|');
    if (made?.of !== of) made = { of, table: nodeTable(settings.installed, inputs) };
    return made.table;
  };

  const load = async (checkpoint: string, prompt: Prompt) => {
    const broken = settings.corrupt.includes(checkpoint) || prompt.faults.has('corrupt_model');
    if (broken) {
      throw new NodeError(
        'safetensors._safetensors_rust.SafetensorError',
        'Error while deserializing header: header too large\n',
      );
    }
    const there = resident.indexOf(checkpoint);
    if (there >= 0) resident.splice(there, 1);
    else await bring(checkpoint, prompt);
    resident.push(checkpoint);
    while (resident.length > settings.resident) resident.shift();
  };
  const bring = async (checkpoint: string, prompt: Prompt) => {
    const own = typeof settings.loadMs === 'number' ? settings.loadMs : (settings.loadMs[checkpoint] ?? 0);
    const silence = prompt.faults.get('silent_load');
    log('load', prompt);
    await pause(silence ? (silence.ms ?? 60_000) : own, life.signal);
    log('loaded', prompt);
  };
  const unloadAll = () => {
    resident.length = 0;
    log('unload', null);
  };

  const stage: Omit<Stage, 'table' | 'sockets'> = {
    files,
    cache,
    signal: life.signal,
    pause,
    now: clock.now,
    renderMs: typeof settings.renderMs === 'number' ? () => settings.renderMs as number : settings.renderMs,
    previews: settings.previews,
    forgetful: profile !== 'B',
    throttleMs: profile === 'B' ? 100 : 0,
    progressState: profile !== 'old',
    image: settings.image,
    load,
    unloadAll,
    interrupted: () => interrupted,
    interrupt: () => {
      interrupted = true;
    },
    crash,
    at: (id) => {
      node = id;
    },
  };

  const die = async (prompt: Prompt) => {
    dead = true;
    log('worker_dead', prompt);
    await aborted(life.signal);
  };
  const run = async (prompt: Prompt) => {
    running = prompt;
    status();
    if (doomed || prompt.faults.has('dead_worker')) return die(prompt);
    await pause(settings.gapMs, life.signal);
    interrupted = false;
    log('render_begin', prompt);
    while (cache.size > CACHE_MAX) cache.delete(cache.keys().next().value ?? '');
    const outcome = await execute(prompt, { ...stage, table: table(), sockets: sockets() });
    log('render_end', prompt, outcome.ended);
    await pause(settings.historyMs, life.signal);
    history.delete(prompt.id);
    history.set(prompt.id, { prompt, outcome });
    if (history.size > HISTORY_MAX) history.delete(history.keys().next().value ?? '');
    running = null;
    node = null;
    status();
    const owner = prompt.extra.client_id;
    if (typeof owner === 'string') sockets().send(owner, 'executing', { node: null, prompt_id: prompt.id });
  };
  const release = () => {
    if (!freeing || running) return;
    if (freeing.unload || freeing.caches) unloadAll();
    if (freeing.caches) cache.clear();
    freeing = null;
  };
  const work = async () => {
    while (!life.signal.aborted) {
      release();
      const next = pending.pop();
      if (next) {
        await run(next);
        if (pending.size === 0) log('idle', null);
      } else {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    }
  };
  life.signal.addEventListener('abort', () => wake());
  void work().catch((error: unknown) => {
    if (!life.signal.aborted) throw error;
  });

  const clearPending = () => {
    for (const prompt of pending.list()) log('delete', prompt);
    pending.clear();
    status();
  };

  return {
    pending,
    history,
    resident,
    get running() {
      return running;
    },
    get remaining() {
      return remaining();
    },
    table,
    nextNumber: () => counter++,
    enqueue(asked, deadly = false) {
      const drawn = new Map<string, FaultSetting>(deadly ? [['dead_worker', {}]] : []);
      for (const name of PROMPT_FAULTS) {
        const setting = faults.take(name);
        if (setting) drawn.set(name, setting);
      }
      const prompt = { ...asked, faults: drawn };
      log('accept', prompt);
      try {
        pending.push(prompt);
      } catch (error) {
        doomed = true;
        throw error;
      } finally {
        status();
        setImmediate(() => wake());
      }
      return prompt;
    },
    deletePending(id) {
      const prompt = pending.list().find((one) => one.id === id);
      if (!prompt) return false;
      if (pending.size === 1) clearPending();
      else {
        pending.remove(id);
        log('delete', prompt);
      }
      status();
      return true;
    },
    clearPending,
    interrupt(id) {
      const hit = id === null || running?.id === id;
      log('interrupt', running, id ?? 'whatever runs');
      if (hit) interrupted = true;
      return hit;
    },
    free(what) {
      freeing = what;
      wake();
    },
    currentNode: (clientId) => (running?.extra.client_id === clientId && !dead ? node : null),
    async over(id) {
      const open = () => running?.id === id || pending.list().some((prompt) => prompt.id === id);
      while (open() && !life.signal.aborted) await new Promise<void>((resolve) => setImmediate(resolve));
    },
    end: () => life.abort(new Error('the process ended')),
  };
}

export const facts = (prompt: Prompt | null) => ({
  promptId: prompt?.id ?? null,
  checkpoint: prompt ? checkpointIn(prompt.graph) : null,
  prefix: prompt ? prefixIn(prompt.graph) : null,
});

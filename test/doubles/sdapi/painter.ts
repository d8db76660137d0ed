// The one GPU behind an /sdapi server: a FIFO lock around everything that touches it, the checkpoint in memory, a global
// interrupt flag that the next job clears, and progress that belongs to whatever job runs.

import type { FaultSetting, Faults } from '../faults.ts';
import { aborted, pauseOn } from '../pace.ts';
import { picture } from '../pictures.ts';
import { RENDER_FAULTS, type SdapiFault, type SdapiLogEntry, type SdapiSettings } from './settings.ts';

export interface Order {
  readonly kind: 'txt2img' | 'img2img';
  readonly taskId: string | null;
  readonly prompt: string;
  readonly width: number;
  readonly height: number;
  readonly seed: number;
  readonly steps: number;
  readonly batch: number;
  readonly iterations: number;
  /** A checkpoint that exists; null for the loaded one. */
  readonly checkpoint: string | null;
  /** override_settings_restore_afterwards is false: the choice stays. */
  readonly keep: boolean;
  readonly hasModules: boolean;
  /** Everything else that changes the picture. */
  readonly salt: string;
  /** The caller's connection, for faults that cut it. */
  readonly cut: () => void;
}

export interface Painted {
  /** PNG. Fewer than asked for when interrupted: nothing else says so. */
  readonly images: readonly Buffer[];
  readonly seeds: readonly number[];
  readonly checkpoint: string;
  readonly interrupted: boolean;
  readonly faults: ReadonlyMap<string, FaultSetting>;
}

/** A Python exception in the handler. */
export class PythonError extends Error {
  readonly type: string;
  constructor(type: string, message: string) {
    super(message);
    this.type = type;
  }
}

export interface Painter {
  readonly state: Readonly<JobState>;
  /** Waits for its turn, then paints. */
  paint(order: Order): Promise<Painted>;
  /** Waits for its turn, then loads. */
  choose(checkpoint: string): Promise<void>;
  readonly loaded: string | null;
  /** What the options say is chosen. */
  readonly configured: string;
  interrupt(): void;
  skip(): void;
  unload(): void;
  /** Waiting for the lock, oldest first. */
  readonly waiting: readonly (string | null)[];
  readonly finished: readonly string[];
  end(): void;
}

interface JobState {
  job: string;
  taskId: string | null;
  jobCount: number;
  jobNo: number;
  step: number;
  steps: number;
  interrupted: boolean;
  skipped: boolean;
  stopping: boolean;
  startedAt: number;
}

export interface PainterOptions {
  readonly settings: SdapiSettings;
  readonly faults: Faults<SdapiFault>;
  readonly log: (what: SdapiLogEntry['what'], order: Order | null, checkpoint: string | null, detail?: string) => void;
  readonly crash: (afterMs: number) => void;
}

const REMEMBERED = 16;
const POISON = new PythonError('AttributeError', "'NoneType' object has no attribute 'sd_checkpoint_info'");

export function createPainter({ settings, faults, log, crash }: PainterOptions): Painter {
  const { clock, flavour } = settings;
  const life = new AbortController();
  const pause = pauseOn(clock);
  const state: JobState = {
    job: '',
    taskId: null,
    jobCount: 0,
    jobNo: 0,
    step: 0,
    steps: 0,
    interrupted: false,
    skipped: false,
    stopping: false,
    startedAt: 0,
  };
  const waiting: (string | null)[] = [];
  /** Failed before they began: the server lists them as pending for good. */
  const stale: (string | null)[] = [];
  const finished: string[] = [];
  let tail: Promise<unknown> = Promise.resolve();
  let loaded: string | null = settings.checkpoints[0] ?? null;
  let configured = settings.checkpoints[0] ?? '';
  let poisoned: string | null = null;

  const inTurn = <T>(taskId: string | null, work: () => Promise<T>): Promise<T> => {
    waiting.push(taskId);
    const turn = tail.then(() => {
      waiting.splice(waiting.indexOf(taskId), 1);
      life.signal.throwIfAborted();
      return work();
    });
    tail = turn.catch(() => undefined);
    return turn;
  };

  const load = async (checkpoint: string, order: Order | null, drawn: ReadonlyMap<string, FaultSetting>) => {
    if (poisoned !== null && poisoned === checkpoint) throw POISON;
    const lacking = flavour === 'forge' && settings.needModules.includes(checkpoint) && !order?.hasModules;
    if (lacking || drawn.has('failed_load')) {
      if (flavour === 'forge') poisoned = checkpoint;
      loaded = null;
      throw new PythonError('AssertionError', 'You do not have CLIP state dict!');
    }
    poisoned = null;
    if (loaded === checkpoint && !drawn.has('silent_load')) return;
    const own = typeof settings.loadMs === 'number' ? settings.loadMs : (settings.loadMs[checkpoint] ?? 0);
    const silence = drawn.get('silent_load');
    log('load', order, checkpoint);
    await pause(silence ? (silence.ms ?? 60_000) : own, life.signal);
    loaded = checkpoint;
    log('loaded', order, checkpoint);
  };

  const strike = async (order: Order, drawn: Map<string, FaultSetting>, step: number) => {
    const now = (name: string) => {
      const setting = drawn.get(name);
      const at = Math.min(setting?.step ?? Math.ceil(order.steps / 2), order.steps);
      return setting && step === at ? setting : null;
    };
    if (now('oom')) throw new PythonError('OutOfMemoryError', 'CUDA out of memory. Tried to allocate 2.00 GiB.');
    if (now('nan')) throw new PythonError('NansException', 'A tensor with all NaNs was produced in Unet.');
    if (now('interrupted')) state.interrupted = true;
    if (now('cut_connection')) {
      log('cut', order, loaded);
      order.cut();
    }
    const crashing = now('crash');
    if (crashing) crash(crashing.ms ?? 0);
    if (crashing || now('hang')) await aborted(life.signal);
    life.signal.throwIfAborted();
  };

  /** One batch; returns false when the interrupt came before its end. */
  const sample = async (order: Order, drawn: Map<string, FaultSetting>): Promise<boolean> => {
    for (let step = 1; step <= order.steps; step++) {
      await pause(settings.renderMs / order.steps, life.signal);
      await strike(order, drawn, step);
      if (state.interrupted || state.skipped) return false;
      state.step = step;
    }
    return true;
  };

  const work = async (order: Order, drawn: Map<string, FaultSetting>): Promise<Painted> => {
    Object.assign(state, {
      job: order.kind,
      taskId: order.taskId,
      jobCount: -1,
      jobNo: 0,
      step: 0,
      steps: order.steps,
      interrupted: false,
      skipped: false,
      stopping: false,
      startedAt: clock.now(),
    });
    const wanted = order.checkpoint ?? configured;
    if (order.keep) configured = wanted;
    const other = settings.checkpoints.find((name) => name !== wanted) ?? wanted;
    await load(drawn.has('wrong_model') ? other : wanted, order, drawn);
    state.jobCount = order.iterations;
    log('render_begin', order, loaded);
    const images: Buffer[] = [];
    const seeds: number[] = [];
    for (let n = 0; n < order.iterations && !state.interrupted && !state.stopping; n++) {
      Object.assign(state, { jobNo: n, step: 0, skipped: false });
      await sample(order, drawn);
      for (let b = 0; b < order.batch; b++) {
        const seed = order.seed + images.length;
        images.push(paintOne(order, seed));
        seeds.push(seed);
      }
    }
    return { images, seeds, checkpoint: loaded ?? wanted, interrupted: state.interrupted, faults: drawn };
  };
  const paintOne = ({ width, height, prompt, salt }: Order, seed: number): Buffer => {
    const text = { parameters: `${prompt}\nSeed: ${seed}, Size: ${width}x${height}` };
    const options = { width, height, kind: settings.image, salt: `${salt}/${seed}/${loaded}`, text };
    return Buffer.concat([...picture(options).parts]);
  };

  return {
    state,
    get loaded() {
      return loaded;
    },
    get configured() {
      return configured;
    },
    get waiting() {
      return [...waiting, ...stale];
    },
    finished,
    paint(order) {
      const drawn = new Map<string, FaultSetting>();
      for (const name of RENDER_FAULTS) {
        const setting = faults.take(name);
        if (setting) drawn.set(name, setting);
      }
      log('accept', order, null);
      return inTurn(order.taskId, async () => {
        const painted = await work(order, drawn).catch((error: unknown) => {
          if (!life.signal.aborted) log('render_end', order, loaded, (error as Error).message);
          if (state.jobCount === -1) {
            stale.push(order.taskId);
            state.taskId = null;
          }
          Object.assign(state, { job: '', jobCount: 0, step: 0 });
          throw error;
        });
        log('render_end', order, loaded, painted.interrupted ? 'interrupted' : 'success');
        if (order.taskId !== null) finished.push(order.taskId);
        if (finished.length > REMEMBERED) finished.shift();
        Object.assign(state, { job: '', taskId: null, jobCount: 0, step: 0 });
        if (waiting.length === 0) log('idle', null, loaded);
        return painted;
      });
    },
    choose: (checkpoint) =>
      inTurn(null, async () => {
        configured = checkpoint;
        await load(checkpoint, null, new Map());
      }),
    interrupt() {
      log('interrupt', null, loaded);
      if (settings.gentleInterrupt && !state.stopping) state.stopping = true;
      else state.interrupted = true;
    },
    skip() {
      state.skipped = true;
    },
    unload() {
      loaded = null;
    },
    end: () => life.abort(new Error('the process ended')),
  };
}

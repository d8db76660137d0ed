// Runs one prompt as ComfyUI's executor does and says so in the same words and order: cached nodes first, then node by
// node, progress after each step, outputs as they come. Misfortunes strike here, at the place where they strike there.

import type { FaultSetting } from '../faults.ts';
import { aborted, type Pause } from '../pace.ts';
import { picture, pngSize, previewJpeg } from '../pictures.ts';
import { digest, type Files } from './files.ts';
import type { NodeTable } from './nodes.ts';
import { checkpointIn, checkpointOf, type Flow, flowOf, links, runningOrder, signatures, stepsOf } from './plan.ts';
import type { Prompt } from './queue.ts';
import { type Save, saveOutputs } from './results.ts';
import type { Sockets } from './sockets.ts';
import { type GraphNode, pythonRepr } from './validate.ts';

export interface Cached {
  readonly flow: Flow;
  /** What the node shows: files or texts; null when it shows nothing. */
  readonly ui: Readonly<Record<string, unknown>> | null;
}

export type Message = readonly [type: string, data: Readonly<Record<string, unknown>>];

export interface Outcome {
  readonly ended: 'success' | 'error' | 'interrupted';
  readonly outputs: Readonly<Record<string, unknown>>;
  readonly meta: Readonly<Record<string, unknown>>;
  readonly messages: readonly Message[];
}

/** What the executor needs of its box. */
export interface Stage {
  readonly sockets: Sockets;
  readonly files: Files;
  readonly table: NodeTable;
  readonly cache: Map<string, Cached>;
  readonly signal: AbortSignal;
  readonly pause: Pause;
  readonly now: () => number;
  readonly renderMs: (prompt: Prompt) => number;
  readonly previews: boolean;
  /** Keeps the results of the last prompt only. */
  readonly forgetful: boolean;
  /** Progress frames are at least this far apart. */
  readonly throttleMs: number;
  /** Says `progress_state` beside `progress`. */
  readonly progressState: boolean;
  readonly image: Save['image'];
  /** Brings a checkpoint into memory; throws ModelFault when the file is broken. */
  readonly load: (checkpoint: string, prompt: Prompt) => Promise<void>;
  readonly unloadAll: () => void;
  /** Has someone pressed cancel since this prompt began? */
  readonly interrupted: () => boolean;
  readonly interrupt: () => void;
  readonly crash: (afterMs: number) => void;
  /** Which node runs now, for those who reconnect. */
  readonly at: (node: string | null) => void;
}

/** An exception inside a node: ends the prompt as `execution_error`. */
export class NodeError extends Error {
  readonly type: string;
  constructor(type: string, message: string) {
    super(message);
    this.type = type;
  }
}

class Interrupted extends Error {}

const OOM = new NodeError(
  'torch.OutOfMemoryError',
  'Allocation on device 0 would exceed allowed memory. (out of memory)\nThis error means you ran out of memory on your GPU.\n\nTIPS: If the workflow worked before you might have accidentally set the batch_size to a large number.',
);

export async function execute(prompt: Prompt, stage: Stage): Promise<Outcome> {
  const run = begin(prompt, stage);
  run.tell('execution_start', { prompt_id: prompt.id, timestamp: stage.now() });
  const cached = Object.keys(prompt.graph).filter((id) => run.cached(id));
  run.tell('execution_cached', { nodes: cached, prompt_id: prompt.id, timestamp: stage.now() });
  const order = runningOrder(prompt.graph, prompt.outputs, run.cached, stage.table);
  for (const id of order) {
    const node = prompt.graph[id];
    if (!node) continue;
    if (stage.interrupted()) return finish(run, 'interrupted', id, node);
    try {
      if (run.cached(id)) repeat(run, id);
      else await perform(run, id, node);
    } catch (error) {
      if (stage.signal.aborted) throw error;
      if (error instanceof Interrupted) return finish(run, 'interrupted', id, node);
      if (!(error instanceof NodeError)) throw error;
      if (error === OOM) stage.unloadAll();
      return finish(run, 'error', id, node, error);
    }
  }
  return finish(run, 'success');
}

type Run = ReturnType<typeof begin>;

function begin(prompt: Prompt, stage: Stage) {
  const owner = typeof prompt.extra.client_id === 'string' ? prompt.extra.client_id : null;
  const digestOf = (name: string) => {
    const file = stage.files.find(name);
    return file ? digest(file) : '';
  };
  const signs = signatures(prompt.graph, digestOf, `${prompt.id}/${prompt.number}`);
  const signOf = (id: string) => signs.get(id) ?? '';
  const named = new Set(signs.values());
  if (stage.forgetful) for (const sign of [...stage.cache.keys()]) if (!named.has(sign)) stage.cache.delete(sign);
  const before = new Set([...named].filter((sign) => stage.cache.has(sign)));
  const messages: Message[] = [];
  const progress: Record<string, unknown> = {};
  return {
    prompt,
    stage,
    owner,
    messages,
    progress,
    signOf,
    outputs: {} as Record<string, unknown>,
    meta: {} as Record<string, unknown>,
    executed: [] as string[],
    struck: new Set<string>(),
    /** Was it there when the prompt began? */
    cached: (id: string) => before.has(signOf(id)),
    /** A message that the history keeps; to the owner only. */
    tell(type: string, data: Readonly<Record<string, unknown>>) {
      messages.push([type, data]);
      if (owner !== null) stage.sockets.send(owner, type, data);
    },
    toOwner(type: string, data: unknown) {
      if (owner !== null) stage.sockets.send(owner, type, data);
    },
    state(id: string, value: number, max: number, state: 'running' | 'finished') {
      const about = { node_id: id, prompt_id: prompt.id, ...relatives(id) };
      progress[id] = { value, max, state, ...about };
      if (!stage.progressState) return;
      stage.sockets.send(owner, 'progress_state', { prompt_id: prompt.id, nodes: progress });
    },
  };
}

const relatives = (id: string) => ({ display_node_id: id, parent_node_id: null, real_node_id: id });

/** A cached output node shows its old result again. */
function repeat(run: Run, id: string): void {
  const { stage, prompt } = run;
  const kept = stage.cache.get(run.signOf(id));
  if (kept?.ui) {
    run.toOwner('executed', { node: id, display_node: id, output: kept.ui, prompt_id: prompt.id });
    show(run, id, kept.ui);
  }
  run.state(id, 1, 1, 'finished');
}

function show(run: Run, id: string, ui: Readonly<Record<string, unknown>>): void {
  run.outputs[id] = ui;
  run.meta[id] = { node_id: id, display_node: id, parent_node: null, real_node_id: id };
}

async function perform(run: Run, id: string, node: GraphNode): Promise<void> {
  const { stage, prompt } = run;
  stage.at(id);
  run.state(id, 0, 1, 'running');
  run.toOwner('executing', { node: id, display_node: id, prompt_id: prompt.id });
  await stage.pause(0, stage.signal);
  const inputs = links(node).map(([from]) => stage.cache.get(run.signOf(from))?.flow);
  const flow = flowOf(
    node,
    inputs.filter((one) => one !== undefined),
    ownFlow(run, node),
    run.signOf(id),
  );
  const isOutput = stage.table[node.class_type]?.output_node === true;
  if (isOutput && strikes(run, 'blocked')) return block(run, id, node, { ...flow, blocked: 'fresh' });
  if (flow.blocked !== 'no' && node.class_type !== 'TestExecutionBlocker') return block(run, id, node, flow);
  await work(run, id, node);
  const silent = isOutput && strikes(run, 'no_output', false);
  const ui = silent ? null : await result(run, id, node, flow);
  stage.cache.set(run.signOf(id), { flow, ui });
  if (ui) {
    run.toOwner('executed', { node: id, display_node: id, output: ui, prompt_id: prompt.id });
    show(run, id, ui);
  }
  end(run, id);
}

function end(run: Run, id: string): void {
  run.executed.push(id);
  const { max } = run.progress[id] as { max: number };
  run.state(id, max, max, 'finished');
}

function ownFlow(run: Run, { class_type, inputs }: GraphNode): Partial<Flow> {
  if (class_type === 'TestExecutionBlocker') return { blocked: inputs.block === true ? 'fresh' : 'no' };
  if (!class_type.startsWith('LoadImage')) return {};
  const file = run.stage.files.find(String(inputs.image));
  if (!file)
    throw new NodeError('FileNotFoundError', `[Errno 2] No such file or directory: '${String(inputs.image)}'\n`);
  return pngSize(file.parts[0] ?? Buffer.alloc(0)) ?? {};
}

/** The branch ends here, the prompt goes on: an error that is not terminal, told once. */
function block(run: Run, id: string, node: GraphNode, flow: Flow): void {
  if (flow.blocked === 'fresh') {
    run.toOwner('execution_error', {
      prompt_id: run.prompt.id,
      node_id: id,
      node_type: node.class_type,
      executed: [...run.executed],
      exception_message: 'Execution Blocked: Blocked Execution',
      exception_type: 'ExecutionBlocked',
      traceback: [],
      current_inputs: [],
      current_outputs: [],
    });
  }
  run.stage.cache.set(run.signOf(id), { flow: { ...flow, blocked: 'told' }, ui: null });
  end(run, id);
}

/** The time a node takes, and what can go wrong in it. */
async function work(run: Run, id: string, node: GraphNode): Promise<void> {
  const { stage, prompt } = run;
  if (node.class_type === 'ProbeOOM') throw OOM;
  const named = checkpointOf(node);
  if (named !== null) await stage.load(named, prompt);
  const steps = stepsOf(prompt.graph, node);
  if (steps === 0) return;
  const needed = checkpointIn(prompt.graph);
  if (needed !== null && named === null) await stage.load(needed, prompt);
  await sample(run, id, steps);
}

async function sample(run: Run, id: string, steps: number): Promise<void> {
  const { stage, prompt } = run;
  const heavy = Object.values(prompt.graph).filter((node) => stepsOf(prompt.graph, node) > 0).length;
  const stepMs = stage.renderMs(prompt) / heavy / steps;
  let toldAt = Number.NEGATIVE_INFINITY;
  for (let step = 1; step <= steps; step++) {
    await stage.pause(stepMs, stage.signal);
    if (stage.interrupted()) throw new Interrupted();
    await misfortune(run, step, steps);
    const due = step === steps || stage.now() - toldAt >= stage.throttleMs;
    if (due) toldAt = stage.now();
    await tellStep(run, id, step, steps, due);
  }
}

async function tellStep(run: Run, id: string, value: number, max: number, due: boolean): Promise<void> {
  const { stage, prompt, owner } = run;
  const preview = async () => {
    if (stage.previews) sendImage(run, id, await previewJpeg(), 'jpeg');
  };
  const early = stage.sockets.wantsMetadata(owner);
  if (due) run.state(id, value, max, 'running');
  if (early) await preview();
  if (due) stage.sockets.send(owner, 'progress', { value, max, prompt_id: prompt.id, node: id });
  if (!early) await preview();
}

function sendImage(run: Run, id: string, image: Buffer, format: 'jpeg' | 'png'): void {
  const about = { node_id: id, prompt_id: run.prompt.id, ...relatives(id) };
  run.stage.sockets.sendImage(run.owner, image, format, about);
}

/** Has this prompt drawn that fault? Once per prompt, unless `once` is false. */
function strikes(run: Run, name: string, once = true): FaultSetting | null {
  const setting = run.prompt.faults.get(name);
  if (!setting || (once && run.struck.has(name))) return null;
  run.struck.add(name);
  return setting;
}

async function misfortune(run: Run, step: number, steps: number): Promise<void> {
  const { stage } = run;
  const now = (name: string) => {
    const at = run.prompt.faults.get(name)?.step ?? Math.ceil(steps / 2);
    return step >= Math.min(at, steps) ? strikes(run, name) : null;
  };
  if (now('oom')) throw OOM;
  if (now('drop_socket')) stage.sockets.drop(run.owner);
  if (now('interrupted')) stage.interrupt();
  const crash = now('crash');
  if (crash) stage.crash(crash.ms ?? 0);
  if (crash || now('stuck')) await aborted(stage.signal);
  stage.signal.throwIfAborted();
  if (stage.interrupted()) throw new Interrupted();
}

/** What an output node makes; null for all others. */
async function result(run: Run, id: string, node: GraphNode, flow: Flow): Promise<Cached['ui']> {
  const { stage, prompt } = run;
  if (node.class_type === 'ProbeText') {
    stage.sockets.sendText(run.owner, id, `status: ${String(node.inputs.text)}`);
    return { text: [String(node.inputs.text)] };
  }
  if (node.class_type === 'SaveImageWebsocket') {
    await streamImages(run, id, flow);
    return null;
  }
  return saveOutputs({ node, flow, prompt, files: stage.files, image: stage.image });
}

async function streamImages(run: Run, id: string, { width, height, batch, salt }: Flow): Promise<void> {
  for (let i = 0; i < batch; i++) {
    const { parts } = picture({ width, height, salt: `${salt}/${i}`, kind: run.stage.image });
    const send = () => sendImage(run, id, Buffer.concat([...parts]), 'png');
    const early = run.stage.sockets.wantsMetadata(run.owner);
    run.state(id, i, batch, 'running');
    if (early) send();
    run.stage.sockets.send(run.owner, 'progress', { value: i, max: batch, prompt_id: run.prompt.id, node: id });
    if (!early) send();
  }
}

function finish(run: Run, ended: Outcome['ended'], id = '', node?: GraphNode, error?: NodeError): Outcome {
  const { prompt, stage, messages, outputs, meta } = run;
  const where = { prompt_id: prompt.id, node_id: id, node_type: node?.class_type, executed: [...run.executed] };
  const timestamp = stage.now();
  if (ended === 'success') run.tell('execution_success', { prompt_id: prompt.id, timestamp });
  if (ended === 'interrupted') {
    const data = { ...where, timestamp };
    messages.push(['execution_interrupted', data]);
    stage.sockets.send(run.owner, 'execution_interrupted', data);
  }
  if (error) {
    run.tell('execution_error', {
      ...where,
      exception_message: error.message,
      exception_type: error.type,
      traceback: ['  File "execution.py", line 496, in execute\n', '    raise\n'],
      current_inputs: inputsSeen(node),
      current_outputs: Object.keys(prompt.graph),
      timestamp,
    });
  }
  return { ended, outputs, meta, messages };
}

/** Input values as the traceback prints them; what came through a link is a tensor. */
function inputsSeen(node: GraphNode | undefined): Record<string, readonly unknown[]> {
  const print = (value: unknown) => {
    if (Array.isArray(value))
      return 'tensor([[[[0.0000, 0.0000, 0.0118],\n          ...,\n          [0.0000, 0.0000, 0.0118]]]])';
    return typeof value === 'string' ? value : pythonRepr(value);
  };
  return Object.fromEntries(Object.entries(node?.inputs ?? {}).map(([name, value]) => [name, [print(value)]]));
}

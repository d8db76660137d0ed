// The node classes a ComfyUI double has installed, in the words of /object_info. Nine are the recorded ones; the others
// are expanded from short forms. What a class *does* is in execute.ts and results.ts.

import recorded from '../../captures/comfyui/object_info-subset.json' with { type: 'json' };
import { OUTPUT_NODES, type Short, type ShortNode, shortNodes } from './classes.ts';

export type InputConfig = readonly [type: string | readonly string[], options?: Readonly<Record<string, unknown>>];

export interface NodeInfo {
  readonly input: {
    readonly required?: Readonly<Record<string, InputConfig>>;
    readonly optional?: Readonly<Record<string, InputConfig>>;
    readonly hidden?: Readonly<Record<string, string>>;
  };
  readonly output: readonly string[];
  readonly output_node: boolean;
  readonly python_module: string;
  readonly [more: string]: unknown;
}

export type NodeTable = Readonly<Record<string, NodeInfo>>;

/** Model files on the box, by folder of /models. */
export interface Installed {
  readonly checkpoints: readonly string[];
  readonly diffusion_models: readonly string[];
  readonly loras: readonly string[];
  readonly vae: readonly string[];
  readonly text_encoders: readonly string[];
  readonly upscale_models: readonly string[];
  readonly controlnet: readonly string[];
  readonly clip_vision: readonly string[];
  readonly audio_encoders: readonly string[];
}

/** Every class, with the box's own file lists in the loaders' choices. */
export function nodeTable(on: Installed, inputFiles: readonly string[]): NodeTable {
  const rest = Object.fromEntries(Object.entries(shortNodes(on)).map(([name, entry]) => [name, expand(name, entry)]));
  const core = recorded as unknown as NodeTable;
  return {
    ...core,
    ...rest,
    CheckpointLoaderSimple: choose(core.CheckpointLoaderSimple, 'ckpt_name', on.checkpoints),
    LoadImage: choose(core.LoadImage, 'image', inputFiles),
    LoadImageMask: choose(rest.LoadImageMask, 'image', inputFiles),
  };
}

function choose(info: NodeInfo | undefined, input: string, choices: readonly string[]): NodeInfo {
  if (!info) throw new Error('the recorded node table lacks a class the double needs');
  const options = info.input.required?.[input]?.[1] ?? {};
  return { ...info, input: { ...info.input, required: { ...info.input.required, [input]: [choices, options] } } };
}

function expand(name: string, { category, required, optional, output, module = 'nodes' }: ShortNode): NodeInfo {
  const configs = (short: Short): Record<string, InputConfig> =>
    Object.fromEntries(Object.entries(short).map(([key, value]) => [key, typeof value === 'string' ? [value] : value]));
  return {
    input: { required: configs(required), ...(optional ? { optional: configs(optional) } : {}) },
    input_order: { required: Object.keys(required), ...(optional ? { optional: Object.keys(optional) } : {}) },
    output,
    output_is_list: output.map(() => false),
    output_name: output,
    name,
    display_name: name,
    description: '',
    python_module: module,
    category,
    output_node: OUTPUT_NODES.has(name),
  };
}

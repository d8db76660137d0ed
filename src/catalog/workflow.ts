// A workflow: NAME.json, a ComfyUI API-format graph exactly as exported, and NAME.slots.yaml beside it, which declares
// the holes. Together they make a Recipe. Every slot, link and output is checked against the graph here, so that a
// wrong export is refused when it is saved and not when a picture is waited for.

import { createHash } from 'node:crypto';
import { z } from 'zod';
import { type Graph, type LoraPoint, type Recipe, SLOT_TYPES, type Slot, type SlotType } from '../domain/model.ts';
import type { InputValue } from '../domain/params.ts';
import type { Json } from '../domain/units.ts';
import { checkYaml, readYaml, YamlError, type YamlSource } from '../system/system.ts';
import { parseJson } from './json.ts';

/** The two files of one workflow. Names are for complaints. */
export interface WorkflowText {
  readonly name: string;
  readonly graphFile: string;
  readonly graph: string;
  readonly slotsFile: string;
  readonly slots: string;
}

/** The workflows a route may name, and why others that lie there cannot be used. */
export interface Workflows {
  readonly recipes: ReadonlyMap<string, Recipe>;
  readonly unusable: ReadonlyMap<string, string>;
}

/** Slots with these names are filled from the request field of the same name, and are always of this type. */
const REQUEST_FIELDS: Readonly<Record<string, readonly SlotType[]>> = {
  prompt: ['string'],
  negative_prompt: ['string'],
  width: ['integer'],
  height: ['integer'],
  seed: ['integer'],
  steps: ['integer'],
  guidance: ['number'],
  sampler: ['string', 'choice'],
  scheduler: ['string', 'choice'],
  strength: ['number'],
  n: ['integer'],
  checkpoint: ['string', 'choice'],
  init_image: ['image'],
  mask: ['image'],
};

/** Is this slot filled from a request field (and not from `inputs`)? */
export const isRequestField = (slot: Pick<Slot, 'name'>): boolean => Object.hasOwn(REQUEST_FIELDS, slot.name);

const name = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$/, { error: 'expected a name of letters, digits, "_" and "-"' });
const nodeId = z.union([z.string().min(1), z.int()], { error: 'expected a node id' }).transform(String);
const fill = z.union([z.string(), z.tuple([nodeId, z.string()])], {
  error: 'expected "NODE.inputs.NAME" or [NODE, NAME]',
});
const outlet = z.union([z.string().regex(/^.+\.\d{1,3}$/), z.tuple([nodeId, z.int().min(0)]), z.number()], {
  error: 'expected "NODE.OUTPUT", like "4.0"',
});

const SlotText = z.strictObject({
  type: z.enum(SLOT_TYPES).optional(),
  default: z
    .union([z.string(), z.number(), z.boolean()], { error: 'expected text, a number, true or false' })
    .optional(),
  min: z.number().optional(),
  max: z.number().optional(),
  choices: z.array(z.string()).min(1).optional(),
  required: z.boolean().default(false),
  description: z.string().optional(),
  fills: z.array(fill).min(1),
});

const SlotsFile = z.strictObject({
  description: z.string().optional(),
  slots: z.record(name, SlotText),
  loras: z.strictObject({ model: outlet, clip: outlet.optional() }).optional(),
  variants: z.strictObject({ init_image: name.optional(), mask: name.optional() }).optional(),
  outputs: z.array(nodeId).min(1),
});
type SlotText = z.infer<typeof SlotText>;

const GraphFile = z.record(
  z.string(),
  z.looseObject({
    class_type: z.string({ error: 'expected a class_type' }).min(1),
    inputs: z.record(z.string(), z.json(), { error: 'expected inputs' }),
  }),
);

/** Throws YamlError naming file, line and expectation. */
export function parseWorkflow(text: WorkflowText): Recipe {
  const graph = parseGraph(text);
  const source = readYaml(text.slots, { file: text.slotsFile });
  const declared = checkYaml(source, SlotsFile);
  const found = new Complaints(source);
  const slots = Object.entries(declared.slots).map(([slot, it]) => parseSlot(slot, it, graph, found));
  declared.outputs.forEach((id, i) => {
    if (graph[id] === undefined) found.add(['outputs', i], `expected a node of the graph, not "${id}"`);
  });
  const loras = parseLoras(declared.loras, graph, found);
  found.refuse();
  return {
    name: text.name,
    hash: createHash('sha256').update(text.graph).digest('hex'),
    graph,
    slots,
    loras,
    variants: { initImage: declared.variants?.init_image ?? null, mask: declared.variants?.mask ?? null },
    outputs: declared.outputs,
    classes: [...new Set(Object.values(graph).map((node) => node.class_type))],
    files: filesOf(graph, slots),
  };
}

class Complaints {
  readonly #source: YamlSource;
  readonly #list: string[] = [];
  constructor(source: YamlSource) {
    this.#source = source;
  }
  add(path: readonly PropertyKey[], message: string): void {
    this.#list.push(this.#source.complaint(path, message));
  }
  refuse(): void {
    if (this.#list.length > 0) throw new YamlError(this.#list);
  }
}

function parseGraph({ graphFile, graph: text }: WorkflowText): Graph {
  const data = parseJson(text, graphFile);
  if (isUiFormat(data)) {
    throw new YamlError([
      `${graphFile}:1: expected the API format, found the editor's own; in ComfyUI use "Export (API)" and save that file here`,
    ]);
  }
  const result = GraphFile.safeParse(data);
  if (!result.success) {
    throw new YamlError(
      result.error.issues.map(
        (i) => `${graphFile}:1: ${i.path.join('.')}: ${i.message.replace(/^Invalid input: /, '')}`,
      ),
    );
  }
  const graph = result.data as Graph;
  if (Object.keys(graph).length === 0) throw new YamlError([`${graphFile}:1: expected at least one node`]);
  const dangling = Object.entries(graph).flatMap(([id, node]) =>
    Object.entries(node.inputs)
      .filter(([, value]) => isLink(value) && graph[value[0]] === undefined)
      .map(([input]) => `${graphFile}:1: ${id}.inputs.${input}: expected a link to a node of the graph`),
  );
  if (dangling.length > 0) throw new YamlError(dangling);
  return graph;
}

const isUiFormat = (data: unknown): boolean =>
  typeof data === 'object' && data !== null && 'nodes' in data && Array.isArray(data.nodes) && 'links' in data;

function isLink(value: Json | undefined): value is readonly [string, number] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string' && Number.isInteger(value[1]);
}

function parseSlot(slot: string, it: SlotText, graph: Graph, found: Complaints): Slot {
  const path = ['slots', slot];
  const fixed = REQUEST_FIELDS[slot];
  const type = it.type ?? fixed?.[0] ?? (it.choices ? 'choice' : 'string');
  if (fixed && !fixed.includes(type))
    found.add([...path, 'type'], `expected ${fixed.join(' or ')}, as the request field "${slot}" is`);
  if (!fixed && type === 'image')
    found.add([...path, 'type'], 'expected another type: pictures come in as init_image and mask only');
  if (type === 'choice' && !it.choices) found.add(path, 'expected choices, since its type is choice');
  if (it.min !== undefined && it.max !== undefined && it.min > it.max)
    found.add([...path, 'min'], `expected at most max (${it.max})`);
  const made: Slot = {
    name: slot,
    type,
    required: it.required,
    default: it.default ?? null,
    min: it.min ?? null,
    max: it.max ?? null,
    choices: it.choices ?? null,
    description: it.description ?? null,
    fills: it.fills.map((text, i) => parseFill(text, graph, (message) => found.add([...path, 'fills', i], message))),
  };
  const wrong = it.default === undefined ? null : misfit(made, it.default);
  if (wrong !== null) found.add([...path, 'default'], wrong);
  return made;
}

function parseFill(
  text: z.infer<typeof fill>,
  graph: Graph,
  complain: (message: string) => void,
): readonly [string, string] {
  const [node, input] = typeof text === 'string' ? splitFill(text) : text;
  const target = graph[node];
  if (target === undefined) complain(`expected a node of the graph, not "${node}"`);
  else if (!Object.hasOwn(target.inputs, input)) {
    complain(
      `expected an input of node ${node} (${target.class_type}: ${Object.keys(target.inputs).join(', ')}), not "${input}"`,
    );
  }
  return [node, input];
}

/** "6.inputs.text" or "6.text". */
function splitFill(text: string): readonly [string, string] {
  const [node = '', ...rest] = text.split('.');
  return [node, (rest[0] === 'inputs' && rest.length > 1 ? rest.slice(1) : rest).join('.')];
}

function parseLoras(declared: z.infer<typeof SlotsFile>['loras'], graph: Graph, found: Complaints): LoraPoint | null {
  if (declared === undefined) return null;
  const point = (key: 'model' | 'clip', value: z.infer<typeof outlet>): readonly [string, number] => {
    const [node, output] = typeof value === 'object' ? value : splitOutlet(String(value));
    if (graph[node] === undefined) found.add(['loras', key], `expected a node of the graph, not "${node}"`);
    return [node, output];
  };
  return {
    model: point('model', declared.model),
    clip: declared.clip === undefined ? null : point('clip', declared.clip),
  };
}

/** "4.1" → node "4", output 1. YAML reads a bare 4.0 as the number 4: then the output is 0. */
function splitOutlet(text: string): readonly [string, number] {
  const dot = text.lastIndexOf('.');
  return dot < 0 ? [text, 0] : [text.slice(0, dot), Number(text.slice(dot + 1))];
}

/** Why a value does not fit a slot, in words beginning with "expected"; null when it does. */
export function misfit(slot: Slot, value: InputValue): string | null {
  if (slot.type === 'boolean') return typeof value === 'boolean' ? null : 'expected true or false';
  if (slot.type === 'integer' || slot.type === 'number') return numberMisfit(slot, value);
  if (typeof value !== 'string') return 'expected text';
  if (slot.choices !== null && !slot.choices.includes(value)) return `expected one of ${slot.choices.join(', ')}`;
  return null;
}

function numberMisfit({ type, min, max }: Slot, value: InputValue): string | null {
  if (typeof value !== 'number') return `expected a ${type === 'integer' ? 'whole ' : ''}number`;
  if (type === 'integer' && !Number.isSafeInteger(value)) return 'expected a whole number';
  if (min !== null && value < min) return `expected at least ${min}`;
  if (max !== null && value > max) return `expected at most ${max}`;
  return null;
}

const MODEL_FILE = /\.(safetensors|sft|ckpt|pt|pth|bin|gguf|onnx)$/i;

/** Model files the graph will ask a node for, unless a route or a request names another. */
function filesOf(graph: Graph, slots: readonly Slot[]): Recipe['files'] {
  const slotAt = (id: string, input: string) => slots.find((s) => s.fills.some(([n, i]) => n === id && i === input));
  return Object.entries(graph).flatMap(([id, node]) =>
    Object.entries(node.inputs).flatMap(([input, literal]) => {
      const slot = slotAt(id, input);
      if (slot?.name === 'checkpoint' || slot?.required) return [];
      const file = slot?.default ?? literal;
      return typeof file === 'string' && MODEL_FILE.test(file) ? [[node.class_type, input, file] as const] : [];
    }),
  );
}

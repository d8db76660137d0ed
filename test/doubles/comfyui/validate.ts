// Does this graph run? Answers in ComfyUI's own error shapes, coerces literals in place as it does, and accepts a graph
// of which at least one output is sound: the unsound ones are listed, and simply will not run.

import type { InputConfig, NodeInfo, NodeTable } from './nodes.ts';

export type Link = readonly [node: string, slot: number];

export interface GraphNode {
  readonly class_type: string;
  readonly inputs: Record<string, unknown>;
  readonly _meta?: { readonly title?: string };
}

export type Graph = Record<string, GraphNode>;

interface Reason {
  readonly type: string;
  readonly message: string;
  readonly details: string;
  readonly extra_info: Readonly<Record<string, unknown>>;
}

export type NodeErrors = Record<string, { errors: Reason[]; dependent_outputs: string[]; class_type: string }>;

export type Verdict =
  | { readonly ok: true; readonly outputs: readonly string[]; readonly nodeErrors: NodeErrors }
  | { readonly ok: false; readonly error: Reason; readonly nodeErrors: NodeErrors };

export interface Rules {
  readonly table: NodeTable;
  /** Unknown classes are reported the newer way. */
  readonly newer: boolean;
  /** Files a LoadImage may name. */
  readonly hasInput: (name: string) => boolean;
}

export const isLink = (value: unknown): value is Link => Array.isArray(value);

export function validate(graph: Graph, targets: readonly string[] | null, rules: Rules): Verdict {
  const unknown = firstUnknown(graph, rules);
  if (unknown) return { ok: false, error: unknown, nodeErrors: {} };
  const outputs = Object.keys(graph).filter(
    (id) => infoOf(graph, id, rules)?.output_node && (targets === null || targets.includes(id)),
  );
  if (outputs.length === 0) {
    return { ok: false, error: reason('prompt_no_outputs', 'Prompt has no outputs', ''), nodeErrors: {} };
  }
  return judge(graph, outputs, rules);
}

const reason = (type: string, message: string, details: string, extra: Reason['extra_info'] = {}): Reason => ({
  type,
  message,
  details,
  extra_info: extra,
});

const infoOf = (graph: Graph, id: string, { table }: Rules): NodeInfo | undefined => {
  const name = graph[id]?.class_type;
  return name !== undefined && Object.hasOwn(table, name) ? table[name] : undefined;
};

function firstUnknown(graph: Graph, rules: Rules): Reason | null {
  for (const [id, node] of Object.entries(graph)) {
    const where = `Node ID '#${id}'`;
    if (typeof node?.class_type !== 'string') {
      return reason('invalid_prompt', 'Cannot execute because a node is missing the class_type property.', where);
    }
    if (infoOf(graph, id, rules)) continue;
    if (!rules.newer) {
      return reason('invalid_prompt', `Cannot execute because node ${node.class_type} does not exist.`, where);
    }
    const title = node._meta?.title ?? node.class_type;
    const extra = { node_id: id, class_type: node.class_type, node_title: title };
    return reason('missing_node_type', `Node '${title}' not found. It may not be installed.`, where, extra);
  }
  return null;
}

class Cycle extends Error {}

function judge(graph: Graph, outputs: readonly string[], rules: Rules): Verdict {
  const nodeErrors: NodeErrors = {};
  const found = new Map<string, readonly Reason[]>();
  const good: string[] = [];
  const details: string[] = [];
  const failed = () =>
    reason('prompt_outputs_failed_validation', 'Prompt outputs failed validation', details.join('\n'));
  for (const output of outputs) {
    const ancestors = new Set<string>();
    try {
      collect(graph, output, ancestors, []);
    } catch (error) {
      if (!(error instanceof Cycle)) throw error;
      return {
        ok: false,
        error: rules.newer ? reason('dependency_cycle', error.message, '') : failed(),
        nodeErrors: {},
      };
    }
    let sound = true;
    for (const id of ancestors) {
      const reasons = found.get(id) ?? inspect(graph, id, rules);
      found.set(id, reasons);
      if (reasons.length === 0) continue;
      sound = false;
      const entry = { errors: [...reasons], dependent_outputs: [], class_type: graph[id]?.class_type ?? '' };
      nodeErrors[id] ??= entry;
      nodeErrors[id].dependent_outputs.push(output);
      if (id === output) details.push(...reasons.map((one) => `${one.message}: ${one.details}`));
    }
    if (sound) good.push(output);
  }
  return good.length > 0 ? { ok: true, outputs: good, nodeErrors } : { ok: false, error: failed(), nodeErrors };
}

function collect(graph: Graph, id: string, seen: Set<string>, path: readonly string[]): void {
  if (path.includes(id)) throw new Cycle(`the graph runs in a circle through node ${id}`);
  if (seen.has(id) || !graph[id]) return;
  seen.add(id);
  for (const value of Object.values(graph[id].inputs ?? {})) {
    if (isLink(value) && typeof value[0] === 'string') collect(graph, value[0], seen, [...path, id]);
  }
  // A node reached twice on one path is a circle even when it was inspected before.
  for (const value of Object.values(graph[id].inputs ?? {})) {
    if (isLink(value) && path.includes(String(value[0]))) throw new Cycle(`node ${id} depends on itself`);
  }
}

/** What is wrong with one node's own inputs. */
function inspect(graph: Graph, id: string, rules: Rules): Reason[] {
  const info = infoOf(graph, id, rules);
  const node = graph[id];
  if (!info || !node) return [];
  const reasons: Reason[] = [];
  const inputs = node.inputs ?? {};
  for (const [name, config] of Object.entries(info.input.required ?? {})) {
    if (name in inputs) reasons.push(...check(graph, node, name, config, rules));
    else reasons.push(reason('required_input_missing', 'Required input is missing', name, { input_name: name }));
  }
  for (const [name, config] of Object.entries(info.input.optional ?? {})) {
    if (name in inputs) reasons.push(...check(graph, node, name, config, rules));
  }
  return reasons;
}

function check(graph: Graph, node: GraphNode, name: string, config: InputConfig, rules: Rules): Reason[] {
  const value = node.inputs[name];
  if (isLink(value)) return checkLink(graph, name, config, value, rules);
  if (node.class_type.startsWith('LoadImage') && name === 'image') return checkImage(name, config, value, rules);
  const coerced = coerce(config, value);
  if (coerced instanceof Error) {
    const message = `Failed to convert an input value to a ${config[0]} value`;
    const extra = { ...described(name, config, value), exception_message: coerced.message };
    return [reason('invalid_input_type', message, `${name}, ${String(value)}, ${coerced.message}`, extra)];
  }
  node.inputs[name] = coerced;
  return checkRange(name, config, coerced);
}

const described = (name: string, config: InputConfig, value: unknown) => ({
  input_name: name,
  input_config: config,
  received_value: value,
});

function checkLink(graph: Graph, name: string, config: InputConfig, link: Link, rules: Rules): Reason[] {
  if (link.length !== 2) {
    const message = 'Bad linked input, must be a length-2 list of [node_id, slot_index]';
    return [reason('bad_linked_input', message, name, described(name, config, link))];
  }
  const source = infoOf(graph, String(link[0]), rules);
  const type = source?.output[link[1]];
  if (!source || type === undefined) {
    const [kind, text] = source ? ['IndexError', 'list index out of range'] : ['KeyError', `'${link[0]}'`];
    const extra = { ...described(name, config, link), exception_type: kind, exception_message: text, traceback: [] };
    return [reason('exception_during_validation', 'Exception when validating node', text, extra)];
  }
  const wanted = config[0];
  if (typeof wanted !== 'string' || wanted === '*' || type === '*') return [];
  if (wanted.split(',').includes(type)) return [];
  const extra = { input_name: name, input_config: config, received_type: type, linked_node: link };
  const details = `${name}, received_type(${type}) mismatch input_type(${wanted})`;
  return [reason('return_type_mismatch', 'Return type mismatch between linked nodes', details, extra)];
}

function checkImage(name: string, config: InputConfig, value: unknown, { hasInput }: Rules): Reason[] {
  if (hasInput(String(value))) return [];
  const details = `${name} - Invalid image file: ${String(value)}`;
  const extra = described(name, config, value);
  return [reason('custom_validation_failed', 'Custom validation failed for node', details, extra)];
}

/** Python's int(), float(), str() and bool(). */
function coerce([type]: InputConfig, value: unknown): unknown {
  if (value !== null && typeof value === 'object' && '__value__' in value) return value.__value__;
  if (type === 'INT') return numeric(value, Math.trunc, /^\s*[-+]?\d+\s*$/, 'invalid literal for int() with base 10');
  if (type === 'FLOAT')
    return numeric(value, (n) => n, /^\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*$/i, 'could not convert string to float');
  if (type === 'STRING') return typeof value === 'string' ? value : pythonRepr(value);
  if (type === 'BOOLEAN') return Boolean(value);
  return value;
}

function numeric(value: unknown, round: (n: number) => number, form: RegExp, complaint: string): number | Error {
  if (typeof value === 'number' || typeof value === 'boolean') return round(Number(value));
  if (typeof value === 'string' && form.test(value)) return round(Number(value));
  return new Error(`${complaint}: ${pythonRepr(value)}`);
}

function checkRange(name: string, config: InputConfig, value: unknown): Reason[] {
  const [type, options = {}] = config;
  const choices = Array.isArray(type) ? (type as readonly string[]) : null;
  const extra = described(name, config, value);
  if (choices && !choices.includes(value as string)) return [notInList(name, config, choices, value)];
  if (typeof value !== 'number') return [];
  if (typeof options.min === 'number' && value < options.min) {
    return [reason('value_smaller_than_min', `Value ${value} smaller than min of ${options.min}`, name, extra)];
  }
  if (typeof options.max === 'number' && value > options.max) {
    return [reason('value_bigger_than_max', `Value ${value} bigger than max of ${options.max}`, name, extra)];
  }
  return [];
}

const LONG_LIST = 20;

function notInList(name: string, config: InputConfig, choices: readonly string[], value: unknown): Reason {
  const long = choices.length > LONG_LIST;
  const list = long ? `(list of length ${choices.length})` : pythonRepr(choices);
  const extra = { input_name: name, input_config: long ? null : config, received_value: value };
  return reason('value_not_in_list', 'Value not in list', `${name}: ${pythonRepr(value, false)} not in ${list}`, extra);
}

/** How Python prints a value. */
export function pythonRepr(value: unknown, bare = true): string {
  if (typeof value === 'string') return `'${value.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  if (Array.isArray(value)) return `[${value.map((item) => pythonRepr(item)).join(', ')}]`;
  if (value === null || value === undefined) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  return bare ? String(value) : `'${String(value)}'`;
}

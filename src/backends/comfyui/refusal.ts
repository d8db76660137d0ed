// Reading a refusal: the server's validation complaint → one sentence that says which node class or file is missing.
// Nothing ran, so the engine may try the next node. Only names that came from the catalog or the workflow are repeated;
// the server's own lists and texts stay out of it.

import { Refusal } from '../backend.ts';
import type { NodeErrors, RefusedReply } from './replies.ts';

/** A 400 of POST /prompt. */
export function refusalFrom({ error, node_errors }: RefusedReply): Refusal {
  const missing = missingClass(error);
  if (missing) return refuse(`The node lacks the node class ${missing}.`);
  if (error.type === 'prompt_no_outputs') return refuse('The workflow has no output node.');
  return complaintsOf(node_errors) ?? refuse('The node did not accept the workflow.');
}

/** Validation errors that cost one of the wanted outputs, or null when all of them will be made. */
export function lostOutputs(nodeErrors: NodeErrors, wanted: readonly string[]): Refusal | null {
  const lost = Object.entries(nodeErrors).filter(
    ([id, { dependent_outputs }]) =>
      wanted.length === 0 || wanted.includes(id) || dependent_outputs.some((output) => wanted.includes(output)),
  );
  if (lost.length === 0) return null;
  return complaintsOf(Object.fromEntries(lost)) ?? refuse('The node cannot make every output of the workflow.');
}

export const tooLarge = (): Refusal => refuse('The work is larger than this node accepts.');

const refuse = (message: string): Refusal => new Refusal('model_error', message);

/** Newer servers name the class in a field, older ones only inside the sentence. */
function missingClass({ type, message, extra_info }: RefusedReply['error']): string | null {
  if (type === 'missing_node_type') return plain(extra_info.class_type);
  if (type !== 'invalid_prompt') return null;
  const named = /node '?([^'\s]+)'? (?:does not exist|not found)/.exec(message)?.[1];
  return named === undefined ? null : plain(named);
}

function complaintsOf(nodeErrors: NodeErrors): Refusal | null {
  for (const { class_type, errors } of Object.values(nodeErrors)) {
    const first = errors[0];
    if (!first) continue;
    const where = `${plain(class_type)}.${plain(first.extra_info.input_name)}`;
    if (first.type === 'value_not_in_list')
      return refuse(`The node lacks "${plain(first.extra_info.received_value)}" (${where}).`);
    if (first.type === 'custom_validation_failed') return refuse(`The node cannot use the value of ${where}.`);
    return refuse(`The node did not accept the workflow: ${plain(first.type)} at ${where}.`);
  }
  return null;
}

const plain = (value: unknown): string => (typeof value === 'string' ? value.slice(0, 120) : '?');

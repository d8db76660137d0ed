// How a prompt ended, from its history entry. A success passes; everything else is thrown. The text of the node's own
// exceptions (paths, tensors, tracebacks) goes to the log at warn; the caller hears node class and exception type only.

import { GatewayError } from '../../domain/failure.ts';
import type { Log } from '../../system/system.ts';
import type { HistoryEntry } from './replies.ts';

const OUT_OF_MEMORY = /out of memory|allocation on device|not enough memory/i;
/** After one of these every later prompt fails too, until the server is restarted. */
const GPU_LOST = /cuda error|illegal memory access|device-side assert|unspecified launch failure|device lost/i;

/** The GPU of the node is in a state that only a restart ends. */
export class GpuLost extends GatewayError {}

/** Throws GatewayError unless the run succeeded. A blocked branch is told as an error on the socket, yet the run succeeds. */
export function requireSuccess(entry: HistoryEntry, log: Log): void {
  if (!entry.status || entry.status.status_str === 'success') return;
  const last = entry.status.messages.findLast(
    ([type]) => type === 'execution_interrupted' || type === 'execution_error',
  );
  if (last?.[0] === 'execution_interrupted')
    throw new GatewayError('node_lost', 'The run was interrupted on the node.');
  throw failureOf(last?.[1] ?? {}, log);
}

function failureOf(data: Record<string, unknown>, log: Log): GatewayError {
  const [type, message] = [text(data.exception_type), text(data.exception_message)];
  log.warn(
    { node_type: data.node_type, exception_type: type, exception_message: message.slice(0, 2_000) },
    'a workflow failed on its node',
  );
  if (type.endsWith('OutOfMemoryError') || OUT_OF_MEMORY.test(message))
    return new GatewayError('out_of_memory', 'The node ran out of memory.');
  if (GPU_LOST.test(message)) return new GpuLost('node_lost', 'The GPU of the node failed.');
  return new GatewayError('model_error', `${name(data.node_type)} failed with ${name(type.split('.').at(-1))}.`);
}

const text = (value: unknown): string => (typeof value === 'string' ? value : '');
const name = (value: unknown): string =>
  text(value)
    .replace(/[^\w ]/g, '')
    .slice(0, 80) || 'The workflow';

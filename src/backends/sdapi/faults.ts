// What a refusal or an exception of an /sdapi server means for the job, and for the node. The servers agree on little:
// class names in `error`, text in `errors`, `detail` or `message`; so the words are searched, and never shown.

import { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import { Refusal } from '../backend.ts';

export interface Fault {
  readonly error: GatewayError;
  /** The server will fail every later job too; why, for people. */
  readonly poisoned: string | null;
  /** The job may still be running (a proxy gave up on it). */
  readonly unsettled: boolean;
}

const Words = z.object({
  error: z.unknown(),
  errors: z.unknown(),
  detail: z.unknown(),
  message: z.unknown(),
});

const OUT_OF_MEMORY = /OutOfMemory|out of memory|CUDA error: out|failed to allocate/i;
const POISONED = /'NoneType' object has no attribute '(sd_checkpoint_info|cond_stage_key|forge_objects|set_clip_skip)/i;
const INCOMPLETE = /You do not have (CLIP|T5|VAE) state dict|Failed to recognize model type/i;
const NOT_A_NUMBER = /NansException|A tensor with (all )?NaNs/i;

/** An answer with a status other than 2xx. `body` is whatever was readable of it. */
export function faultOf(status: number, body: unknown, retryAfter: string | null): Fault {
  const words = wordsOf(body);
  const fault = (error: GatewayError, more: Partial<Fault> = {}) => ({
    error,
    poisoned: null,
    unsettled: false,
    ...more,
  });
  const cause = new Error(`status ${status}: ${words.slice(0, 500)}`);
  if (status === 429) {
    const retryAfterSeconds = Math.min(60, Math.max(1, Number(retryAfter) || 5));
    return fault(
      new GatewayError('rate_limited', 'The node takes no more requests just now.', { retryAfterSeconds, cause }),
    );
  }
  if (status === 502 || status === 503 || status === 504) {
    return fault(new GatewayError('node_lost', 'The way to the node broke while it worked.', { cause }), {
      unsettled: true,
    });
  }
  if (status === 404 && /^not found$/i.test(words.trim())) {
    return fault(new GatewayError('node_lost', 'The server has no /sdapi; start it with --api.', { cause }));
  }
  if (status < 500)
    return fault(new Refusal('unsupported_input', 'The node did not accept these parameters.', { cause }));
  return { unsettled: false, ...exception(words, cause) };
}

/** What the text of an exception on the server means. */
export function exception(words: string, cause: unknown): Pick<Fault, 'error' | 'poisoned'> {
  if (OUT_OF_MEMORY.test(words)) {
    return { error: new GatewayError('out_of_memory', 'The node ran out of memory.', { cause }), poisoned: null };
  }
  if (POISONED.test(words)) {
    const poisoned =
      'it fails every job since a model could not be loaded; select another checkpoint there, or restart it';
    return { error: new GatewayError('node_lost', 'The node has no usable model loaded.', { cause }), poisoned };
  }
  const message = INCOMPLETE.test(words)
    ? 'The checkpoint cannot run on the node without further modules (text encoders, VAE).'
    : NOT_A_NUMBER.test(words)
      ? 'The model produced no numbers (NaN) with these settings.'
      : 'The node failed while rendering.';
  return { error: new GatewayError('model_error', message, { cause }), poisoned: null };
}

function wordsOf(body: unknown): string {
  const known = Words.partial().safeParse(body).data;
  if (!known) return '';
  const text = (value: unknown) => (typeof value === 'string' ? value : value == null ? '' : JSON.stringify(value));
  return [known.error, known.errors, known.detail, known.message].map(text).filter(Boolean).join(' ');
}

// From a request to a picture or one error. A lost answer is asked for again under the same key, so that nothing is made
// or paid twice; what ended badly is repeated only where the contract says so.

import type { GenerationBody, GenerationRequest } from '../contract/generations.ts';
import { endedBadly } from './errors.ts';
import type { Client, GenerateOptions } from './interface.ts';
import { newKey } from './key.ts';
import { patiently } from './patience.ts';
import { pollGeneration } from './poll.ts';
import { type Sleep, spread } from './sleep.ts';

const SUBMIT_TRIES = 6;

export function createGenerate({ submit, get }: Pick<Client, 'submit' | 'get'>, sleep: Sleep): Client['generate'] {
  /** Many at once spread their polls; one alone need not. */
  let open = 0;
  const jitter = () => (open > 1 ? spread() : 1);

  const run = async (request: GenerationRequest, { signal, onUpdate }: GenerateOptions): Promise<GenerationBody> => {
    const options = signal ? { signal } : {};
    const asked = await patiently(() => submit(request, options), { tries: SUBMIT_TRIES, sleep, signal });
    onUpdate?.(asked);
    return pollGeneration(asked, get, { jitter, sleep, ...options, ...(onUpdate ? { onUpdate } : {}) });
  };

  return async (request, options = {}) => {
    // A `softened_prompt` needs nothing here: the gateway uses it within the same generation.
    const keyed = { ...request, idempotency_key: request.idempotency_key ?? newKey() };
    open++;
    try {
      const first = await run(keyed, options);
      // The key of one that timed out is free again, so that this asks for a new one.
      const last = first.status === 'timeout' ? await run(keyed, options) : first;
      if (last.status === 'succeeded') return last;
      throw endedBadly(last);
    } finally {
      open--;
    }
  };
}

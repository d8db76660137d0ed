// What a generation asks for, where a test cares for little of it.

import type { Params } from '../../src/domain/params.ts';

/** Everything that may be left out is left out. */
export const paramsOf = (over: Partial<Params> = {}): Params => ({
  prompt: 'a lighthouse',
  negativePrompt: null,
  width: 1024,
  height: 1024,
  seed: 7,
  steps: null,
  guidance: null,
  sampler: null,
  scheduler: null,
  n: 1,
  loras: [],
  initImage: null,
  mask: null,
  strength: null,
  inputs: {},
  output: {},
  ...over,
});

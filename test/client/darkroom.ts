// A whole gateway for the client to talk to: the built-in node, nothing faked. It can be stopped and started again on the
// same port, as a restart looks from outside.

import { onTestFinished } from 'vitest';
import { until } from '../harness/manual-clock.ts';
import { studio } from '../harness/studio.ts';

export const KEY = 'dk_client-tests';

const MODELS = `models:
  sketch: {name: Sketch, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: 0.5, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 64, height: 64, steps: 2}, estimate_seconds: 1, routes: [{backend: sketch}]}
  gone: {name: Gone, kind: image, best_for: Tests., capabilities: [text-to-image, seed], price: 0.5, limits: {max_pixels: 4194304, multiple_of: 8, max_n: 4, max_steps: 50}, defaults: {width: 64, height: 64, steps: 2}, estimate_seconds: 1, routes: [{backend: comfyui, workflow: txt2img, checkpoint: x.safetensors}]}
`;

export interface TestGateway {
  readonly url: string;
  stop(): Promise<void>;
  /** Again, on the same port and the same data. */
  start(): Promise<void>;
  /** A client's sleep: as long as anything is queued or running, however long was asked for. */
  readonly whileBusy: () => Promise<void>;
}

/** Stopped and removed when the test is over. */
export async function startGateway(): Promise<TestGateway> {
  const house = await studio(KEY, MODELS);
  let darkroom = await house.open();
  const { url } = darkroom;
  onTestFinished(async () => {
    await darkroom.stop();
    await house[Symbol.asyncDispose]();
  });
  return {
    url,
    stop: () => darkroom.stop(),
    async start() {
      darkroom = await house.open(undefined, new URL(url).port);
    },
    async whileBusy() {
      await until(() => {
        const { queued, running } = darkroom.gateway.stats();
        return queued + running === 0;
      }, 'the end of all work');
    },
  };
}

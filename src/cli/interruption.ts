// Ctrl-C while something is waited for: the first lets go of the waiting, never of the work; a second ends at once.

import { EXIT } from './failing.ts';

export interface Interruption extends Disposable {
  readonly signal: AbortSignal;
}

/** From now until disposed. Commands that do not ask for it end at the first Ctrl-C, as everywhere. */
export function interruption(): Interruption {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(EXIT.interrupted);
    controller.abort(new DOMException('Interrupted.', 'AbortError'));
  };
  process.on('SIGINT', stop);
  return { signal: controller.signal, [Symbol.dispose]: () => void process.off('SIGINT', stop) };
}

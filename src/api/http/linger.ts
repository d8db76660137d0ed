// What a client still sends after its answer. Most read only once everything is sent, so the rest is taken off the wire
// and the connection lives on; who sends much more, or takes long over it, is cut off.

import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../../system/system.ts';

const MAX_BYTES = 16 * 1024 * 1024;
const MAX_MS = 5_000;
/** Node drops what comes without a word, so it is asked how much that was. */
const LOOK_MS = 100;

/** Bounds what is read of a request once it is answered. */
export function linger(request: IncomingMessage, response: ServerResponse, clock: Pick<Clock, 'timer'>): void {
  response.once('finish', () => {
    const { socket } = request;
    if (request.complete || socket.destroyed) return;
    const before = socket.bytesRead;
    let looks = 0;
    const look = () => {
      looks++;
      if (socket.bytesRead - before > MAX_BYTES || looks * LOOK_MS >= MAX_MS) socket.destroy();
      else timer = clock.timer(LOOK_MS, look);
    };
    let timer = clock.timer(LOOK_MS, look);
    const stop = () => {
      timer[Symbol.dispose]();
      socket.off('close', stop);
    };
    request.once('close', stop);
    socket.once('close', stop);
    request.resume();
  });
}

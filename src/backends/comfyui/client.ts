// A ComfyUI server as a Connection: composition only. What the parts rely on: the server has no accounts and no memory
// beyond its process, its HTTP side answers whatever state its one worker is in, and its socket may go deaf.

import type { Connect } from '../backend.ts';
import { cancelPrompt } from './cancel.ts';
import { createProbe } from './probe.ts';
import { promptsIn, resume, run } from './run.ts';
import { createServer } from './server.ts';
import { DEFAULT_LIMITS, type Limits, openSession } from './session.ts';
import { createSocket } from './socket.ts';

/** With other patience than the default. */
export const comfyUiWith =
  (limits: Partial<Limits>): Connect =>
  ({ spec, system }) => {
    const session = openSession({
      spec,
      system,
      limits: { ...DEFAULT_LIMITS, ...limits },
      server: createServer(spec, system),
      socket: createSocket(spec, system),
    });
    const closing = new AbortController();
    return {
      probe: createProbe(session, closing.signal),
      run: (job, signal) => run(session, job, [], signal),
      resume: (job, remote, signal) => resume(session, job, remote, signal),
      async cancel(remote, signal) {
        for (const id of promptsIn(remote)) await cancelPrompt(session, id, signal);
      },
      get wedged() {
        return session.wedge?.reason ?? null;
      },
      resumable: true,
      async close() {
        closing.abort();
        session.socket.close();
      },
    };
  };

/** ComfyUI servers of 2025 and 2026. */
export const connectComfyUi: Connect = comfyUiWith({});

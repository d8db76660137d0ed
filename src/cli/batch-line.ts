// The gateway as a long run sees it: a client that tells when nobody answers and when somebody does again, whoever asked.

import { type Client, createClient } from '../client/client.ts';
import { locate, noKey, type RemoteOptions } from './remote.ts';

/** The client, its gateway's address, and word of whether that answers (null: it does again). */
export interface Line {
  readonly client: Client;
  readonly url: string;
  onSilence(tell: (reason: string | null) => void): void;
}

/** Throws as `connect` does. */
export async function openLine(options: RemoteOptions): Promise<Line> {
  const { url, key } = await locate(options);
  if (key === null) throw noKey(url);
  let tell: (reason: string | null) => void = () => {};
  let silent = false;
  const heard = (answers: boolean) => {
    if (answers === silent) tell(answers ? null : `The gateway at ${url} does not answer.`);
    silent = !answers;
  };
  const fetch: typeof globalThis.fetch = async (input, init) => {
    try {
      const response = await globalThis.fetch(input, init);
      heard(!ABSENT.has(response.status));
      return response;
    } catch (error) {
      if (!init?.signal?.aborted) heard(false);
      throw error;
    }
  };
  return {
    client: createClient({ url, key, fetch }),
    url,
    onSilence: (listener) => {
      tell = listener;
    },
  };
}

/** What a proxy answers for a gateway that is down, and a gateway that is on its way there. */
const ABSENT: ReadonlySet<number> = new Set([502, 503, 504]);

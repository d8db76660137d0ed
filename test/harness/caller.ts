// Somebody with a key at a gateway's REST door: asks, looks, and waits for the end as the contract says.

import type { GenerationBody } from '../../src/contract/generations.ts';
import { until } from './manual-clock.ts';

export interface Caller {
  get<T>(path: string): Promise<T>;
  post(path: string, body: unknown): Promise<Response>;
  /** What became of it in the end; the refusal where it was not accepted. */
  ask(request: object): Promise<GenerationBody>;
  /** The id of what was accepted. Throws when it was not. */
  submit(request: object): Promise<string>;
  /** Polls until it is final. */
  ended(id: string): Promise<GenerationBody>;
  credits(): Promise<{ readonly balance: number; readonly reserved: number }>;
}

/** `url` is read at each call: a gateway may come back elsewhere. */
export function callerAt(url: () => string, key: string): Caller {
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const get = async <T>(path: string) => (await (await fetch(`${url()}${path}`, { headers })).json()) as T;
  const post = (path: string, body: unknown) =>
    fetch(`${url()}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  const ended: Caller['ended'] = (id) =>
    until(
      async () => {
        const g = await get<GenerationBody>(`/v1/generations/${id}`);
        return g.status === 'queued' || g.status === 'running' ? null : g;
      },
      `${id} to end`,
      45_000,
    );
  return {
    get,
    post,
    async ask(request) {
      const body = (await (await post('/v1/generations', request)).json()) as Partial<GenerationBody>;
      return body.id === undefined ? (body as GenerationBody) : ended(body.id);
    },
    async submit(request) {
      const answer = await post('/v1/generations', request);
      const body = (await answer.json()) as GenerationBody;
      if (!answer.ok) throw new Error(`${answer.status} ${JSON.stringify(body)}`);
      return body.id;
    },
    ended,
    async credits() {
      const { balance, reserved } = await get<{ balance: number; reserved: number }>('/v1/credits');
      return { balance, reserved };
    },
  };
}

// Talking to one node of the /sdapi family: its address, its password, and what a broken conversation means. Every read
// is bounded and parsed; a picture never passes through here as one string (see answer.ts).

import type { Readable } from 'node:stream';
import type { z } from 'zod';
import { GatewayError } from '../../domain/failure.ts';
import type { NodeSpec } from '../../domain/node.ts';
import type { Bytes, Millis } from '../../domain/units.ts';
import { type Clock, HttpError, type HttpResponse, type System } from '../../system/system.ts';

export interface Body {
  readonly content: string | Readable;
  readonly bytes: Bytes;
}

export interface Ask {
  readonly signal: AbortSignal;
  /** Absent: GET. */
  readonly post?: Body;
  readonly timeoutMs?: Millis;
  readonly maxBytes?: Bytes;
}

export interface Wire {
  /** Any status but 401 and 403 comes back. Throws GatewayError('node_lost') whose cause is the HttpError. */
  ask(path: string, ask: Ask): Promise<HttpResponse>;
  /** Null where the node has no such route, or answers in another shape. */
  find<T>(path: string, schema: z.ZodType<T>, ask: Ask): Promise<T | null>;
}

const PROBE_MS: Millis = 10_000;
/** How a server says that it has no such route. */
const ABSENT = new Set([404, 405, 501]);
const MAX_LIST: Bytes = 32 * 1024 * 1024;

export const json = (value: unknown): Body => {
  const content = JSON.stringify(value);
  return { content, bytes: Buffer.byteLength(content) };
};

export function createWire({ url, auth }: NodeSpec, { http }: System): Wire {
  const credentials: Record<string, string> = auth
    ? { authorization: `Basic ${Buffer.from(`${auth.username}:${auth.password}`).toString('base64')}` }
    : {};

  const send = (path: string, { signal, post, timeoutMs = PROBE_MS, maxBytes = MAX_LIST }: Ask) =>
    http.request(url + path, {
      trust: 'node',
      method: post ? 'POST' : 'GET',
      // Compressing base64 of compressed pictures only burns time on both sides.
      headers: {
        ...credentials,
        accept: 'application/json',
        'accept-encoding': 'identity',
        ...(post ? { 'content-type': 'application/json', 'content-length': String(post.bytes) } : {}),
      },
      body: post?.content ?? null,
      timeoutMs,
      maxBytes,
      signal,
    });

  const ask: Wire['ask'] = async (path, how) => {
    const response = await send(path, how)
      // These servers drop idle connections after five seconds; a question that met one is simply asked again.
      .catch((error: unknown) => {
        if (how.post || !(error instanceof HttpError) || error.kind !== 'cut') throw error;
        return send(path, how);
      })
      .catch((error: unknown) => {
        throw lost(error);
      });
    if (response.status !== 401 && response.status !== 403) return response;
    response.discard();
    const why = auth ? 'refuses our user name and password' : 'asks for a user name and password';
    throw new GatewayError('node_lost', `The node ${why}; correct "auth" of this node.`);
  };

  return {
    ask,
    async find(path, schema, how) {
      const response = await ask(path, how);
      if (!response.ok) {
        response.discard();
        if (ABSENT.has(response.status)) return null;
        throw new GatewayError('node_lost', `The node answered ${response.status} when asked what it has.`);
      }
      try {
        return schema.safeParse(await response.json()).data ?? null;
      } catch (error) {
        if (error instanceof HttpError && error.kind === 'bad_body') return null;
        throw lost(error);
      }
    },
  };
}

/** A broken conversation → node_lost; an abort stays what it is. */
export function lost(error: unknown): unknown {
  if (!(error instanceof HttpError)) return error;
  return new GatewayError('node_lost', `The node cannot be talked to: ${error.message}.`, { cause: error });
}

/** May the node have seen it, although no answer came? */
export const isAmbiguous = (error: unknown): boolean =>
  error instanceof GatewayError &&
  error.cause instanceof HttpError &&
  error.cause.kind !== 'unsent' &&
  error.cause.kind !== 'refused_address';

/** True once `over`, false after `ms`; throws the signal's reason. */
export function within(over: AbortSignal, ms: Millis, clock: Clock, signal: AbortSignal): Promise<boolean> {
  return clock.sleep(ms, AbortSignal.any([over, signal])).then(
    () => false,
    () => {
      signal.throwIfAborted();
      return true;
    },
  );
}

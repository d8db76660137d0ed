// The published clients of the providers, pointed at a stand-in. Their own retries are off unless a test turns them on; a
// key in the environment of whoever runs the tests is of no use to them.

import { createFalClient } from '@fal-ai/client';
import { GoogleGenAI } from '@google/genai';
import RunwayML from '@runwayml/sdk';
import LumaAI from 'lumaai';
import OpenAI from 'openai';
import Replicate from 'replicate';
import sharp from 'sharp';
import Together from 'together-ai';
import type { HostedDouble, RequestEntry } from './hosted.ts';

type Double = Pick<HostedDouble, 'url' | 'key'>;

const FAL_QUEUE = 'https://queue.fal.run';

export const openaiOf = ({ url, key }: Double, maxRetries = 0) =>
  new OpenAI({ apiKey: key, baseURL: url, maxRetries, organization: null, project: null });

export const togetherOf = ({ url, key }: Double, maxRetries = 0) =>
  new Together({ apiKey: key, baseURL: url, maxRetries });

export const runwayOf = ({ url, key }: Double, maxRetries = 0) =>
  new RunwayML({ apiKey: key, baseURL: url, maxRetries });

export const lumaOf = ({ url, key }: Double, maxRetries = 0) =>
  new LumaAI({ authToken: key, baseURL: url, maxRetries });

export const geminiOf = ({ url, key }: Double, apiVersion = 'v1') =>
  new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url, apiVersion } });

/** It has no switch for its retries. */
export const replicateOf = ({ url, key }: Double) => new Replicate({ auth: key, baseUrl: url });

/** It has no base URL and no switch for its retries; the pause before the first of them is all that stays. */
export const falOf = ({ url, key }: Double) =>
  createFalClient({
    credentials: key,
    requestMiddleware: async (request) => ({ ...request, url: request.url.replace(FAL_QUEUE, url) }),
    retry: { backoffMultiplier: 0, enableJitter: false },
  });

/** What a call was refused with. */
export async function errorOf(call: PromiseLike<unknown>): Promise<Error> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error('it was not refused');
}

export const requestsTo = ({ log }: Pick<HostedDouble, 'log'>, method: string): readonly RequestEntry[] =>
  log.filter((entry) => entry.what === 'request').filter((entry) => entry.method === method);

/** A small picture to work on. */
export const PNG = await sharp({ create: { width: 64, height: 48, channels: 3, background: '#777' } })
  .png()
  .toBuffer();
export const PNG_URL = `data:image/png;base64,${PNG.toString('base64')}`;

/** The format and size of a picture, or `mp4`. */
export async function looksLike(bytes: Buffer): Promise<string> {
  if (bytes.subarray(4, 8).toString() === 'ftyp') return 'mp4';
  const { format, width, height } = await sharp(bytes).metadata();
  return `${format} ${width}x${height}`;
}

/** What lies behind a link, fetched without a key. */
export async function fetched(url: string | undefined): Promise<string> {
  const response = await fetch(url ?? 'about:blank');
  if (!response.ok) throw new Error(`${response.status} at ${url}`);
  return looksLike(Buffer.from(await response.arrayBuffer()));
}

export const inBase64 = (text: string | undefined): Promise<string> => looksLike(Buffer.from(text ?? '', 'base64'));

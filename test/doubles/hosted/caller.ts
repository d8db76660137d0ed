// A plain caller of the hosted doubles, for their tests: how each provider is asked, followed and read. No more than
// fetch, so that what the tests see is what the doubles said.

import type { HostedDouble, HostedKind } from './hosted.ts';

export type Json = Readonly<Record<string, unknown>>;
export interface Reply {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly body: Json;
}

/** How a caller speaks to one provider. */
interface Tongue {
  readonly keyHeader: readonly [name: string, prefix: string];
  readonly more?: Readonly<Record<string, string>>;
  readonly path: string;
  readonly form?: boolean;
  readonly body: Json;
  /** Where to ask after the job, from the answer to the submit; null where that answer is the end. */
  readonly poll?: (submitted: Json, double: HostedDouble) => string;
  readonly ended?: (body: Json) => boolean;
  /** Where the outcome is, when it is not in the last poll. */
  readonly outcome?: (submitted: Json) => string;
}

export const at = (value: unknown, ...path: readonly (string | number)[]): unknown =>
  path.reduce<unknown>((inner, key) => (inner as Record<string | number, unknown> | null | undefined)?.[key], value);
export const PROMPT = 'a red bicycle';
const status = (name: string) => (body: Json) =>
  /^(succeeded|failed|canceled|aborted|completed|SUCCEEDED|FAILED|CANCELLED|COMPLETED|Ready|Error|.*Moderated)$/.test(
    String(body[name]),
  );

export const TONGUES: Readonly<Record<HostedKind, Tongue>> = {
  replicate: {
    keyHeader: ['authorization', 'Bearer '],
    path: '/models/black-forest-labs/flux-schnell/predictions',
    body: {
      input: { prompt: PROMPT, num_outputs: 2, aspect_ratio: '1:1' },
      webhook: 'https://gw.example/hook?generation=gen_1',
    },
    poll: (submitted) => String(at(submitted, 'urls', 'get')),
    ended: status('status'),
  },
  fal: {
    keyHeader: ['authorization', 'Key '],
    path: '/fal-ai/flux/dev',
    body: { prompt: PROMPT, num_images: 2, image_size: 'square' },
    poll: (submitted) => String(submitted.status_url),
    ended: status('status'),
    outcome: (submitted) => String(submitted.response_url),
  },
  bfl: {
    keyHeader: ['x-key', ''],
    path: '/v1/flux-pro-1.1',
    body: { prompt: PROMPT, width: 512, height: 512 },
    poll: (submitted) => String(submitted.polling_url),
    ended: status('status'),
  },
  openai: {
    keyHeader: ['authorization', 'Bearer '],
    path: '/images/generations',
    body: { model: 'gpt-image-1.5', prompt: PROMPT, n: 2, size: '1024x1024' },
  },
  gemini: {
    keyHeader: ['x-goog-api-key', ''],
    path: '/v1beta/models/gemini-3-pro-image:generateContent',
    body: {
      contents: [{ role: 'user', parts: [{ text: PROMPT }] }],
      generationConfig: { responseModalities: ['IMAGE'] },
    },
  },
  ideogram: {
    keyHeader: ['api-key', ''],
    path: '/v2/image/generate/ideogram-3',
    body: { prompt: PROMPT, num_images: 2, async: true },
    poll: ({ generation_id }, { url }) => `${url}/v2/generations/${generation_id}`,
    ended: status('status'),
  },
  stability: {
    keyHeader: ['authorization', 'Bearer '],
    more: { accept: 'application/json' },
    path: '/v2beta/stable-image/generate/core',
    form: true,
    body: { prompt: PROMPT, output_format: 'webp' },
  },
  together: {
    keyHeader: ['authorization', 'Bearer '],
    path: '/images/generations',
    body: { model: 'black-forest-labs/FLUX.1-schnell', prompt: PROMPT, n: 2, width: 512, height: 512, steps: 4 },
  },
  luma: {
    keyHeader: ['authorization', 'Bearer '],
    path: '/generations/video',
    body: { model: 'ray-2', prompt: PROMPT, duration: '5s' },
    poll: ({ id }, { url }) => `${url}/generations/${id}`,
    ended: status('state'),
  },
  runway: {
    keyHeader: ['authorization', 'Bearer '],
    more: { 'x-runway-version': '2024-11-06' },
    path: '/v1/text_to_video',
    body: { model: 'gen4.5', promptText: PROMPT, ratio: '1280:720', duration: 5 },
    poll: ({ id }, { url }) => `${url}/v1/tasks/${id}`,
    ended: status('status'),
  },
};

export const form = (fields: Json): FormData => {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) data.append(name, value instanceof Blob ? value : String(value));
  return data;
};

/** A caller with its key. */
export function caller(kind: HostedKind, double: HostedDouble, key = double.key) {
  const { keyHeader, more, path, form: isForm = false, body, poll, ended, outcome } = TONGUES[kind];
  const headers = { [keyHeader[0]]: `${keyHeader[1]}${key}`, ...more };
  const ask = async (url: string, init: RequestInit = {}): Promise<Reply> => {
    const response = await fetch(url.startsWith('http') ? url : `${double.url}${url}`, {
      ...init,
      headers: { ...headers, ...(init.headers as Record<string, string> | undefined) },
    });
    const text = await response.text();
    const isJson = response.headers.get('content-type')?.includes('json');
    return { status: response.status, headers: response.headers, text, body: isJson ? (JSON.parse(text) as Json) : {} };
  };
  const post = (url: string, fields: Json, more: Record<string, string> = {}) =>
    ask(url, {
      method: 'POST',
      body: JSON.stringify(fields),
      headers: { 'content-type': 'application/json', ...more },
    });
  const submit = (change: Json = {}, more: Record<string, string> = {}) =>
    isForm
      ? ask(path, { method: 'POST', body: form({ ...body, ...change }), headers: more })
      : post(path, { ...body, ...change }, more);
  const question = (submitted: Reply) => poll?.(submitted.body, double) ?? '';
  /** Asks until it has ended, and returns where the outcome is. */
  const follow = async (submitted: Reply): Promise<Reply> => {
    if (!poll || submitted.status >= 300) return submitted;
    for (let i = 0; i < 12; i++) {
      const reply = await ask(question(submitted));
      if (reply.status >= 300 || ended?.(reply.body))
        return reply.status < 300 && outcome ? ask(outcome(submitted.body)) : reply;
    }
    throw new Error('it did not end');
  };
  const run = async (change: Json = {}) => follow(await submit(change));
  return { ask, post, submit, question, follow, run };
}

/** Every link in an answer that leads to the file host. */
export const links = (double: HostedDouble, { text }: Reply) =>
  [...new Set(text.match(/https?:[^"\\]+/g) ?? [])].filter((url) => url.startsWith(double.fileUrl));
export const inline = ({ body }: Reply): string[] =>
  [
    at(body, 'data', 0, 'b64_json'),
    at(body, 'data', 1, 'b64_json'),
    at(body, 'image'),
    at(body, 'candidates', 0, 'content', 'parts', 0, 'inlineData', 'data'),
  ].filter((value) => typeof value === 'string');
export const fetchAll = (urls: readonly string[]) =>
  Promise.all(urls.map(async (url) => Buffer.from(await (await fetch(url)).arrayBuffer())));

// Saves what was made under a name that says what it is. Never overwrites: a name that is taken gets a number.

import { hash } from 'node:crypto';
import { mkdir, open, stat, unlink } from 'node:fs/promises';
import { extname, join, relative, resolve } from 'node:path';
import type { Client } from '../client/client.ts';
import type { GenerationBody } from '../contract/generations.ts';
import { CommandError, InputError } from './failing.ts';
import { reasonOf } from './reasons.ts';

type Output = GenerationBody['outputs'][number];

const EXTENSIONS: Readonly<Record<string, string>> = {
  'image/jpeg': 'jpg',
  'image/svg+xml': 'svg',
  'audio/mpeg': 'mp3',
  'text/plain': 'txt',
  'video/quicktime': 'mov',
};
const LONGEST_NAME = 60;
const MOST_NUMBERS = 10_000;

/** Without dot. */
export const extensionOf = (mediaType: string): string =>
  EXTENSIONS[mediaType] ?? (/^\w+\/(?:x-)?([a-z0-9]+)/.exec(mediaType)?.[1] || 'bin');

/** A path as a person would type it here. */
export function near(path: string): string {
  const short = relative(process.cwd(), path);
  return short.startsWith('..') ? path : short;
}

/** The folder, made if it is not there: before anything is asked for, so that nothing is paid and then lost. */
export async function readyFolder(folder: string): Promise<string> {
  const path = resolve(folder);
  const found = await stat(path).catch(() => null);
  const advice = 'Give a folder; names are made from the prompt and the seed.';
  if (found?.isFile()) throw new InputError(`--out: ${folder} is a file.`, advice);
  if (found === null && /^\.(png|jpe?g|webp|avif|gif|mp4|webm|mp3|wav|flac)$/i.test(extname(path))) {
    throw new InputError(`--out: ${folder} looks like a file name.`, advice);
  }
  await mkdir(path, { recursive: true }).catch((error: NodeJS.ErrnoException) => {
    throw new InputError(`--out: ${folder} cannot be made: ${reasonOf(error)}.`);
  });
  return path;
}

/** Paths of the files written, in the order of the outputs. */
export async function save(
  client: Client,
  g: GenerationBody,
  folder: string,
  signal?: AbortSignal,
): Promise<readonly string[]> {
  const paths: string[] = [];
  for (const output of g.outputs) {
    if (output.url === null) continue;
    paths.push(await write(folder, nameOf(g, output), await fetched(client, output.url, output, signal)));
  }
  return paths;
}

/** What comes, but no more than was announced: an answer without end would fill whatever it is kept in. */
export const upTo = (limit: number) =>
  async function* (chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    let seen = 0;
    for await (const chunk of chunks) {
      seen += chunk.byteLength;
      if (!(seen <= limit)) throw new CommandError('bad_answer', 'The file is larger than the gateway said.', '');
      yield chunk;
    }
  };

async function fetched(client: Client, url: string, output: Output, signal?: AbortSignal): Promise<Uint8Array> {
  const { sha256, bytes: size } = output;
  const { body } = await client.download(url, signal ? { signal } : {});
  const bytes = Buffer.concat(body === null ? [] : await Array.fromAsync(upTo(size)(body)));
  if (hash('sha256', bytes) === sha256) return bytes;
  throw new CommandError('bad_answer', `The file at ${new URL(url).origin} arrived damaged.`, 'Get it once more.');
}

/** "a-lighthouse-at-dawn-1234.png"; the seed tells takes of one prompt apart. */
function nameOf(
  g: GenerationBody,
  { seed, media_type: type }: Output,
): { readonly stem: string; readonly ending: string } {
  const words = g.prompt
    .replaceAll(/\[\[.*?\]\]/g, '')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}]+/gu, '-')
    .replaceAll(/^-+|-+$/g, '');
  const short = [...words]
    .slice(0, LONGEST_NAME)
    .join('')
    .replace(/-[^-]*$/, (rest) => (words.length > LONGEST_NAME ? '' : rest));
  return { stem: `${short || g.model}-${seed}`.replaceAll(/[/\\\0]/g, '-'), ending: extensionOf(type) };
}

async function write(folder: string, { stem, ending }: ReturnType<typeof nameOf>, bytes: Uint8Array): Promise<string> {
  for (let n = 0; n < MOST_NUMBERS; n++) {
    const path = join(folder, `${stem}${n === 0 ? '' : `-${n}`}.${ending}`);
    const file = await open(path, 'wx').catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EEXIST') return null;
      throw new InputError(`${path} cannot be written: ${reasonOf(error)}.`);
    });
    if (file === null) continue;
    try {
      await file.writeFile(bytes);
      return path;
    } catch (error) {
      await unlink(path).catch(() => {});
      throw new InputError(`${path} cannot be written: ${reasonOf(error)}.`);
    } finally {
      await file.close();
    }
  }
  throw new InputError(`${folder} holds too many files named ${stem}.`);
}

// Pictures onto the disk as items finish: a few at a time, under a temporary name until they are whole and are what the
// gateway said they are. A file that is not ours is never overwritten.

import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { link, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream } from 'node:stream/web';
import { setTimeout } from 'node:timers/promises';
import type { Client } from '../client/client.ts';
import type { GenerationBody, OutputBody } from '../contract/generations.ts';
import { isBareName, type StateFile } from './batch-state.ts';
import { extensionOf, upTo } from './pictures.ts';

type Output = ReturnType<typeof OutputBody.parse>;

export interface Downloads {
  /** Fetches what this generation made, soon; what lies there already is not fetched again. `name`: how its files begin. */
  add(generation: GenerationBody, name: string): void;
  counts(): { readonly saved: number; readonly failed: readonly string[] };
  /** When nothing is left to fetch, or the signal has aborted. */
  settled(): Promise<void>;
}

interface Wanted {
  readonly id: string;
  readonly output: Output;
  /** Without folder. */
  readonly name: string;
}

const AT_ONCE = 4;
const TRIES = 4;

export function createDownloads(
  client: Pick<Client, 'download'>,
  folder: string,
  state: StateFile,
  signal: AbortSignal,
): Downloads {
  const waiting: Wanted[] = [];
  const failed: string[] = [];
  let saved = 0;
  const working = new Set<Promise<void>>();
  /** Of those, the ones that will still look for more. */
  let looking = 0;

  const work = async (): Promise<void> => {
    looking++;
    for (let next = waiting.shift(); next !== undefined && !signal.aborted; next = waiting.shift()) {
      const { name } = next;
      await fetchOne(next).then(
        () => saved++,
        (error: Error) => signal.aborted || failed.push(`${name}: ${error.message}`),
      );
    }
    looking--;
  };

  const fetchOne = async ({ id, output, name: wanted }: Wanted): Promise<void> => {
    if (!isBareName(wanted)) throw new Error('the gateway gave it a number that is none');
    const ours = state.state().pictures[id];
    if (ours !== undefined && (await sizeOf(join(folder, ours))) === output.bytes) return;
    const name = await freeName(folder, ours ?? wanted, id, output.sha256);
    const part = join(folder, `.${name}.part`);
    try {
      if ((await hashOf(join(folder, name))) !== output.sha256) {
        await patiently(() => fetchTo(client, output, part, signal), signal);
        await place(part, join(folder, name), output.sha256);
      }
      state.notePicture(id, name);
    } finally {
      await rm(part, { force: true });
    }
  };

  return {
    add({ id, outputs }, name) {
      for (const output of outputs) {
        const file = `${name}-${output.index}.${extensionOf(output.media_type)}`;
        waiting.push({ id: `${id}/${output.index}`, output, name: file });
        if (looking >= AT_ONCE) continue;
        const worker: Promise<void> = work().finally(() => working.delete(worker));
        working.add(worker);
      }
    },
    counts: () => ({ saved, failed }),
    async settled() {
      while (working.size > 0) await Promise.all(working);
    },
  };
}

async function fetchTo(client: Pick<Client, 'download'>, output: Output, path: string, signal: AbortSignal) {
  if (output.url === null) throw new Error('the gateway has swept this file');
  const { body } = await client.download(output.url, { signal });
  if (body === null) throw new Error('the answer has no body');
  // What lies there is of a run that died, or a link that somebody laid: neither is written through.
  await rm(path, { force: true });
  const file = createWriteStream(path, { flags: 'wx', flush: true });
  await pipeline(Readable.fromWeb(body as ReadableStream), upTo(output.bytes), file, { signal });
  if ((await hashOf(path)) !== output.sha256) throw transient('the file arrived damaged');
}

const transient = (message: string) => Object.assign(new Error(message), { retryable: true });

/** A cut connection, or a gateway that is being restarted, costs a second try, not the picture. */
async function patiently(fetchOnce: () => Promise<void>, signal: AbortSignal): Promise<void> {
  for (let n = 1; ; n++) {
    try {
      return await fetchOnce();
    } catch (error) {
      const { retryable, code } = error as { retryable?: boolean; code?: string };
      const cut =
        retryable === true || code === 'UND_ERR_SOCKET' || code === 'ECONNRESET' || error instanceof TypeError;
      if (signal.aborted || !cut || n >= TRIES) throw error;
      await setTimeout(1000 * 2 ** n, undefined, { signal });
    }
  }
}

/** The name, or a longer one when something else has it. */
async function freeName(folder: string, name: string, id: string, sha256: string): Promise<string> {
  const there = await hashOf(join(folder, name));
  if (there === null || there === sha256) return name;
  const dot = name.lastIndexOf('.');
  return `${name.slice(0, dot)}-${id.slice(-10).replaceAll(/[/\\\0]/g, '-')}${name.slice(dot)}`;
}

/** `link` refuses a name that is taken; where a disk has no links, the name was free a moment ago. */
async function place(part: string, path: string, sha256: string): Promise<void> {
  await link(part, path).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EEXIST') return rename(part, path);
    if ((await hashOf(path)) !== sha256) throw new Error(`${path} is there already and is another file`);
  });
}

const sizeOf = (path: string): Promise<number | null> =>
  stat(path).then(
    (s) => s.size,
    () => null,
  );

/** Null: there is no such file. */
async function hashOf(path: string): Promise<string | null> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path), hash);
    return hash.digest('hex');
  } catch {
    return null;
  }
}

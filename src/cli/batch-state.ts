// What a run remembers beside its file: the gateway, the batch and its terms, the items it asked for, and which picture
// lies in which file. Losing it costs nothing twice: the gateway knows every item by its key.

import { basename } from 'node:path';
import { Low } from 'lowdb';
import { JSONFile } from 'lowdb/node';
import { z } from 'zod';
import { BatchRequest } from '../contract/batches.ts';
import { type Item, sha256 } from './batch-items.ts';
import { InputError } from './failing.ts';

const { name, concurrency, max_credits, breaker } = BatchRequest.shape;

/** What was typed for the batch as a whole; what was not is for the gateway to say. */
export const TypedTerms = z.strictObject({
  name: name.exactOptional(),
  concurrency: concurrency.unwrap().exactOptional(),
  max_credits: max_credits.exactOptional(),
  breaker: breaker.unwrap().exactOptional(),
});
export type TypedTerms = z.infer<typeof TypedTerms>;

const BARE = /^[^/\\\0]+$/;

/** It stays in the folder that it is put into. */
export const isBareName = (name: string): boolean => BARE.test(name) && basename(name) === name && name !== '..';

const Contents = z.strictObject({
  version: z.literal(1),
  /** The gateway's address. */
  url: z.string().nullable(),
  /** The batch that is taken up by the next run. */
  batch: z.string().nullable(),
  /** What was asked for, in order: an item's key and what it says, shortened. */
  items: z.array(z.string()),
  /** Where they stood in the file, in the same order. */
  lines: z.array(z.int().nonnegative()).default([]),
  /** The terms that were typed for it; `max_credits` counts `spent` too. */
  terms: TypedTerms.default({}),
  /** Charged by earlier batches of the same list. */
  spent: z.number().nonnegative().default(0),
  /** `gen_…/0` → the picture's file name, without a folder. */
  pictures: z.record(z.string(), z.string().refine(isBareName)),
});
export type State = z.infer<typeof Contents>;

const EMPTY: State = { version: 1, url: null, batch: null, items: [], lines: [], terms: {}, spent: 0, pictures: {} };

/** Pictures are written down together: the file is rewritten whole each time. */
const PAUSE_MS = 1_000;

export interface StateFile {
  readonly path: string;
  /** As it is now; `save` changes it. */
  readonly state: () => State;
  /** On disk when it resolves. */
  save(change: Partial<State>): Promise<void>;
  /** Written soon. */
  notePicture(output: string, name: string): void;
  close(): Promise<void>;
}

export const stateFileOf = (base: string): string => `${base}.state.json`;

/** Throws InputError when the file is there and is not a state. */
export async function openState(path: string): Promise<StateFile> {
  const db = new Low<State>(new JSONFile(path), { ...EMPTY, pictures: {} });
  const found = await db.read().then(
    () => Contents.safeParse(db.data).data,
    (error: NodeJS.ErrnoException) => {
      if (error.code !== undefined) throw new InputError(`${path} cannot be read (${error.code}).`);
      return undefined;
    },
  );
  if (found === undefined) {
    const advice = 'Remove it and run again: finished items are found by their keys and cost nothing.';
    throw new InputError(`${path} is damaged: it is not the state of a batch.`, advice);
  }
  db.data = found;
  let timer: NodeJS.Timeout | undefined;
  const write = () => {
    clearTimeout(timer);
    timer = undefined;
    return db.write();
  };
  return {
    path,
    state: () => db.data,
    async save(change) {
      Object.assign(db.data, change);
      await write();
    },
    notePicture(output, name) {
      db.data.pictures[output] = name;
      timer ??= setTimeout(() => void write().catch(() => {}), PAUSE_MS);
    },
    async close() {
      if (timer !== undefined) await write();
    },
  };
}

/** An item as the state remembers it: who it is, and what is asked for. */
export const remembered = ({ key, request }: Item): string =>
  `${key.slice(0, 24)}:${sha256(JSON.stringify(request)).slice(0, 16)}`;

/** What is different since, in a few words; null: nothing. */
export function sayChanges(before: readonly string[], now: readonly string[]): string | null {
  const byKey = (list: readonly string[]) => new Map(list.map((entry) => entry.split(':') as [string, string]));
  const [old, fresh] = [byKey(before), byKey(now)];
  const added = [...fresh.keys()].filter((key) => !old.has(key)).length;
  const removed = [...old.keys()].filter((key) => !fresh.has(key)).length;
  const edited = [...fresh].filter(([key, said]) => old.has(key) && old.get(key) !== said).length;
  const parts = [
    [added, 'new'],
    [removed, 'gone'],
    [edited, 'changed'],
  ] as const;
  const told = parts.filter(([n]) => n > 0).map(([n, what]) => `${n} ${what}`);
  if (told.length > 0) return told.join(', ');
  return before.join() === now.join() ? null : 'in another order';
}

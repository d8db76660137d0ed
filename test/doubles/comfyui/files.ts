// The box's three folders, in memory. Saving counts up from the highest number present, so a deleted file's number comes
// back; `temp` does not survive a restart, the others do.

import { createHash } from 'node:crypto';
import type { FileBytes } from '../pictures.ts';

export type Folder = 'output' | 'input' | 'temp';

export interface StoredFile extends FileBytes {
  readonly modifiedAt: number;
}

export interface FileRef {
  readonly filename: string;
  readonly subfolder: string;
  readonly type: Folder;
}

export interface Files {
  /** Under the next free number of the prefix (`gw/job` → `gw/job_00001_.png`). */
  save(type: Folder, prefix: string, extension: string, bytes: FileBytes): FileRef;
  put(ref: FileRef, bytes: FileBytes): void;
  get(ref: FileRef): StoredFile | null;
  remove(ref: FileRef): boolean;
  list(type: Folder): readonly FileRef[];
  /** An upload: the same name with the same bytes is the same file, with others it gets another name. */
  upload(ref: FileRef, bytes: Buffer, mime: string, overwrite: boolean): FileRef;
  /** What a LoadImage means by `name`, `sub/name` or `name [temp]`. */
  find(reference: string): StoredFile | null;
  wipeTemp(): void;
}

export function createFiles(now: () => number): Files {
  const folders: Readonly<Record<Folder, Map<string, StoredFile>>> = {
    output: new Map(),
    input: new Map(),
    temp: new Map(),
  };
  const counters = new Map<string, Map<string, number>>();
  const key = ({ subfolder, filename }: FileRef) => `${subfolder}|${filename}`;

  const put = (ref: FileRef, bytes: FileBytes) => {
    folders[ref.type].set(key(ref), { ...bytes, modifiedAt: now() });
    note(ref, 1);
  };
  /** Numbers in use per folder and prefix, so that saving does not scan thousands of names. */
  const note = ({ type, subfolder, filename }: FileRef, change: 1 | -1) => {
    const match = /^(.*)_(\d{5})_/.exec(filename);
    if (!match) return;
    const group = `${type}|${subfolder}|${match[1]}`;
    const used = counters.get(group) ?? new Map<string, number>();
    counters.set(group, used);
    if (change === 1) used.set(filename, Number(match[2]));
    else used.delete(filename);
  };
  const get = (ref: FileRef) => folders[ref.type].get(key(ref)) ?? null;
  const remove = (ref: FileRef) => {
    note(ref, -1);
    return folders[ref.type].delete(key(ref));
  };

  const list = (type: Folder): FileRef[] =>
    [...folders[type].keys()].map((name) => {
      const [subfolder = '', filename = ''] = name.split('|');
      return { type, subfolder, filename };
    });

  return {
    save(type, prefix, extension, bytes) {
      const cut = prefix.lastIndexOf('/');
      const [subfolder, name] = [prefix.slice(0, Math.max(0, cut)), prefix.slice(cut + 1)];
      const used = [...(counters.get(`${type}|${subfolder}|${name}`)?.values() ?? [])];
      const number = String(Math.max(0, ...used) + 1).padStart(5, '0');
      const ref = { filename: `${name}_${number}_.${extension}`, subfolder, type };
      put(ref, bytes);
      return ref;
    },
    put,
    get,
    remove,
    list,
    upload(ref, bytes, mime, overwrite) {
      const [, stem = ref.filename, ending = ''] = /^(.*?)(\.[^.]*)?$/.exec(ref.filename) ?? [];
      for (let copy = 0; ; copy++) {
        const name = { ...ref, filename: copy === 0 ? ref.filename : `${stem} (${copy})${ending}` };
        const there = get(name);
        if (there && !overwrite && digest(there) !== digest({ parts: [bytes] })) continue;
        put(name, { parts: [bytes], mime });
        return name;
      }
    },
    find(reference) {
      const [, path = reference, marked] = /^(.*?)(?: \[(input|output|temp)\])?$/.exec(reference) ?? [];
      const cut = path.lastIndexOf('/');
      const [subfolder, filename] = [path.slice(0, Math.max(0, cut)), path.slice(cut + 1)];
      return get({ filename, subfolder, type: (marked as Folder | undefined) ?? 'input' });
    },
    wipeTemp() {
      for (const ref of list('temp')) remove(ref);
    },
  };
}

export function digest({ parts }: Pick<FileBytes, 'parts'>): string {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest('hex');
}

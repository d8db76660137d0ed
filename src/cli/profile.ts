// The profile: gateways this person has logged in to, by name, in a small file that only they can read. A key lies there
// in full, so the file is never readable by others, not even for the moment in which it is written.

import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { Low } from 'lowdb';
import { InputError } from './failing.ts';
import { reasonOf } from './reasons.ts';

export interface Profile {
  readonly url: string;
  readonly key: string;
}

interface Contents {
  readonly profiles: Readonly<Record<string, Profile>>;
}

export const DEFAULT_PROFILE = 'default';

/** `$XDG_CONFIG_HOME/darkroom/profiles.json`, normally in `~/.config`. */
export function profileFile(env: Readonly<Record<string, string | undefined>>): string {
  return join(env.XDG_CONFIG_HOME || join(homedir(), '.config'), 'darkroom', 'profiles.json');
}

/** Null: nothing is kept under this name. Throws InputError when the file is not one of ours. */
export async function readProfile(file: string, name: string): Promise<Profile | null> {
  return (await open(file)).data.profiles[name] ?? null;
}

/** `null` forgets it. */
export async function keepProfile(file: string, name: string, profile: Profile | null): Promise<void> {
  const db = await open(file);
  const { [name]: _before, ...others } = db.data.profiles;
  db.data = { profiles: profile === null ? others : { ...others, [name]: profile } };
  await db.write();
}

async function open(file: string): Promise<Low<Contents>> {
  const db = new Low<Contents>({ read: () => read(file), write: (data) => write(file, data) }, { profiles: {} });
  await db.read();
  return db;
}

/** The schema is loaded only where there is something to check: most calls of the command have no profile. */
async function read(file: string): Promise<Contents | null> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return null;
    throw new InputError(`${file} cannot be read: ${reasonOf(error)}.`);
  });
  if (text === null) return null;
  const { z } = await import('zod');
  const Schema = z.strictObject({ profiles: z.record(z.string(), z.strictObject({ url: z.url(), key: z.string() })) });
  const found = Schema.safeParse(parsed(text));
  if (found.success) return found.data;
  throw new InputError(`${file} is not a file of this command. Remove it and run "darkroom login" again.`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function write(file: string, data: Contents): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const fresh = `${file}.${process.pid}.new`;
  await writeFile(fresh, `${JSON.stringify(data, null, 2)}\n`, { mode: 0o600, flush: true });
  await rename(fresh, file);
}

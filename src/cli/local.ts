// The gateway of this machine as it can be known from the folder a command is started in: its port and its admin key. Only
// these few lines of its settings are read, and loosely: a fault elsewhere in them is no matter of who asks for a picture.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from './failing.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

interface Settings {
  readonly port?: number;
  readonly data?: string;
  readonly adminKey?: string;
}

const DEFAULT_PORT = 8787;
/** Most settings files name none of these: then nothing is loaded to read them. */
const NAMED = /^\s*\{?\s*["']?(port|data|admin_key)["']?\s*:/m;

export async function localPort(env: Environment): Promise<string> {
  const told = env.DARKROOM_PORT;
  if (!told) return String((await settingsHere(env)).port ?? DEFAULT_PORT);
  if (/^\d{1,5}$/.test(told) && Number(told) < 65_536) return told;
  throw new InputError(`DARKROOM_PORT: expected a port from 1 to 65535, found "${told}".`);
}

/** The admin key of a gateway on this machine, where this person may read it. */
export async function localKey(env: Environment): Promise<string | null> {
  const told = env.DARKROOM_ADMIN_KEY || (await settingsHere(env)).adminKey;
  if (told) return told;
  const folder = env.DARKROOM_DATA || (await settingsHere(env)).data || 'data';
  const text = await readFile(join(folder, 'admin-key'), 'utf8').catch(() => '');
  return text.trim() || null;
}

async function settingsHere(env: Environment): Promise<Settings> {
  const file = env.DARKROOM_CONFIG || join('config', 'darkroom.yaml');
  const text = await readFile(file, 'utf8').catch(() => '');
  if (!NAMED.test(text)) return {};
  const { parseDocument } = await import('yaml');
  const found: unknown = parseDocument(text).toJS();
  const { port, data, admin_key: key } = (found ?? {}) as Readonly<Record<string, unknown>>;
  return {
    ...(Number.isInteger(port) && { port: port as number }),
    ...(isText(data) && { data }),
    ...(isText(key) && { adminKey: key }),
  };
}

/** What stands for a variable of the gateway's own environment is not known here. */
const isText = (value: unknown): value is string => typeof value === 'string' && value !== '' && !value.includes('${');

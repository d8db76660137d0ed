// Which gateway a command speaks to, and with which key: flag, then environment, then profile, then the gateway of this
// machine. A remembered key is sent to the address it was remembered with and to no other.

import type { Command } from 'commander';
import type { Client } from '../client/client.ts';
import { CommandError, InputError } from './failing.ts';
import { type Environment, localKey, localPort } from './local.ts';
import { DEFAULT_PROFILE, profileFile, readProfile } from './profile.ts';

export interface RemoteOptions {
  readonly url?: string;
  readonly key?: string;
  readonly profile?: string;
  readonly json?: boolean;
}

export interface Place {
  readonly url: string;
  /** Null: none was found anywhere. */
  readonly key: string | null;
}

export interface Located extends Place {
  /** Somebody said where it is; otherwise it is looked for where gateways are by default. */
  readonly named: boolean;
}

/** The options every command has that speaks to a gateway, after its own. `key`: another name where --key means something else. */
export function withRemote(command: Command, key = '--key <key>'): Command {
  return command
    .optionsGroup('Gateway:')
    .option('--url <address>', 'where it is (else DARKROOM_URL, the profile, http://127.0.0.1:8787)')
    .option(key, 'a key of yours (else DARKROOM_KEY, the profile, ./data/admin-key)')
    .option('--profile <name>', 'another of the gateways you are logged in to')
    .option('--json', 'print exactly one JSON document on stdout')
    .helpOption('-h, --help', 'show this');
}

/** Throws InputError for an address that is none, or a profile that nobody has kept. */
export async function locate(options: RemoteOptions, env: Environment = process.env): Promise<Located> {
  const kept = await readProfile(profileFile(env), options.profile ?? DEFAULT_PROFILE);
  if (kept === null && options.profile !== undefined) {
    throw new InputError(
      `There is no profile "${options.profile}".`,
      `darkroom login --profile ${options.profile} --url … --key …`,
    );
  }
  const named = options.profile === undefined ? env.DARKROOM_URL : undefined;
  const said = options.url || named || kept?.url;
  const url = baseUrl(said || `http://127.0.0.1:${await localPort(env)}`);
  const remembered = kept?.url === url ? kept.key : undefined;
  const told = options.profile === undefined ? env.DARKROOM_KEY || remembered : remembered || env.DARKROOM_KEY;
  return { url, key: options.key || told || (isHere(url) ? await localKey(env) : null), named: Boolean(said) };
}

/** The client of the gateway that these options, the environment or the profile name. */
export async function connect(options: RemoteOptions): Promise<Client> {
  const { url, key } = await locate(options);
  const { createClient } = await import('../client/client.ts');
  if (key !== null) return createClient({ url, key });
  await createClient({ url, key: 'none' }).call('GET', '/healthz');
  throw noKey(url);
}

/** Nobody gave one, and none lies here. */
export const noKey = (url: string): CommandError =>
  new CommandError(
    'unauthenticated',
    `There is no key for ${url}.`,
    isHere(url)
      ? 'Its admin key lies in the folder it was started in: --key "$(cat FOLDER/data/admin-key)", or DARKROOM_KEY.'
      : `Give one with --key or DARKROOM_KEY, or let it be remembered: darkroom login --url ${url}`,
  );

export interface At<Options> {
  readonly client: Client;
  readonly options: Options & RemoteOptions;
}

/** The action of a command that speaks to a gateway. `work` answers with the exit status; nothing means 0. */
export function remotely<Options = RemoteOptions, Args extends readonly unknown[] = []>(
  work: (at: At<Options>, ...args: Args) => Promise<number | undefined>,
): (...given: unknown[]) => Promise<void> {
  return async (...given) => {
    const options = given.at(-2) as Options & RemoteOptions;
    const client = await connect(options);
    process.exitCode = (await work({ client, options }, ...(given.slice(0, -2) as unknown as Args))) ?? 0;
  };
}

/** Without trailing slash, so that a path can be appended. */
function baseUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new InputError(`Expected an http:// or https:// address of a gateway, found "${text}".`);
  }
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '');
}

/** Is it this machine? */
export const isHere = (url: string): boolean => /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(new URL(url).hostname);

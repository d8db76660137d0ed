// `darkroom login` and `darkroom logout`: remember a gateway and a key, after trying them; forget them. A key is never
// printed in full.

import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';
import { Command } from 'commander';
import { EXIT, InputError } from './failing.ts';
import { DEFAULT_PROFILE, keepProfile, profileFile, readProfile } from './profile.ts';
import { locate, type RemoteOptions, withRemote } from './remote.ts';
import { answer } from './table.ts';

const command = new Command('login').description('remember a gateway and a key, once they work').addHelpText(
  'after',
  `
Without --key it is asked for, or read from standard input, so that it stays out of the shell's history.

Examples:
  darkroom login --url http://darkroom.studio.lan:8787
  darkroom login --url http://10.0.0.5:8787 --profile night < key.txt`,
);

export const loginCommand = withRemote(command).action(async (options: RemoteOptions) => {
  const { profile: name = DEFAULT_PROFILE, ...given } = options;
  const file = profileFile(process.env);
  const kept = await readProfile(file, name);
  const { url } = await locate({ ...given, url: given.url || process.env.DARKROOM_URL || kept?.url || '' });
  const key = given.key || process.env.DARKROOM_KEY || (await askForKey());
  await tryOut(url, key);
  await keepProfile(file, name, { url, key });
  const told = { profile: name, url, key: veiled(key), file };
  answer(options, told, () => `Remembered ${url} with the key ${told.key} as "${name}" in:\n  ${file}\n`);
});

const out = new Command('logout')
  .description('forget a gateway and its key')
  .option('--profile <name>', 'which', DEFAULT_PROFILE)
  .option('--json', 'print exactly one JSON document on stdout');

export const logoutCommand = out.action(async (options: { profile: string; json?: boolean }) => {
  const file = profileFile(process.env);
  const known = (await readProfile(file, options.profile)) !== null;
  if (known) await keepProfile(file, options.profile, null);
  answer(options, { profile: options.profile, forgotten: known }, () =>
    known ? `Forgot "${options.profile}".\n` : `Nothing was remembered as "${options.profile}".\n`,
  );
});

/** Throws when nobody answers there or the key is refused. A key that may not read is a key all the same. */
async function tryOut(url: string, key: string): Promise<void> {
  const { createClient, DarkroomError } = await import('../client/client.ts');
  try {
    await createClient({ url, key }).credits();
  } catch (error) {
    if (!(error instanceof DarkroomError && error.code === 'forbidden')) throw error;
  }
}

const veiled = (key: string): string => (key.length > 12 ? `${key.slice(0, 5)}…${key.slice(-3)}` : '…');

async function askForKey(): Promise<string> {
  const { isTTY } = process.stdin;
  if (isTTY) process.stderr.write('Key (it is not shown): ');
  const mute = new Writable({ write: (_chunk, _encoding, done) => done() });
  const lines = createInterface({ input: process.stdin, output: mute, terminal: isTTY });
  lines.once('SIGINT', () => {
    process.stderr.write('\n');
    process.exit(EXIT.interrupted);
  });
  const { value = '' } = await lines[Symbol.asyncIterator]().next();
  lines.close();
  if (isTTY) process.stderr.write('\n');
  const key = String(value ?? '').trim();
  if (key === '')
    throw new InputError('No key was given.', 'Give it with --key, in DARKROOM_KEY or on standard input.');
  return key;
}

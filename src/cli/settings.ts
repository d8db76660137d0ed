// Command-line options that stand for settings: they are put over the environment before it is read, so that there is
// one place where settings are checked.

import { type Config, ConfigError, loadConfig } from '../config.ts';

export interface SettingOptions {
  readonly host?: string;
  readonly port?: string;
  readonly data?: string;
  readonly config?: string;
  readonly models?: string;
}

/** The validated settings, or one clear sentence per fault on stderr and exit status 2. */
export function settingsFrom(options: SettingOptions): Config {
  const over = Object.entries(options).flatMap(([name, value]) =>
    value === undefined ? [] : [[`DARKROOM_${name.toUpperCase()}`, value]],
  );
  try {
    return loadConfig({ ...process.env, ...Object.fromEntries(over) }, process.cwd());
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(2);
  }
}

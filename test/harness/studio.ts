// A studio in a folder: darkroom.yaml, models.yaml and the data beside them. It is opened in the test's own process, or by
// a process of its own (gateway-process.ts), with the same environment.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadConfig } from '../../src/config.ts';
import { type Darkroom, openDarkroom } from '../../src/main.ts';
import type { System } from '../../src/system/system.ts';
import type { HostedDouble, HostedKind } from '../doubles/hosted/hosted.ts';

export interface Studio {
  readonly folder: string;
  /** `system`: another clock. `port`: 0 takes any free one. */
  open(system?: System, port?: string): Promise<Darkroom>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What a gateway is told of its folder, its port and its first key. */
export const environmentOf = (folder: string, adminKey: string, port: string) => ({
  DARKROOM_CONFIG: join(folder, 'darkroom.yaml'),
  DARKROOM_MODELS: join(folder, 'models.yaml'),
  DARKROOM_DATA: join(folder, 'data'),
  DARKROOM_PORT: port,
  DARKROOM_ADMIN_KEY: adminKey,
});

/** `models` and `settings` as they stand in the files; nothing is logged. */
export async function studio(adminKey: string, models: string, settings = ''): Promise<Studio> {
  const folder = await mkdtemp(join(tmpdir(), 'darkroom-studio-'));
  await writeFile(join(folder, 'models.yaml'), models);
  await writeFile(join(folder, 'darkroom.yaml'), `log_level: silent\n${settings}`);
  return {
    folder,
    open: (system, port = '0') => openDarkroom(loadConfig(environmentOf(folder, adminKey, port), folder), system),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

/** Settings of a studio without boxes, whose accounts are these stand-ins, each by the name of its kind. */
export function accountsAt(doubles: Iterable<readonly [HostedKind, HostedDouble]>, slots = 4): string {
  const accounts = [...doubles].map(
    ([kind, { key, url }]) =>
      `  - {id: ${kind}, kind: ${kind}, token: "${key}", base_url: "${url}", slots: ${slots}}\n`,
  );
  return `sketch: false\noutbound: {allow_private: ["127.0.0.0/8"]}\naccounts:\n${accounts.join('')}`;
}

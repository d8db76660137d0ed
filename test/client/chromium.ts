// A real browser for tests: Debian's chromium, or the one that DARKROOM_TEST_CHROMIUM names.

import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PROGRAM = process.env.DARKROOM_TEST_CHROMIUM ?? '/usr/bin/chromium';

/** Why tests in a browser cannot run here; null when they can. With CI=true they must, so this throws instead. */
export function chromiumMissing(): string | null {
  if (existsSync(PROGRAM)) return null;
  const why = `no browser: install Debian's chromium or set DARKROOM_TEST_CHROMIUM (looked for ${PROGRAM})`;
  if (process.env.CI === 'true') throw new Error(why);
  return why;
}

/** Speaks to nobody but the tests. */
export const launchChromium = (): Promise<Browser> =>
  chromium.launch({
    executablePath: PROGRAM,
    args: [
      ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-dev-shm-usage',
      '--no-first-run',
    ],
  });

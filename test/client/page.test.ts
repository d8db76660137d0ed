// docs/client.md as its readers use it: each example is taken from the page and run against a gateway.

import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import { KEY, startGateway } from './darkroom.ts';
import { emitClient, ROOT } from './emitted.ts';

const text = readFileSync(join(ROOT, 'docs/client.md'), 'utf8');
const examples = [...text.matchAll(/^## (.+)\n+```js\n([\s\S]*?)^```/gm)].map(
  ([, title, code]) => [title, code] as const,
);

/** What each one prints, in short. */
const PRINTS: Readonly<Record<string, RegExp>> = {
  'A picture': /succeeded[\s\S]*http.* sketch 0.5\n\d+ bytes/,
  Errors: /safety_filter .* Soften the prompt.* false gen_/,
  'Ask now, look later': /gen_\S+ \d+\nsucceeded/,
  Watch: /generation.queued c[\s\S]*generation.succeeded c/,
  Batches: /finished 3 of 3/,
};

test('the page has the examples that are tried here', () => {
  expect(examples.map(([title]) => title)).toEqual(Object.keys(PRINTS));
});

test.each(examples)('%s', async (title = '', code = '') => {
  const { url } = await startGateway();
  const { folder, remove } = emitClient();
  onTestFinished(remove);
  const home = join(folder, 'node_modules/darkroom');
  mkdirSync(home, { recursive: true });
  renameSync(join(folder, 'dist'), join(home, 'dist'));
  const exports = { './client': './dist/client/client.js' };
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'darkroom', type: 'module', exports }));
  const script = join(folder, 'example.mjs');
  writeFileSync(script, code.replace('http://127.0.0.1:8787', url).replace('dk_…', KEY));
  const { stdout } = await promisify(execFile)(process.execPath, [script], { timeout: 15_000 });
  expect(stdout).toMatch(PRINTS[title] as RegExp);
});

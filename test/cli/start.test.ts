// Commands start quickly because they load little: what it takes to know the command line is no house and no schema.

import { execFile } from 'node:child_process';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const ROOT = resolve(import.meta.dirname, '../..');
const PROBE = `
const { registerHooks } = await import('node:module');
const loaded = new Set();
registerHooks({ load(url, context, next) { loaded.add(url); return next(url, context); } });
await import(${JSON.stringify(join(ROOT, 'src/cli/program.ts'))});
process.stdout.write(JSON.stringify([...loaded]));`;

it('the command line loads no room but its own, and neither schemas nor pictures', async () => {
  const node = join(ROOT, 'node_modules/.bin/node');
  const { stdout } = await promisify(execFile)(node, ['--input-type=module', '-e', PROBE]);
  const loaded = (JSON.parse(stdout) as string[]).map((url) => url.replace(/^.*?\/(src|node_modules)\//, '$1/'));
  expect(loaded).toContain('src/cli/generate.ts');
  expect(
    loaded.filter((path) => /^src\/(?!cli\/)|^node_modules\/(zod|sharp|express|pg|yaml|pino)\//.test(path)),
  ).toEqual([]);
});

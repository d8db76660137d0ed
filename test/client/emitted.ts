// What `npm run build` gives to other programs, emitted into a folder of its own.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '../..');
export const TSC = join(ROOT, 'node_modules/typescript/bin/tsc');

/** A folder that has `dist/`. */
export function emitClient(): { readonly folder: string; remove(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'darkroom-emitted-'));
  run(TSC, ['-p', join(ROOT, 'tsconfig.client.json'), '--outDir', join(folder, 'dist')], folder);
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) };
}

/** The script's output; throws with everything it said when it fails. */
export function run(script: string, args: readonly string[], cwd: string, node = process.execPath): string {
  try {
    return execFileSync(node, [script, ...args], { cwd, encoding: 'utf8', stdio: 'pipe' });
  } catch (error) {
    const { stdout, stderr } = error as { readonly stdout?: string; readonly stderr?: string };
    throw new Error(`${script} failed:\n${stdout}\n${stderr}`);
  }
}

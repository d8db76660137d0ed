// The emitted client as another program meets it: imported by name, in an older Node, under its own strict compiler.

import { execFile, execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { KEY, startGateway } from './darkroom.ts';
import { emitClient, ROOT, run, TSC } from './emitted.ts';

let emitted: ReturnType<typeof emitClient>;

/** `npm install darkroom` as far as an import sees it: the package, and zod that comes with it. */
beforeAll(() => {
  emitted = emitClient();
  const { folder } = emitted;
  const home = join(folder, 'node_modules/darkroom');
  mkdirSync(home, { recursive: true });
  renameSync(join(folder, 'dist'), join(home, 'dist'));
  const exports = { './client': { types: './dist/client/client.d.ts', default: './dist/client/client.js' } };
  writeFileSync(join(home, 'package.json'), JSON.stringify({ name: 'darkroom', type: 'module', exports }));
  symlinkSync(join(ROOT, 'node_modules/zod'), join(folder, 'node_modules/zod'));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
});
afterAll(() => emitted?.remove());

/** The machine's own Node where there is one beside the project's: as a rule an older one. */
function otherNode(): string {
  const folders = (process.env.PATH ?? '').split(delimiter).filter((folder) => !folder.includes('node_modules'));
  const works = (path: string) => {
    try {
      return /^v2\d\./.test(execFileSync(path, ['--version'], { encoding: 'utf8', stdio: 'pipe' }));
    } catch {
      return false;
    }
  };
  return folders.map((folder) => join(folder, 'node')).find(works) ?? process.execPath;
}

describe('the emitted client', () => {
  it('generates from a program in plain JavaScript', async () => {
    const { url } = await startGateway();
    const script = join(emitted.folder, 'program.js');
    writeFileSync(
      script,
      `import { createClient, DarkroomError } from 'darkroom/client';
       const client = createClient({ url: '${url}', key: '${KEY}' });
       const { status, model } = await client.generate({ prompt: 'a lighthouse' });
       const wrong = await client.get('gen_nobody').catch((error) => error);
       console.log(JSON.stringify([status, model, wrong instanceof DarkroomError, wrong.code]));`,
    );
    const { stdout } = await promisify(execFile)(otherNode(), [script]);
    expect(JSON.parse(stdout)).toEqual(['succeeded', 'sketch', true, 'not_found']);
  });

  it('imports nothing but itself', () => {
    const folder = join(emitted.folder, 'node_modules/darkroom/dist/client');
    const sources = readdirSync(folder).filter((name) => name.endsWith('.js'));
    const imported = sources.flatMap((name) =>
      [...readFileSync(join(folder, name), 'utf8').matchAll(/\bfrom '([^']+)'/g)].map((match) => match[1]),
    );
    expect(imported.filter((name) => !/^\.\/[a-z-]+\.js$/.test(name ?? ''))).toEqual([]);
    expect(imported.length).toBeGreaterThan(10);
  });

  it.each([
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ])('has types that a strict program resolves (%s, %s)', (module, moduleResolution) => {
    const { folder } = emitted;
    writeFileSync(
      join(folder, 'program.ts'),
      `import { type Client, createClient, DarkroomError, pollGeneration } from 'darkroom/client';
       const client: Client = createClient({ url: 'http://there', key: 'k' });
       export async function shoot(prompt: string): Promise<string | null> {
         const g = await client.generate({ prompt, size: '512x512' }, { onUpdate: (u) => u.progress?.fraction.toFixed(1) });
         const polled: 'queued' | 'running' | 'succeeded' | 'failed' | 'timeout' | 'cancelled' =
           (await pollGeneration(g.id, client.get)).status;
         return polled === 'succeeded' ? (g.outputs[0]?.url ?? null) : null;
       }
       export async function follow(signal: AbortSignal): Promise<void> {
         for await (const frame of client.watch({ signal }))
           if (frame.type === 'event' && 'batch' in frame) frame.batch.counts.failed satisfies number;
         const report = await client.runBatch({ items: [{ prompt: 'x' }], breaker: { threshold: 0.2 } });
         report.reconciliation.delta_percent satisfies number;
       }
       export const code = (error: unknown) => error instanceof DarkroomError && error.code === 'unreachable';
       // @ts-expect-error: there is no such field
       void client.submit({ prmpt: 'x' });
       // @ts-expect-error: there is no such code
       export const never = (error: DarkroomError) => error.code === 'shoe';
      `,
    );
    const options = { strict: true, noEmit: true, skipLibCheck: false, target: 'es2022', types: [], module };
    const compilerOptions = { ...options, moduleResolution, lib: ['es2022', 'dom', 'dom.iterable'] };
    const config = join(folder, 'tsconfig.json');
    writeFileSync(config, JSON.stringify({ compilerOptions, files: ['program.ts'] }));
    expect(run(TSC, ['-p', config], folder)).toBe('');
  });
});

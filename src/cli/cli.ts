#!/usr/bin/env node
// Entry of the `darkroom` command. Compiled code is cached (in the system's temporary folder) before the rest is loaded:
// it halves the time to start.

import { enableCompileCache } from 'node:module';

enableCompileCache();
// Pictures are decoded on libuv's threads, which file access needs too; read when the first thread is wanted.
process.env.UV_THREADPOOL_SIZE ??= '16';
// Whoever reads may have seen enough, as in `darkroom list | head -3`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});
const { run } = await import('./program.ts');
await run(process.argv);

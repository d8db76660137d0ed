// A gateway killed at any moment has kept every write it acknowledged, and its books balance.

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it } from 'vitest';
import { cutKey } from './batch-drafts.ts';
import { workspace } from './drafts.ts';
import { onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

const PROGRAM = join(import.meta.dirname, 'writer-process.ts');

/** Runs a writer and kills it once it has acknowledged `after` writes; answers with the newest acknowledged per generation. */
async function killed(site: Site, name: string, after: number): Promise<Map<string, number>> {
  const writer = spawn(process.execPath, [PROGRAM, JSON.stringify(site.location), name], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const acknowledged = new Map<string, number>();
  let lines = 0;
  for await (const line of createInterface({ input: writer.stdout })) {
    const { id, seq } = JSON.parse(line) as { id: string; seq: number };
    acknowledged.set(id, seq);
    if (++lines === after) writer.kill('SIGKILL');
  }
  expect(lines, 'the writer died by our hand').toBeGreaterThanOrEqual(after);
  return acknowledged;
}

onBothEngines((engine) => {
  it('keeps every acknowledged write of a gateway that was killed, again and again', { timeout: 120_000 }, async () => {
    await using site = await engine.site();
    const first = await site.open();
    await workspace(first, 'studio', 1_000_000_000);
    await cutKey(first);
    await first.close();
    for (const [round, after] of [1, 37, 160, 400, 90].entries()) {
      const acknowledged = await killed(site, `r${round}`, after);
      const store = await site.open();
      for (const [id, seq] of acknowledged) {
        expect((await store.generations.get(id))?.seq, id).toBeGreaterThanOrEqual(seq);
      }
      await expectSound(site, store);
      await store.close();
    }
  });

  it('keeps the books of two gateways writing at once, one of them killed', { timeout: 120_000 }, async () => {
    await using site = await engine.site();
    const store = await site.open();
    await workspace(store, 'studio', 1_000_000_000);
    await cutKey(store);
    const [one, two] = await Promise.all([killed(site, 'a', 50), killed(site, 'b', 200)]);
    for (const [id, seq] of [...one, ...two])
      expect((await store.generations.get(id))?.seq, id).toBeGreaterThanOrEqual(seq);
    await expectSound(site, store);
  });
});

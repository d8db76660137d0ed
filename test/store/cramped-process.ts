// A gateway on a disk that runs full: its files may not grow beyond a limit it was started with. Writes until the
// database can grow no more, and on until many writes were refused; then has room made, writes again, and says how that
// went, as one JSON line.

import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { openStore } from '../../src/store/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { draft, workspace } from './drafts.ts';

const REFUSALS = 50;
const ROWS = 100;
const [path = '', limit] = process.argv.slice(2);
const store = await openStore({ path, clock: systemClock });
await workspace(store);
const prompt = 'a red chair '.repeat(500);
const kept: string[] = [];
const write = async () => {
  const drafts = Array.from({ length: ROWS }, () => draft({ reserved: 0, prompt }));
  await store.generations.insert(drafts);
  kept.push(...drafts.map(({ id }) => id));
};

const full = () => statSync(path).size >= Number(limit);
for (let refused = 0; refused < REFUSALS; ) await write().catch(() => full() && refused++);
const before = kept.length;
execFileSync('prlimit', ['--pid', String(process.pid), '--fsize=unlimited']);
for (let round = 0; round < 10; round++) await write();
const found = await Promise.all(kept.map((id) => store.generations.get(id)));
await store.close();
const answer = { before, after: kept.length, lost: found.filter((one) => one === null).length };
process.stdout.write(`${JSON.stringify(answer)}\n`);

// `npm run bench [b1 b2 …]`: each figure beside its limit, measured in the same run. Exit status 1 when a goal is missed.

import { b19 } from './accounts.ts';
import { b6 } from './backlog.ts';
import { b17, b18 } from './deliveries.ts';
import { b1, b2 } from './http.ts';
import { b3, b4 } from './nodes-idle.ts';
import { b10 } from './pictures.ts';
import type { Row } from './rig.ts';
import { b1c, b11s } from './sets.ts';
import { b7, b8 } from './survive.ts';
import { b9 } from './watchers.ts';

const ALL: Readonly<Record<string, () => Promise<Row[]>>> = {
  b1,
  b1c,
  b2,
  b3,
  b4,
  b6,
  b7,
  b8,
  b9,
  b10,
  b11s,
  b17,
  b18,
  b19,
};

const wanted = process.argv.slice(2);
const unknown = wanted.filter((name) => !(name in ALL));
if (unknown.length > 0) {
  process.stderr.write(`Unknown: ${unknown.join(', ')}. There are ${Object.keys(ALL).join(', ')}.\n`);
  process.exit(2);
}
const rows: Row[] = [];
for (const [name, run] of Object.entries(ALL)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  process.stderr.write(`${name} …\n`);
  try {
    rows.push(...(await run()));
  } catch (error) {
    process.stderr.write(`${name} failed: ${(error as Error).stack}\n`);
    process.exitCode = 1;
  }
}
process.stdout.write('| | workload | limit | ours | ratio | goal | |\n|---|---|---:|---:|---:|---|---|\n');
for (const r of rows)
  process.stdout.write(
    `| ${r.id} | ${r.what} | ${r.limit} | ${r.ours} | ${r.ratio} | ${r.goal} | ${r.met ? 'met' : 'MISSED'} |\n`,
  );
process.exit(process.exitCode || (rows.every((r) => r.met) ? 0 : 1));

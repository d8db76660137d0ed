// A batch as people name it: by its id, or by the file it came from.

import { basename } from 'node:path';
import { openState, stateFileOf } from './batch-state.ts';
import { InputError } from './failing.ts';

/** Also the name of the state itself is understood. */
const fileOf = (named: string): string => named.replace(/\.state\.json$/, '');

/** Null: it was named by its id. */
export const shotsOf = (named: string): string | null => (/^batch_[0-9A-Z]+$/.test(named) ? null : fileOf(named));

/** The batch of a file is what its state remembers. Throws InputError when there is none. */
export async function batchIdOf(named: string): Promise<string> {
  const file = shotsOf(named);
  if (file === null) return named;
  const { batch } = (await openState(stateFileOf(file))).state();
  if (batch !== null) return batch;
  throw new InputError(
    `No run of ${file} is remembered here (${stateFileOf(basename(file))} is missing).`,
    'Name the batch by its id: darkroom batch status lists them.',
  );
}

/** Where its items stood in the file when it was run, which may have been edited since; null for a batch named by its id. */
export async function linesOf(named: string): Promise<(index: number) => number | null> {
  const file = shotsOf(named);
  if (file === null) return () => null;
  const { lines } = (await openState(stateFileOf(file))).state();
  return (index) => lines[index] ?? null;
}

/** Which file holds which output: `gen_…/0` → name. */
export async function picturesOf(named: string): Promise<Readonly<Record<string, string>>> {
  const file = shotsOf(named);
  return file === null ? {} : (await openState(stateFileOf(file))).state().pictures;
}

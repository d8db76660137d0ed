// The fleet book: what was learned, in a small JSON file that people may open. Losing it costs estimates, never work:
// so a file that cannot be read is set aside, and one that cannot be written is a warning.

import { rename } from 'node:fs/promises';
import { Low } from 'lowdb';
import { JSONFile } from 'lowdb/node';
import { z } from 'zod';
import type { System } from '../system/system.ts';
import { Learned } from './timings.ts';

const Contents = z.strictObject({ version: z.literal(1), timings: z.array(Learned).max(100_000) });
type Contents = z.infer<typeof Contents>;

/** Writes are at least this far apart. */
const PAUSE_MS = 2_000;

export interface Book {
  /** As found at open. */
  readonly timings: readonly Learned[];
  /** Writes `rows()` soon, replacing what is there; calls until then make no further write. */
  save(rows: () => readonly Learned[]): void;
  /** Writes what is still unwritten. Idempotent. */
  close(): Promise<void>;
}

export async function openBook(file: string, { clock, log }: Pick<System, 'clock' | 'log'>): Promise<Book> {
  const db = new Low<Contents>(new JSONFile(file), { version: 1, timings: [] });
  await readOrSetAside(db, file, log);
  let unwritten: (() => readonly Learned[]) | null = null;
  let timer: Disposable | null = null;
  let writing = Promise.resolve();
  let closed = false;

  const write = async () => {
    if (unwritten === null) return;
    db.data.timings = [...unwritten()];
    unwritten = null;
    await db.write().catch((error: unknown) => log.warn({ err: error, file }, 'the fleet book could not be written'));
  };
  const writeInTurn = () => {
    timer = null;
    writing = writing.then(write);
  };
  return {
    timings: db.data.timings,
    save(rows) {
      unwritten = rows;
      if (!closed) timer ??= clock.timer(PAUSE_MS, writeInTurn);
    },
    async close() {
      closed = true;
      timer?.[Symbol.dispose]();
      writeInTurn();
      await writing;
    },
  };
}

async function readOrSetAside(db: Low<Contents>, file: string, log: System['log']): Promise<void> {
  const empty = db.data;
  try {
    await db.read();
    db.data = Contents.parse(db.data);
  } catch (error) {
    db.data = empty;
    const aside = await rename(file, `${file}.bad`).then(
      () => true,
      () => false,
    );
    log.warn({ err: error, file, aside }, 'the fleet book could not be read; set aside as .bad, learning starts anew');
  }
}

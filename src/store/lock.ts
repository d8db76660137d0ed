// One gateway per data folder: two on one SQLite file would starve each other and both drive the same nodes. SQLite's
// own file lock is held for life, so it is gone the moment its holder is, however it died.

import { DatabaseSync } from 'node:sqlite';

const SQLITE_BUSY = 5;

/** Takes the folder's lock. Throws an Error that says what to do when another process holds it. */
export function lockFolder(path: string): Disposable {
  const lock = new DatabaseSync(path, { timeout: 0 });
  try {
    lock.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;');
  } catch (cause) {
    lock.close();
    if ((cause as { errcode?: number }).errcode !== SQLITE_BUSY) {
      throw new Error(`${path} cannot be locked: ${(cause as Error).message}`, { cause });
    }
    throw new Error(`Another gateway uses ${path}. Stop it first, or choose another folder with DARKROOM_DATA.`, {
      cause,
    });
  }
  return { [Symbol.dispose]: () => lock.close() };
}

// What runs in the thread beside the writer: moving what the write-ahead log has gathered into the database file. It waits
// for the disk twice, and copies every page that changed, which would hold the event loop for a tenth of a second after
// a large batch. A connection of its own needs nothing but SQLite's locks.

import { DatabaseSync } from 'node:sqlite';

/** Moves what no reader still needs in the log; writers go on meanwhile. */
export function checkpoint(path: string): void {
  const db = new DatabaseSync(path);
  try {
    db.exec('PRAGMA wal_checkpoint(PASSIVE)');
  } finally {
    db.close();
  }
}

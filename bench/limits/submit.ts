// The limit of B1: raw node:http, JSON parsed, one row into SQLite (WAL, synchronous=FULL), one commit per event-loop turn.

import { mkdtempSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

const db = new DatabaseSync(join(mkdtempSync(join(tmpdir(), 'darkroom-limit-')), 'limit.db'));
db.exec('PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE jobs (id INTEGER PRIMARY KEY, body TEXT)');
const insert = db.prepare('INSERT INTO jobs (body) VALUES (?)');
let waiting: { body: string; done: () => void }[] = [];

function commit(): void {
  const group = waiting;
  waiting = [];
  db.exec('BEGIN');
  for (const { body } of group) insert.run(body);
  db.exec('COMMIT');
  for (const { done } of group) done();
}

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const body = JSON.stringify(JSON.parse(Buffer.concat(chunks).toString()));
    if (waiting.length === 0) setImmediate(commit);
    waiting.push({ body, done: () => response.writeHead(202, { 'content-type': 'application/json' }).end(body) });
  });
}).listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port));
process.on('disconnect', () => process.exit());

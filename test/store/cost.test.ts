// Cost follows what is asked for, not what is stored. Told by SQLite's own plans, which are the same on every machine,
// where a stopwatch is not: no hot question sorts what it found, and none walks through a whole table.

import { DatabaseSync } from 'node:sqlite';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { laneOf } from '../../src/domain/lane.ts';
import type { Store } from '../../src/store/store.ts';
import { draft, inserted, START, workspace } from './drafts.ts';
import { freshStore, type Site, sqlite } from './engines.ts';

let site: Site & { readonly store: Store };
let asked: string[];
const prepare = DatabaseSync.prototype.prepare;

beforeEach(async () => {
  asked = [];
  DatabaseSync.prototype.prepare = function (this: DatabaseSync, text, ...rest) {
    asked.push(text);
    return prepare.call(this, text, ...rest);
  };
  site = await freshStore(sqlite);
  await workspace(site.store);
  await inserted(site.store, { metadata: { ticket: 'MKT-1' } });
  asked = [];
});
afterEach(async () => {
  DatabaseSync.prototype.prepare = prepare;
  await site[Symbol.asyncDispose]();
});

const studio = { workspaceId: 'studio' };
const cursor = Buffer.from(JSON.stringify([START, 'gen_x'])).toString('base64url');

const QUESTIONS: Readonly<Record<string, (store: Store) => Promise<unknown>>> = {
  'one generation': (s) => s.generations.get('gen_x'),
  'a window on a lane': (s) => s.generations.window(laneOf(draft()).key, 64, 'gen_x'),
  'what is overdue': (s) => s.generations.overdue(START, 10),
  'what is running': (s) => s.generations.running(),
  'the newest queued': (s) => s.generations.queuedIds('studio', 10),
  'the newest of a workspace': (s) => s.generations.list(studio, 20),
  'a later page': (s) => s.generations.list(studio, 20, cursor),
  'by status': (s) => s.generations.list({ ...studio, statuses: ['failed', 'timeout'] }, 20, cursor),
  'by model': (s) => s.generations.list({ ...studio, model: 'sdxl', since: START }, 20),
  'by batch': (s) => s.generations.list({ ...studio, batchId: 'batch_1' }, 20, cursor),
  'by metadata': (s) =>
    s.generations.list({ ...studio, metadata: { ticket: 'MKT-1', shot: '7' }, statuses: ['queued'] }, 20, cursor),
  'events of a workspace': (s) => s.events.after(0, studio, 100),
  'events of some generations': (s) => s.events.after(0, { ...studio, generationIds: ['gen_x'] }, 100),
  'events of a batch': (s) => s.events.after(0, { ...studio, batchId: 'batch_1' }, 100),
  'an earlier state': (s) => s.events.generationAt('gen_x', 3),
  credits: (s) => s.ledger.credits('studio'),
  'a span of usage': (s) => s.ledger.usage('studio', 0, START, 'model'),
  'a key': (s) => s.accounts.authenticate('hash'),
  'files to sweep': (s) => s.files.sweepable(10),
};

it.each(Object.entries(QUESTIONS))('answers %s from an index, as it is ordered', async (name, ask) => {
  await ask(site.store);
  const plans = await Promise.all(asked.filter((text) => /^\s*select/.test(text)).map(planOf));
  expect(plans.length).toBeGreaterThan(0);
  for (const plan of plans) {
    expect(plan).not.toMatch(
      /SCAN (g|m|generations|events|generation_metadata|ledger|keys|blob_refs)\b(?! USING (COVERING )?INDEX generations_(running|with_files))/,
    );
    if (name !== 'events of some generations') expect(plan).not.toMatch(/TEMP B-TREE/);
  }
});

async function planOf(text: string): Promise<string> {
  return (await site.query(`explain query plan ${text}`)).map((row) => row.detail).join('\n');
}

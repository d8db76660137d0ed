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
  'a batch': (s) => s.batches.get('batch_1'),
  'the newest batches': (s) => s.batches.list('studio', 20, cursor),
  'open batches': (s) => s.batches.open(),
  'items of a batch': (s) => s.batches.items('batch_1', {}, 20, cursor),
  'items by status': (s) => s.batches.items('batch_1', { statuses: ['failed', 'timeout'] }, 20, cursor),
  'held items': (s) => s.batches.held('batch_1', 50, 3),
  'ids of items in a state': (s) => s.batches.idsIn('batch_1', 'queued', 100),
  'times on nodes': (s) => s.batches.nodeTimes('batch_1'),
  'who holds keys': (s) => s.batches.claimed('studio', ['a']),
  'a webhook': (s) => s.webhooks.get('studio', 'wh_1'),
  'the newest webhooks': (s) => s.webhooks.list('studio', 20, cursor),
  'a delivery': (s) => s.deliveries.get('studio', 'msg_1'),
  'the newest deliveries': (s) => s.deliveries.list('studio', {}, 20, cursor),
  'deliveries of a webhook': (s) => s.deliveries.list('studio', { webhookId: 'wh_1' }, 20, cursor),
  'deliveries due at a receiver': (s) => s.deliveries.due({ workspaceId: 'studio', url: 'https://a/' }, START, 5),
  'when something is due next': (s) => s.deliveries.next(START),
  'how much waits for a webhook': (s) => s.deliveries.waiting('wh_1'),
  'how much waits for all': (s) => s.deliveries.waiting(),
};

it.each(Object.entries(QUESTIONS))('answers %s from an index, as it is ordered', async (name, ask) => {
  await ask(site.store);
  const plans = await Promise.all(asked.filter((text) => /^\s*select/.test(text)).map(planOf));
  expect(plans.length).toBeGreaterThan(0);
  for (const plan of plans) {
    expect(plan).not.toMatch(
      /SCAN (a|d|g|m|o|generations|events|generation_metadata|ledger|keys|blob_refs|batches|batch_attached|webhooks|deliveries)\b(?! USING (COVERING )?INDEX (generations_(running|with_files)|batches_open|deliveries_next))/,
    );
    if (name !== 'events of some generations') expect(plan).not.toMatch(/TEMP B-TREE/);
  }
});

it('tallies a batch from an index alone, whatever else is stored', async () => {
  await site.store.batches.tally('batch_1');
  const plan = await planOf(asked[0] ?? '');
  expect(plan).toMatch(/SEARCH generations USING COVERING INDEX generations_tally \(batch_id=\?\)/);
  expect(plan).toMatch(/SEARCH generations USING COVERING INDEX generations_held \(batch_id=\? AND status=\?/);
  expect(plan).toMatch(/SEARCH a USING COVERING INDEX batch_attached_by_age \(batch_id=\?\)/);
  expect(plan).not.toMatch(/SCAN (a|g|generations)\b/);
});

it('finds receivers by stepping from one to the next, not through what waits for them', async () => {
  await site.store.deliveries.receivers(START, 10);
  const plan = await planOf(asked[0] ?? '');
  expect(plan).not.toMatch(/SCAN (d|o|deliveries)\b/);
  expect(plan.match(/USING (COVERING )?INDEX deliveries_due/g)?.length).toBeGreaterThanOrEqual(3);
});

it('finds what to change of deliveries by index', async () => {
  await site.store.deliveries.dueNow(START);
  await site.store.deliveries.dueNow(START, { workspaceId: 'studio', url: 'https://a/' });
  await site.store.deliveries.prune(START);
  const changing = asked.filter((text) => /^\s*(update|delete from) deliveries/.test(text));
  expect(changing).toHaveLength(3);
  for (const plan of await Promise.all(changing.map(planOf))) expect(plan).not.toMatch(/SCAN|TEMP B-TREE/);
});

async function planOf(text: string): Promise<string> {
  return (await site.query(`explain query plan ${text}`)).map((row) => row.detail).join('\n');
}

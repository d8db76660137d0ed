// Databases of earlier versions: what lies in them keeps its meaning. A fresh database is set back, filled as it was, and
// opened again.

import { expect, it } from 'vitest';
import { laneOf } from '../../src/domain/lane.ts';
import { admitted, batch, created, items } from './batch-drafts.ts';
import { appended, cancelled, draft, inserted, START, started, succeeded, workspace } from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';
import { expectSound } from './invariants.ts';

/** What the second step made, undone. */
const BEFORE_BATCHES = [
  ...['by_item', 'by_item_key', 'tally', 'held', 'waiting'].map((name) => `drop index generations_${name}`),
  ...['item', 'item_key', 'reserved'].map((name) => `alter table generations drop column ${name}`),
  "create index generations_waiting on generations (lane, id) where status = 'queued'",
  ...['batches', 'batch_attached', 'webhooks', 'hook_secrets', 'deliveries'].map((name) => `drop table ${name}`),
  `update generations set submitted = replace(submitted, '"item":null,', '')`,
  'delete from migrations where number = 2',
];

async function setBack(site: Site, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await site.change(statement);
}

onBothEngines((engine) => {
  it('brings a database without batches up to date: what is open keeps what it reserved', async () => {
    await using site = await freshStore(engine);
    await workspace(site.store);
    const queued = await inserted(site.store, { reserved: 3_000, prompt: 'NUL \0 and lone \ud800' });
    const free = await inserted(site.store, { reserved: 0 });
    const running = await appended(site.store, await inserted(site.store, { batchId: 'a label' }), started());
    const done = await appended(site.store, await inserted(site.store), started(), succeeded());
    await site.store.close();
    await setBack(site, BEFORE_BATCHES);
    expect(await site.query(`select id from generations where submitted like '%"item"%'`)).toEqual([]);

    const store = await site.open();
    for (const one of [queued, free, running, done]) expect(await store.generations.get(one.id)).toEqual(one);
    expect(await site.query('select id, reserved from generations order by id')).toEqual([
      { id: queued.id, reserved: 3_000 },
      { id: free.id, reserved: 0 },
      { id: running.id, reserved: 2_000 },
      { id: done.id, reserved: 0 },
    ]);
    await expectSound(site, store);
    expect(await store.generations.lanes()).toEqual([{ lane: laneOf(draft()).key, queued: 2 }]);
    await appended(store, queued, cancelled());
    const one = batch();
    await created(store, one, items(one, 2));
    await admitted(store, one.id, 1);
    expect((await store.generations.list({ workspaceId: 'studio', since: START }, 10)).data).toHaveLength(6);
    await expectSound(site, store);
  });
});

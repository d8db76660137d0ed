// What must hold in the tables at any moment, whatever was written and whenever the process died: money, counts, events
// and rows tell one story.

import { expect } from 'vitest';
import { NO_TALLY } from '../../src/domain/batch.ts';
import { type Generation, isFinal, isHeld, type Status } from '../../src/domain/generation.ts';
import type { Store } from '../../src/store/store.ts';
import type { Site } from './engines.ts';

const sum = (kinds: string, where: string) =>
  `coalesce((select sum(l.amount) from ledger l where l.kind in (${kinds}) and ${where}), 0)`;

/** Each query finds what is wrong; all must find nothing. */
const VIOLATIONS = {
  'balances follow from grants and charges': `select w.id from workspaces w where w.balance <>
    ${sum("'grant'", 'l.workspace_id = w.id')} - ${sum("'charge'", 'l.workspace_id = w.id')}`,
  'reservations follow from the ledger': `select w.id from workspaces w where w.reserved <>
    ${sum("'reserve'", 'l.workspace_id = w.id')} - ${sum("'charge', 'release'", 'l.workspace_id = w.id')}`,
  'nothing is reserved for what is final': `select g.id from generations g where g.status not in ('queued', 'running')
    and ${sum("'reserve'", 'l.generation_id = g.id')} <> ${sum("'charge', 'release'", 'l.generation_id = g.id')}`,
  'what was charged is what the row says': `select g.id from generations g
    where g.charged <> ${sum("'charge'", 'l.generation_id = g.id')}`,
  'keys have spent what they reserved and did not get back': `select k.id from keys k where k.spend <>
    ${sum("'reserve'", 'l.generation_id in (select id from generations g where g.key_id = k.id)')} -
    ${sum("'release'", 'l.generation_id in (select id from generations g where g.key_id = k.id)')}`,
  'queued and running are counted': `select w.id from workspaces w where
    w.queued <> (select count(*) from generations g where g.workspace_id = w.id and g.lane is not null) or
    w.running <> (select count(*) from generations g where g.workspace_id = w.id and g.status = 'running')`,
  'only the queued have a lane': `select id from generations where lane is not null and status <> 'queued'`,
  'what waits in no lane is an item its batch keeps back': `select id from generations
    where lane is null and status = 'queued' and (item is null or reserved > 0)`,
  'what is reserved is what the row says': `select g.id from generations g where g.reserved <>
    ${sum("'reserve'", 'l.generation_id = g.id')} - ${sum("'charge', 'release'", 'l.generation_id = g.id')}
    and g.status in ('queued', 'running')`,
  'nothing final has anything reserved': `select id from generations
    where reserved <> 0 and status not in ('queued', 'running')`,
  'each item has one that stands for it': `select b.id from batches b where b.total <>
    (select count(*) from generations g where g.batch_id = b.id and g.item is not null and g.item < b.total) +
    (select count(*) from batch_attached a where a.batch_id = b.id and a.item < b.total)`,
  'no item is both own and attached': `select a.item from batch_attached a join generations g
    on g.batch_id = a.batch_id and g.item = a.item`,
  'what is attached is there, with its age': `select a.item from batch_attached a where not exists (
    select 1 from generations g where g.id = a.generation_id and g.created_at = a.created_at)`,
  'items belong to a batch': `select g.id from generations g where g.item is not null
    and not exists (select 1 from batches b where b.id = g.batch_id)`,
  'every event of a batch is there': `select b.id from batches b
    where b.seq <> (select count(*) from events e where e.generation_id = b.id)`,
  'pending deliveries and only they are due': `select id from deliveries where
    (state = 'pending') <> (next_attempt_at is not null) or (state = 'pending') <> (ended_at is null)`,
  'every event of a generation is there': `select g.id from generations g
    where g.seq <> (select count(*) from events e where e.generation_id = g.id)
    or g.seq <> (select max(e.seq) from events e where e.generation_id = g.id)`,
  'events of a generation commit in order': `select a.cursor from events a join events b
    on a.generation_id = b.generation_id and a.seq < b.seq where a.cursor > b.cursor`,
  'cursors have no holes': `select l.cursor from log l where l.cursor <> (select count(*) from events)
    or l.cursor <> coalesce((select max(cursor) from events), 0)`,
  'a key points at a generation that is there': `select i.id from idempotency i
    where not exists (select 1 from generations g where g.id = i.generation_id)`,
} as const;

export async function expectSound(site: Pick<Site, 'query'>, store: Store): Promise<void> {
  for (const [rule, violations] of Object.entries(VIOLATIONS)) {
    expect(await site.query(violations), rule).toEqual([]);
  }
  const newest = 'select id, seq, model, status from generations order by id desc limit 50';
  for (const { id, seq, model, status } of await site.query(newest)) {
    const now = await store.generations.get(String(id));
    expect([now?.model, now?.state.status], 'columns follow the generation').toEqual([model, status]);
    expect(await store.events.generationAt(String(id), Number(seq)), 'events fold to the row').toEqual(now);
  }
  for (const { id } of await site.query('select id from batches')) await expectCounted(site, store, String(id));
}

/** A batch's tally and projection are what its items say, counted one by one. */
async function expectCounted(site: Pick<Site, 'query'>, store: Store, id: string): Promise<void> {
  const { data: items } = await store.batches.items(id, {}, 100_000);
  const attached = await site.query(`select item from batch_attached where batch_id = '${id}'`);
  const foreign = new Set(attached.map((row) => row.item));
  const own = items.filter((one) => !foreign.has(one.index)).map((one) => one.generation);
  const counts: Record<Status, number> = { ...NO_TALLY.counts };
  for (const { generation } of items) counts[generation.state.status]++;
  const sum = (of: (g: Generation) => number) => own.reduce((all, g) => all + of(g), 0);
  expect(await store.batches.tally(id), 'the tally counts the items').toEqual({
    held: own.filter(isHeld).length,
    counts,
    others: items.filter((one) => foreign.has(one.index) && !isFinal(one.generation)).length,
    charged: sum((g) => g.charged),
    reserved: sum((g) => g.reserved),
  });
  const first = await Promise.all(own.map(async (g) => (await store.events.generationAt(g.id, 1)) ?? g));
  const projected = first.reduce((all, g) => all + g.quote.reserve, 0);
  expect((await store.batches.get(id))?.projected, 'the projection sums the prices').toBe(projected);
}

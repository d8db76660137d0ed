// What must hold in the tables at any moment, whatever was written and whenever the process died: money, counts, events
// and rows tell one story.

import { expect } from 'vitest';
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
    w.queued <> (select count(*) from generations g where g.workspace_id = w.id and g.status = 'queued') or
    w.running <> (select count(*) from generations g where g.workspace_id = w.id and g.status = 'running')`,
  'the queued and only they have a lane': `select id from generations where (lane is not null) <> (status = 'queued')`,
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
  for (const { id, seq } of await site.query('select id, seq from generations order by id desc limit 50')) {
    const now = await store.generations.get(String(id));
    expect(await store.events.generationAt(String(id), Number(seq)), 'events fold to the row').toEqual(now);
  }
}

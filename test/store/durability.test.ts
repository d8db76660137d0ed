// Nobody is answered, and no listener told, before what was written is on the disk: a disk that holds back, fails and
// recovers on command, over a real database.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../src/domain/caller.ts';
import { createAccounts } from '../../src/store/accounts.ts';
import type { Database } from '../../src/store/database.ts';
import { createDeliveries } from '../../src/store/deliveries.ts';
import { createGenerations, type Generations } from '../../src/store/generations.ts';
import { migrate } from '../../src/store/migrations/migrations.ts';
import { openSqlite } from '../../src/store/sqlite.ts';
import { createWriter, type Writer } from '../../src/store/writer.ts';
import { ManualClock, settle, until } from '../harness/manual-clock.ts';
import { cancelled, draft, START } from './drafts.ts';

interface Sync {
  done(): void;
  fail(): void;
}

let directory: string;
let database: Database;
let clock: ManualClock;
let writer: Writer;
let generations: Generations;
/** Syncs asked for and not yet decided. */
let syncs: Sync[];
let log: string[];
let tidy: () => Promise<void>;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'darkroom-durability-'));
  database = openSqlite(join(directory, 'darkroom.db'));
  clock = new ManualClock();
  await migrate(database, clock.now());
  syncs = [];
  log = [];
  tidy = database.tidy;
  const durable = () =>
    new Promise<void>((resolve, reject) => {
      syncs.push({ done: resolve, fail: () => reject(new Error('EIO: i/o error, fdatasync')) });
    });
  writer = createWriter({ ...database, durable, tidy: () => tidy() }, clock);
  generations = createGenerations(database, writer, clock);
  const studio = { id: 'studio', name: 'studio', credits: 1_000_000, limits: DEFAULT_LIMITS, provenance: true };
  const founded = createAccounts(database, writer, clock).createWorkspace(studio, START);
  (await nextSync()).done();
  await founded;
  writer.onCommit((recorded) => log.push(...recorded.map((r) => `told ${r.stored.cursor}`)));
});
afterEach(async () => {
  const closed = writer.close();
  for (let open = true; open; ) {
    for (const sync of syncs.splice(0)) sync.done();
    open = await Promise.race([closed.then(() => false), settle(1).then(() => true)]);
  }
  await database.close();
  rmSync(directory, { recursive: true, force: true });
});

const nextSync = async (): Promise<Sync> => {
  await until(() => syncs.length > 0, 'a sync');
  return syncs.shift() as Sync;
};

/** Inserts one, and notes when it was answered. */
function insert(name: string) {
  const one = draft();
  const answered = generations.insert([one]).then(
    () => void log.push(`answered ${name}`),
    (error: unknown) => {
      log.push(`rejected ${name}`);
      return error;
    },
  );
  const visible = () => until(() => generations.get(one.id), `${name} in the tables`);
  return { answered, visible };
}

it('answers and tells only when the disk has it, though the tables show it before', async () => {
  const one = insert('one');
  await one.visible();
  const sync = await nextSync();
  await settle();
  expect(log).toEqual([]);
  sync.done();
  await one.answered;
  expect(log).toEqual(['told 1', 'answered one']);
});

it('lets no delivery out before the change it tells of is on the disk and told', async () => {
  const deliveries = createDeliveries(database, writer);
  const url = 'https://studio.example/hook';
  const due = async () => (await deliveries.due({ workspaceId: 'studio', url }, START + 1_000_000, 10)).length;
  const one = draft({ webhookUrl: url });
  const asked = generations.insert([one]);
  (await nextSync()).done();
  await asked;
  const ended = generations.append(one, cancelled());
  await until(async () => (await generations.get(one.id))?.state.status === 'cancelled', 'the end in the tables');
  const sync = await nextSync();
  expect(await due()).toBe(0);
  sync.done();
  await ended;
  expect(await due()).toBe(1);
});

it('writes on while a sync is under way, and answers later groups after a sync of their own, in order', async () => {
  const one = insert('one');
  const first = await nextSync();
  const two = insert('two');
  await two.visible();
  const three = insert('three');
  await three.visible();
  await settle();
  expect([log, syncs]).toEqual([[], []]);
  first.done();
  await one.answered;
  const second = await nextSync();
  await settle();
  expect(log).toEqual(['told 1', 'answered one']);
  second.done();
  await three.answered;
  expect(log.slice(2)).toEqual(['told 2', 'told 3', 'answered two', 'answered three']);
});

it('answers nobody while the disk refuses, tries again after growing pauses, and answers all once it recovers', async () => {
  const one = insert('one');
  for (const pause of [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]) {
    (await nextSync()).fail();
    await settle();
    await clock.advance(pause - 1);
    expect(syncs).toEqual([]);
    await clock.advance(1);
  }
  const two = insert('two');
  await two.visible();
  expect(log).toEqual([]);
  (await nextSync()).done();
  (await nextSync()).done();
  await two.answered;
  expect(log).toEqual(['told 1', 'answered one', 'told 2', 'answered two']);
  await one.answered;
});

it('ends though the disk refuses: one more try, then whoever waits is refused', async () => {
  const one = insert('one');
  (await nextSync()).fail();
  await settle();
  const closed = writer.close();
  (await nextSync()).fail();
  expect(await one.answered).toMatchObject({
    message: 'The disk does not take writes.',
    failure: { code: 'internal' },
  });
  await closed;
  expect(log).toEqual(['rejected one']);
  expect(clock.pending).toBe(0);
});

it('goes on though the log cannot be kept short, and ends', async () => {
  let asked = 0;
  tidy = async () => {
    asked++;
    throw new Error('EFBIG');
  };
  for (const name of ['one', 'two']) {
    const { answered } = insert(name);
    (await nextSync()).done();
    await answered;
  }
  expect([asked, log]).toEqual([2, ['told 1', 'answered one', 'told 2', 'answered two']]);
  await writer.close();
});

it('goes on after a listener that throws: the others hear, callers are answered, and the bug is not swallowed', async () => {
  const theirs = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  const bug = new Promise((resolve) => process.once('unhandledRejection', resolve));
  const broken = writer.onCommit(() => {
    throw new Error('a listener broke');
  });
  writer.onCommit(() => void log.push('told the last listener'));
  const one = insert('one');
  (await nextSync()).done();
  await one.answered;
  expect(await bug).toMatchObject({ message: 'a listener broke' });
  for (const listener of theirs) process.on('unhandledRejection', listener);
  broken[Symbol.dispose]();
  const two = insert('two');
  (await nextSync()).done();
  await two.answered;
  expect(log).toEqual([
    'told 1',
    'told the last listener',
    'answered one',
    'told 2',
    'told the last listener',
    'answered two',
  ]);
});

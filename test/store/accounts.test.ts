// Workspaces, keys, nodes and remembered facts.

import { afterEach, beforeEach, expect, it } from 'vitest';
import { DEFAULT_LIMITS } from '../../src/domain/caller.ts';
import type { NodeSpec } from '../../src/domain/node.ts';
import type { Store } from '../../src/store/store.ts';
import { appended, cancelled, inserted, newKey, START, workspace } from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';

onBothEngines((engine) => {
  let site: Site & { readonly store: Store };
  let store: Store;
  beforeEach(async () => {
    site = await freshStore(engine);
    store = site.store;
  });
  afterEach(() => site[Symbol.asyncDispose]());

  it('makes a workspace with its first credits', async () => {
    const limits = { concurrency: 3, queue: 10, requestsPerMinute: 60 };
    const made = await store.accounts.createWorkspace(
      { id: 'w', name: 'W\0', credits: 5, limits, provenance: false },
      START,
    );
    expect(made).toEqual({ id: 'w', name: 'W\uFFFD', createdAt: START, limits, provenance: false });
    expect(await store.accounts.workspace('w')).toEqual(made);
    expect(await store.ledger.credits('w')).toEqual({ balance: 5, reserved: 0 });
    expect(await store.accounts.workspace('nowhere')).toBeNull();
  });

  it('gives an id to one of many who ask for it', async () => {
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => workspace(store, 'w', 5)));
    expect(results.filter((r) => r.status === 'fulfilled')).toHaveLength(1);
    expect(results.find((r) => r.status === 'rejected')).toMatchObject({ reason: { failure: { code: 'conflict' } } });
    expect(await store.ledger.credits('w')).toEqual({ balance: 5, reserved: 0 });
  });

  it('deletes a workspace only when nothing of it is queued or running', async () => {
    await workspace(store, 'w');
    const key = newKey({ workspaceId: 'w' });
    await store.accounts.createKey(key, START);
    const one = await inserted(store, { workspaceId: 'w' });
    await expect(store.accounts.deleteWorkspace('w')).rejects.toMatchObject({ failure: { code: 'conflict' } });
    await appended(store, one, cancelled());
    expect(await store.accounts.deleteWorkspace('w')).toBe(true);
    expect(await store.accounts.deleteWorkspace('w')).toBe(false);
    expect(await store.accounts.workspace('w')).toBeNull();
    expect((await store.accounts.workspaces(10)).data).toEqual([]);
    expect(await store.accounts.authenticate(key.hash)).toBeNull();
    await expect(workspace(store, 'w')).rejects.toMatchObject({ failure: { code: 'conflict' } });
  });

  it('pages through workspaces and keys oldest first', async () => {
    for (const id of ['c', 'a', 'b']) await workspace(store, id);
    const first = await store.accounts.workspaces(2);
    const rest = await store.accounts.workspaces(2, first.next ?? undefined);
    expect([...first.data, ...rest.data].map((w) => w.id)).toEqual(['a', 'b', 'c']);
    expect(rest.next).toBeNull();
    for (let i = 0; i < 3; i++) await store.accounts.createKey(newKey({ workspaceId: 'a', name: `${i}` }), START + i);
    const page = await store.accounts.keys('a', 2);
    const end = await store.accounts.keys('a', 2, page.next ?? undefined);
    expect([...page.data, ...end.data].map((k) => k.name)).toEqual(['0', '1', '2']);
  });

  it('finds a key by its hash, with its workspace', async () => {
    await workspace(store, 'w');
    const fresh = newKey({
      workspaceId: 'w',
      models: ['flux-dev'],
      expiresAt: START + 1,
      requestsPerMinute: 9,
      spendCap: 100,
    });
    const key = await store.accounts.createKey(fresh, START);
    const { hash, ...rest } = fresh;
    expect(key).toEqual({ ...rest, id: key.id, createdAt: START });
    expect(await store.accounts.authenticate(hash)).toEqual({
      key,
      workspace: { id: 'w', name: 'w', createdAt: START, limits: DEFAULT_LIMITS, provenance: true },
    });
    expect(await store.accounts.authenticate('unknown')).toBeNull();
  });

  it('deletes a key of its own workspace only', async () => {
    await workspace(store, 'w');
    const fresh = newKey({ workspaceId: 'w' });
    const key = await store.accounts.createKey(fresh, START);
    expect(await store.accounts.deleteKey('other', key.id)).toBe(false);
    expect(await store.accounts.deleteKey('w', key.id)).toBe(true);
    expect(await store.accounts.authenticate(fresh.hash)).toBeNull();
  });

  it('refuses a key without a workspace, and the same key twice', async () => {
    await workspace(store, 'w');
    await expect(store.accounts.createKey(newKey({ workspaceId: 'nowhere' }), START)).rejects.toMatchObject({
      failure: { code: 'not_found' },
    });
    const key = newKey({ workspaceId: 'w' });
    await store.accounts.createKey(key, START);
    await expect(store.accounts.createKey(key, START)).rejects.toMatchObject({ failure: { code: 'conflict' } });
  });

  it('keeps nodes that were added, as they were put last', async () => {
    const spec: NodeSpec = {
      id: 'rack-1',
      kind: 'comfyui',
      url: 'http://10.0.0.11:8188',
      labels: ['big'],
      auth: null,
      slots: 1,
    };
    await store.nodes.put(spec, false);
    await store.nodes.put({ ...spec, labels: [] }, true);
    expect(await store.nodes.all()).toEqual([{ spec: { ...spec, labels: [] }, draining: true }]);
    expect(await store.nodes.delete('rack-1')).toBe(true);
    expect(await store.nodes.delete('rack-1')).toBe(false);
  });

  it('remembers the first value, whoever asks', async () => {
    const other = await site.open();
    expect(await store.meta.get('secret')).toBeNull();
    const answers = await Promise.all([store, other, store].map((s, i) => s.meta.remember('secret', `value-${i}`)));
    expect(new Set(answers).size).toBe(1);
    expect(await other.meta.get('secret')).toBe(answers[0]);
  });

  it('refuses a database that a newer version made', async () => {
    await store.close();
    const other = await site.open();
    await other.close();
    await site.change('insert into migrations (number, at) values (99, 0)');
    await expect(site.open()).rejects.toThrow(/version 99/);
  });
});

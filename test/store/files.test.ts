// Whose bytes may go: only those that nobody refers to any more.

import { afterEach, beforeEach, expect, it } from 'vitest';
import type { Generation, Output } from '../../src/domain/generation.ts';
import type { Store, Upload } from '../../src/store/store.ts';
import { appended, cancelled, draft, inserted, output, START, started, succeeded, workspace } from './drafts.ts';
import { freshStore, onBothEngines, type Site } from './engines.ts';

const upload = (id: string, blob: string, over: Partial<Upload> = {}): Upload => ({
  id,
  workspaceId: 'studio',
  blob,
  sha256: 'ab',
  mediaType: 'image/png',
  width: 8,
  height: 8,
  bytes: 100,
  createdAt: START,
  usedAt: START,
  ...over,
});

const input = (blob: string) => ({
  ...draft().params,
  initImage: { kind: 'blob' as const, blob, sha256: 'ab', mediaType: 'image/png', width: 8, height: 8, bytes: 100 },
});

onBothEngines((engine) => {
  let site: Site & { readonly store: Store };
  let store: Store;
  beforeEach(async () => {
    site = await freshStore(engine);
    store = site.store;
    await workspace(store);
  });
  afterEach(() => site[Symbol.asyncDispose]());

  const served = async (at: number, ...outputs: Partial<Output>[]): Promise<Generation> =>
    appended(
      store,
      await inserted(store),
      started(START),
      succeeded(
        at,
        outputs.map((o) => output(o)),
      ),
    );

  it('lists finished outputs oldest first, with each of their blobs once', async () => {
    const late = await served(START + 2, { blob: 'c', original: 'd', thumbnail: null });
    const early = await served(
      START + 1,
      { blob: 'a', original: 'a', thumbnail: 't' },
      { blob: 'b', original: 'b', thumbnail: 't' },
    );
    await inserted(store);
    expect(await store.files.sweepable(10)).toEqual([
      { generationId: early.id, finishedAt: START + 1, blobs: ['a', 't', 'b'] },
      { generationId: late.id, finishedAt: START + 2, blobs: ['c', 'd'] },
    ]);
    expect(await store.files.sweepable(1)).toHaveLength(1);
  });

  it('gives back a shared blob only with its last reference', async () => {
    const one = await served(START, { blob: 'shared', original: 'own', thumbnail: null });
    const two = await served(START, { blob: 'shared', original: 'shared', thumbnail: null });
    await store.files.createUpload(upload('upl_1', 'shared'));
    expect(await store.files.forgetFiles(one.id, START)).toEqual(['own']);
    expect(await store.files.forgetFiles(two.id, START)).toEqual([]);
    expect(await store.files.sweepUploads(START + 1)).toEqual(['shared']);
  });

  it('knows whose files are gone, and forgets once', async () => {
    const one = await served(START, { blob: 'a', original: 'a', thumbnail: null });
    expect(await store.files.swept(one.id)).toBe(false);
    expect(await store.files.forgetFiles(one.id, START)).toEqual(['a']);
    expect(await store.files.forgetFiles(one.id, START)).toEqual([]);
    expect(await store.files.swept(one.id)).toBe(true);
    expect(await store.files.sweepable(10)).toEqual([]);
    expect(await store.files.swept('gen_unknown')).toBe(false);
  });

  it('gives an upload to its own workspace and notes the use', async () => {
    await store.files.createUpload(upload('upl_1', 'a'));
    expect(await store.files.upload('other', 'upl_1', START + 5)).toBeNull();
    expect(await store.files.upload('studio', 'upl_1', START + 5)).toEqual(upload('upl_1', 'a', { usedAt: START + 5 }));
    expect(await store.files.sweepUploads(START + 5)).toEqual([]);
    expect(await store.files.sweepUploads(START + 6)).toEqual(['a']);
    expect(await store.files.upload('studio', 'upl_1', START + 9)).toBeNull();
  });

  it('sweeps neither uploads nor outputs that waiting work takes as its input', async () => {
    await store.files.createUpload(upload('upl_1', 'photo'));
    const source = await served(START, { blob: 'earlier', original: 'earlier', thumbnail: null });
    const first = await inserted(store, { params: input('photo') });
    const second = await inserted(store, { params: input('earlier') });
    expect(await store.files.sweepUploads(START + 1)).toEqual([]);
    expect(await store.files.sweepable(10)).toEqual([]);
    await appended(store, first, cancelled());
    await appended(
      store,
      second,
      started(),
      succeeded(START + 1, [output({ blob: 'x', original: 'x', thumbnail: null })]),
    );
    expect(await store.files.sweepUploads(START + 1)).toEqual(['photo']);
    expect((await store.files.sweepable(10)).map((r) => r.generationId)).toEqual([source.id, second.id]);
  });
});

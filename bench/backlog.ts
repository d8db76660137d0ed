// B6: does deciding, claiming and persisting cost the same whatever waits? One process, a real store.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEFAULT_POLICY, place } from '../src/domain/placement.ts';
import { createBacklog } from '../src/engine/backlog.ts';
import { openStore } from '../src/store/store.ts';
import { createSystem } from '../src/system/system.ts';
import { generation, lane as laneView, node } from '../test/domain/given.ts';
import { ms, type Percentiles, percentiles, type Row, times } from './rig.ts';

const WORKSPACES = 10;
const MODELS = 10;
const CLAIMS = 400;

export async function b6(): Promise<Row[]> {
  const small = await claims(1_000);
  const large = await claims(100_000);
  const ratio = large.p50 / small.p50;
  return [
    {
      id: 'B6a',
      what: 'decide + claim + persist, 100 k queued against 1 k: p50',
      limit: ms(small.p50),
      ours: ms(large.p50),
      ratio: times(ratio),
      goal: '≤ 1.2 ×',
      met: ratio <= 1.2,
    },
    {
      id: 'B6a',
      what: 'the same at 100 k: p99',
      limit: ms(small.p99),
      ours: ms(large.p99),
      ratio: times(large.p99 / small.p99),
      goal: '–',
      met: true,
    },
  ];
}

async function claims(queued: number): Promise<Percentiles> {
  const directory = await mkdtemp(join(tmpdir(), 'darkroom-b6-'));
  const { clock, random } = createSystem({ level: 'silent', allowPrivate: [] });
  const store = await openStore({ path: join(directory, 'b6.db'), clock });
  const backlog = createBacklog(store.generations);
  for (let w = 0; w < WORKSPACES; w++) {
    await store.accounts.createWorkspace(
      {
        id: `w${w}`,
        name: `w${w}`,
        credits: 10 ** 12,
        limits: { concurrency: 1000, queue: 10 ** 7, requestsPerMinute: null },
        provenance: true,
      },
      clock.now(),
    );
    await store.accounts.createKey(
      {
        workspaceId: `w${w}`,
        name: 'k',
        scopes: ['generate'],
        models: null,
        expiresAt: null,
        requestsPerMinute: null,
        spendCap: null,
        hash: `hash-${w}`,
      },
      clock.now(),
    );
  }
  const keys = await Promise.all(
    Array.from({ length: WORKSPACES }, async (_, w) => (await store.accounts.authenticate(`hash-${w}`))?.key.id ?? ''),
  );
  for (let i = 0; i < queued; i += 500) {
    const drafts = Array.from({ length: 500 }, (_, k) => {
      const now = clock.now();
      const w = (i + k) % WORKSPACES;
      return generation({
        id: `gen_${random.ulid(now)}`,
        workspaceId: `w${w}`,
        keyId: keys[w] ?? '',
        createdAt: now,
        model: `m${Math.floor((i + k) / WORKSPACES) % MODELS}`,
      });
    });
    await store.generations.insert(drafts);
  }
  await backlog.load();
  const nodes = Array.from({ length: 8 }, (_, i) => node(`n${i}`, { resident: ['flux.safetensors'] }));
  const view = laneView();
  const none = new Set<string>();
  const samples: number[] = [];
  for (let i = 0; i < CLAIMS; i++) {
    const start = performance.now();
    const now = clock.now();
    await backlog.refill(now, none);
    const lanes = backlog.heads(now, none).map((head) => ({ ...view, ...head }));
    const placed = place({ now, lanes, nodes, meter: () => 0, policy: DEFAULT_POLICY });
    const g = placed && (await store.generations.get(placed.head.id));
    if (!g) throw new Error('nothing placed');
    await store.generations.append(g, { type: 'started', at: now, node: 'n0', backend: 'comfyui' });
    backlog.removed(g, now);
    samples.push(performance.now() - start);
  }
  await store.close();
  await rm(directory, { recursive: true, force: true });
  return percentiles(samples.slice(50));
}

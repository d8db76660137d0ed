// B10: post-processing through the media room against plain sharp with the same settings, concurrency = cores.

import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { openMedia } from '../src/media/media.ts';
import { createSystem } from '../src/system/system.ts';
import { type Row, rate, times } from './rig.ts';

const PICTURES = 68;
const WARM_UP = 8;

export async function b10(): Promise<Row[]> {
  const directory = await mkdtemp(join(tmpdir(), 'darkroom-b10-'));
  const paths = await Promise.all(Array.from({ length: PICTURES }, (_, i) => paint(join(directory, `${i}.png`), i)));
  const plain = await each(paths, availableParallelism(), async (path) => {
    const image = sharp(await readFile(path));
    await Promise.all([
      image.clone().webp({ quality: 80, effort: 0 }).toBuffer(),
      image.clone().resize(512, 512, { fit: 'inside' }).webp({ quality: 80, effort: 0 }).toBuffer(),
    ]);
  });
  const system = createSystem({ level: 'silent', allowPrivate: [] });
  const media = await openMedia({ directory, system, secret: 'bench' });
  const provenance = {
    generation: 'gen_bench',
    model: 'bench',
    prompt: 'a lighthouse',
    negativePrompt: null,
    seed: 1,
    steps: 4,
    guidance: 1,
    node: 'n',
    workflowHash: null,
    createdAt: '2026-01-01T00:00:00Z',
    software: 'Darkroom',
  };
  const ours = await each(paths, 2 * availableParallelism(), async (path) => {
    const done = await media.ingest(async () => createReadStream(path), {
      signal: new AbortController().signal,
      expect: 'image',
      output: { format: 'webp', quality: 80 },
      provenance,
    });
    for await (const _ of await media.blobs.open(done.thumbnail ?? done.blob));
  });
  await media.close();
  await rm(directory, { recursive: true, force: true });
  const ratio = ours / plain;
  return [
    {
      id: 'B10a',
      what: 'PNG 1.9 MB → WebP q80 + 512 px thumbnail + metadata + hash',
      limit: rate(plain),
      ours: rate(ours),
      ratio: times(ratio),
      goal: '≥ 0.9 ×',
      met: ratio >= 0.9,
    },
  ];
}

/** `inFlight`: as many as there are cores for plain sharp; more for us, since our pool keeps to the cores by itself. */
async function each(
  paths: readonly string[],
  inFlight: number,
  work: (path: string) => Promise<void>,
): Promise<number> {
  await Promise.all(paths.slice(0, WARM_UP).map(work));
  const todo = paths.slice(WARM_UP);
  const start = performance.now();
  await Promise.all(
    Array.from({ length: inFlight }, async () => {
      for (let path = todo.pop(); path !== undefined; path = todo.pop()) await work(path);
    }),
  );
  return ((paths.length - WARM_UP) / (performance.now() - start)) * 1000;
}

/** A noisy 1024² picture of about the size real renders have. */
async function paint(path: string, seed: number): Promise<string> {
  const noise = { type: 'gaussian', mean: 128, sigma: 12 + (seed % 5) } as const;
  await writeFile(
    path,
    await sharp({ create: { width: 1024, height: 1024, channels: 3, background: 'gray', noise } })
      .png({ compressionLevel: 6 })
      .toBuffer(),
  );
  return path;
}

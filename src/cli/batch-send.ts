// A shot list on its way to the gateway: what it would cost, then the batch itself, in as many pieces as it takes. The
// request's key comes from what is asked for, so that a run that dies between asking and writing it down finds the same
// batch again.

import type { Client, NewBatch } from '../client/client.ts';
import { type BatchBody, type DryRunBody, MAX_BATCH_ITEMS } from '../contract/batches.ts';
import type { GenerationRequest } from '../contract/generations.ts';
import { type Item, sha256 } from './batch-items.ts';
import { exact } from './batch-missing.ts';
import { InputError } from './failing.ts';

/** What holds for the batch as a whole. */
export type Terms = Pick<NewBatch, 'name' | 'concurrency' | 'max_credits' | 'breaker' | 'fallback' | 'metadata'>;

/** Well below the 32 MB that the gateway takes. */
const MAX_BODY_BYTES = 24 * 1024 * 1024;

export interface Piece {
  /** Index of its first item. */
  readonly from: number;
  readonly requests: readonly GenerationRequest[];
}

export interface Bounds {
  readonly items: number;
  readonly bytes: number;
}

const BOUNDS: Bounds = { items: MAX_BATCH_ITEMS, bytes: MAX_BODY_BYTES };

/** As few requests as the gateway's bounds allow, in order. At least one, which may be empty. */
export function piecesOf(items: readonly Pick<Item, 'request'>[], from = 0, bounds: Bounds = BOUNDS): readonly Piece[] {
  const pieces: { from: number; requests: GenerationRequest[] }[] = [{ from, requests: [] }];
  let bytes = 0;
  for (const [at, { request }] of items.entries()) {
    if (at < from) continue;
    const size = Buffer.byteLength(JSON.stringify(request)) + 1;
    const last = pieces.at(-1) as (typeof pieces)[number];
    const fits = last.requests.length < bounds.items && bytes + size <= bounds.bytes;
    if (fits || last.requests.length === 0) {
      last.requests.push(request);
      bytes = fits ? bytes + size : size;
    } else {
      pieces.push({ from: at, requests: [request] });
      bytes = size;
    }
  }
  return pieces;
}

export interface Sender {
  /** What all of it would cost. */
  project(terms: Terms): Promise<DryRunBody>;
  /** `previous`: the batch this one takes over from, which makes it another one although the same is asked for. */
  create(terms: Terms, previous: string | null, made: (batch: BatchBody) => Promise<void>): Promise<BatchBody>;
  /** Sends what a run that died has left out. */
  complete(batch: BatchBody): Promise<BatchBody>;
}

/** Refusals name the lines of `source`. */
export function createSender(
  { batches }: Pick<Client, 'batches'>,
  source: string,
  items: readonly Item[],
  bounds = BOUNDS,
): Sender {
  /** Paused meanwhile, so that it cannot come to its end before its last piece is there. */
  const complete = async (batch: BatchBody): Promise<BatchBody> => {
    if (batch.total >= items.length) return batch;
    const { total } = batch.status === 'running' ? await batches.pause(batch.id) : batch;
    for (const { from, requests } of piecesOf(items, total, bounds)) {
      await inLines(source, items, from, () => batches.append(batch.id, requests));
    }
    return batches.resume(batch.id);
  };
  return {
    async project(terms) {
      const answers: DryRunBody[] = [];
      for (const { from, requests } of piecesOf(items, 0, bounds)) {
        const dry = await inLines(source, items, from, () => batches.dryRun({ ...terms, items: requests }));
        answers.push({ ...dry, refused: dry.refused.map((r) => ({ ...r, index: r.index + from })) });
      }
      return answers.reduce(together);
    },
    async create(terms, previous, made) {
      const asked = JSON.stringify([terms, previous, items.map((i) => i.request)]);
      const request = { ...terms, idempotency_key: sha256(asked) };
      const pieces = piecesOf(items, 0, bounds);
      if (pieces.length === 1) {
        const batch = await inLines(source, items, 0, () =>
          batches.create({ ...request, items: items.map((i) => i.request) }),
        );
        await made(batch);
        return batch;
      }
      const batch = await batches.create(request);
      await made(batch);
      return complete(batch);
    },
    complete,
  };
}

/** One answer for all pieces; what is available stands in each. */
function together(a: DryRunBody, b: DryRunBody): DryRunBody {
  const byModel = new Map(Object.entries(a.by_model));
  for (const [id, { items, credits }] of Object.entries(b.by_model)) {
    const had = byModel.get(id) ?? { items: 0, credits: 0 };
    byModel.set(id, { items: had.items + items, credits: exact(had.credits + credits) });
  }
  const projected = exact(a.projected_credits + b.projected_credits);
  return {
    ...a,
    items: a.items + b.items,
    projected_credits: projected,
    fits: projected <= Math.min(a.available, a.max_credits ?? Number.POSITIVE_INFINITY),
    by_model: Object.fromEntries(byModel),
    attached: a.attached + b.attached,
    refused: [...a.refused, ...b.refused],
  };
}

/** The gateway speaks of `items.731.seed`; people look at a line of their file. */
async function inLines<T>(source: string, items: readonly Item[], from: number, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    const { details = [], advice } = error as {
      details?: readonly { path: string; message: string }[];
      advice?: string;
    };
    const told = details.flatMap(({ path, message }) => {
      const [, index, field] = /^items\.(\d+)(?:\.(.+))?$/.exec(path) ?? [];
      const line = index === undefined ? undefined : items[Number(index) + from]?.line;
      return line === undefined ? [] : [`${source}:${line}: ${field ? `${field}: ` : ''}${message}`];
    });
    if (told.length === 0) throw error;
    const more = told.length > 20 ? [`… and ${told.length - 20} more`] : [];
    throw new InputError([...told.slice(0, 20), ...more].join('\n'), advice);
  }
}
